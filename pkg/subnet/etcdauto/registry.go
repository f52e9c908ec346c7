// Package etcdauto keeps flanneld's keys by that one of etcd's two APIs under
// which the cluster's config key lies. The two are stores of their own, in one
// etcd: a key that is written by one API is not there by the other.
//
// All hosts of a cluster must come to the same choice, whenever they start. So
// it hangs on nothing but what is in the stores:
//
//  1. The key "api" below the prefix, in the v2 store, says 2 or 3. `flanneld
//     migrate` writes it once it has copied everything.
//  2. The config key lies in the v2 store: 2. Where it lies in both, v2 comes
//     first, as a config in v3 alone is easily written by mistake (etcdctl's
//     default changed to v3 with etcd 3.4), and a host of a running v2 cluster
//     must not follow that.
//  3. The config key lies in the v3 store: 3.
//  4. It lies in neither: not decided. Both are watched until one has it.
//
// # What counts as absent
//
// A store is absent only when it has said so: v2 by a 404, or by speaking gRPC
// alone ([etcdv2.ErrNotServed]); v3 by answering with something that is not
// gRPC ([etcdv3.ErrNotServed]), as an etcd 2 does, or a proxy that carries v2
// alone. A connection that is refused, reset, closed or silent says nothing of the
// kind, nor does a refusal for lack of rights, nor a reply that is too large. A
// store of which that leaves open what lies in it makes the whole undecided, which
// is an error, and never "there is no config key".
//
// # A store that everybody may write to
//
// Authentication is turned on in each store by itself. Where it is on in v3 and off
// in v2, whoever reaches etcd could write a config key to v2, and rule 2 would
// give him every host that is restarted. So there v2's keys count for nothing,
// rules 1 (but for a 3) and 2 are skipped, and a host goes by v3 or by none. To ask whether
// authentication is on takes no rights, so hosts with and without a password come
// to the same choice. Where v3 does not say it, v2's config key decides nothing
// either, unless v2 wants a password itself. It is not asked whether a lease of
// ours lies in v2: whoever can plant a config can plant that as well.
//
// The first config key of a cluster goes to the store that wants a password, if the
// other does not; else to the one with leases; else to v2. Nothing is written
// where one of the two could not be read.
//
// Once made, the choice stands until the process ends. --etcd-api overrules all
// of this.
package etcdauto

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/etcdv2"
	"flanneld/pkg/subnet/etcdv3"
)

// API is one of etcd's APIs.
type API int

// The APIs, and the choice between them.
const (
	Auto API = 0
	V2   API = 2
	V3   API = 3
)

func (a API) String() string { return fmt.Sprintf("v%d", int(a)) }

// APIKey is the key in the v2 store, below the prefix, whose value says which API
// the cluster uses: "2" or "3".
const APIKey = subnet.APIKey

// Store is what both APIs' registries are.
type Store interface {
	subnet.Registry
	// ListExact is List without any [subnet.UnknownTTL].
	ListExact(context.Context) (subnet.Snapshot, error)
	// Protected tells whether authentication is on. Call it after a list.
	Protected(context.Context) (bool, error)
	// Peek reads absolute keys, also such as are none of ours.
	Peek(ctx context.Context, keys []string) (map[string]etcdconn.Found, error)
	// Member is the URL of the member that answered last.
	Member() string
	// Dir is the directory of all keys. By the v3 API the first list may tell another
	// one than the prefix, with or without the slash in front.
	Dir() string
	// Renew replaces the connection by one made with the TLS files as they are now, and the
	// password, unless etcd answers by the former alone; see [etcdv3.Registry.Renew].
	Renew(ctx context.Context, password string) error
	Close()
}

// Open prepares the store of one API.
func Open(c etcdconn.Config, api API) (Store, error) {
	if api == V3 {
		return etcdv3.New(c)
	}
	r, err := etcdv2.New(c)
	if err != nil {
		return nil, err
	}
	return exact{r}, nil
}

// exact is etcdv2's Registry, whose lists always are.
type exact struct{ *etcdv2.Registry }

func (e exact) ListExact(ctx context.Context) (subnet.Snapshot, error) { return e.List(ctx) }

// Registry is a subnet.Registry that chooses the API at its first List.
type Registry struct {
	stores map[API]Store
	given  API // by --etcd-api

	mu      sync.Mutex
	chosen  API // Auto: not yet
	seen    seen
	absence absence
}

var _ subnet.Registry = (*Registry)(nil)

// New prepares a Registry without asking etcd anything. Any api but Auto is the
// choice.
func New(c etcdconn.Config, api API) (*Registry, error) {
	r := &Registry{stores: map[API]Store{}, given: api, chosen: api}
	for _, api := range []API{V2, V3} {
		s, err := Open(c, api)
		if err != nil {
			return nil, err
		}
		r.stores[api] = s
	}
	return r, nil
}

// Close gives up all connections.
func (r *Registry) Close() {
	for _, s := range r.stores {
		s.Close()
	}
}

// Renew replaces the connections to the store in use by such as are made with the TLS files as
// they are now, and with a password. Where etcd answers by the former and not by these, the
// former stay, and the error says why. While nothing is decided, both stores' are.
func (r *Registry) Renew(ctx context.Context, password string) error {
	var errs []error
	for _, api := range []API{V2, V3} {
		if chosen := r.Chosen(); chosen != Auto && chosen != api {
			continue
		}
		if err := r.stores[api].Renew(ctx, password); err != nil &&
			!errors.Is(err, etcdv2.ErrNotServed) && !errors.Is(err, etcdv3.ErrNotServed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Chosen is the API in use; Auto: that is not known yet.
func (r *Registry) Chosen() API {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.chosen
}

// store is the one in use, nil where that is not known yet.
func (r *Registry) store() Store { return r.stores[r.Chosen()] }

// Member is the URL of the member that answered last.
func (r *Registry) Member() string {
	if s := r.store(); s != nil {
		return s.Member()
	}
	return ""
}

// Dir is the directory of all keys: in the store in use, or in the one that hosts
// with this prefix write the first config key to.
func (r *Registry) Dir() string {
	r.mu.Lock()
	api, seen := r.chosen, r.seen.stores
	r.mu.Unlock()
	if _, three := seen[V3]; api == Auto && len(seen) > 0 && !three {
		api = V2
	} else if api == Auto {
		api = V3 // as it was written
	}
	return r.stores[api].Dir()
}

// config is the config key's place in a store.
func (r *Registry) config(api API) string { return r.stores[api].Dir() + "/" + subnet.ConfigKey }

// List implements [subnet.Registry].
func (r *Registry) List(ctx context.Context) (s subnet.Snapshot, err error) {
	if chosen := r.store(); chosen != nil {
		s, err = chosen.List(ctx)
	} else {
		s, err = r.decide(ctx)
	}
	return r.explain(ctx, s, err)
}

// ListExact is List without any [subnet.UnknownTTL].
func (r *Registry) ListExact(ctx context.Context) (s subnet.Snapshot, err error) {
	if r.store() == nil {
		s, err = r.decide(ctx)
	}
	if chosen := r.store(); chosen != nil && err == nil {
		s, err = chosen.ListExact(ctx)
	}
	return r.explain(ctx, s, err)
}

// Watch implements [subnet.Registry]. While nothing is decided, it returns nil
// when it is time to list again. Where the config key goes, it says that history
// is lost: the next list tells what is there instead.
func (r *Registry) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	s := r.store()
	if s == nil {
		return r.await(ctx, emit)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := s.Watch(ctx, after, func(events []subnet.Event) {
		if ctx.Err() != nil {
			return
		}
		r.warnIfMoved(events)
		if gone := slices.IndexFunc(events, configGone); gone >= 0 {
			defer cancel(errConfigGone)
			if events = events[:gone]; gone == 0 {
				return
			}
		}
		emit(events)
	})
	if errors.Is(context.Cause(ctx), errConfigGone) {
		return errConfigGone
	}
	return err
}

// Resume implements [subnet.Registry]. While nothing is decided, only a list can.
func (r *Registry) Resume(ctx context.Context, after uint64) error {
	s := r.store()
	if s == nil {
		return fmt.Errorf("no config key was found: %w", subnet.ErrHistoryLost)
	}
	return s.Resume(ctx, after)
}

// Proven implements [subnet.Registry]. While nothing is decided it is that of
// the store of which less is known.
func (r *Registry) Proven() (at time.Time) {
	if s := r.store(); s != nil {
		return s.Proven()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for api := range r.seen.stores {
		if t := r.stores[api].Proven(); at.IsZero() || t.Before(at) {
			at = t
		}
	}
	return at
}

var errConfigGone = fmt.Errorf("the config key was deleted: %w", subnet.ErrHistoryLost)

func configGone(e subnet.Event) bool { return e.Key == subnet.ConfigKey && e.Deleted }

// warnIfMoved tells those who read the log that the cluster moves away.
func (r *Registry) warnIfMoved(events []subnet.Event) {
	for _, e := range events {
		if e.Key == APIKey && !e.Deleted && r.Chosen() == V2 && e.Value == value(V3) {
			klog.ErrorS(nil, "`flanneld migrate` has moved the keys to etcd's v3 API",
				"advice", "restart flanneld, so that it follows")
		}
	}
}

// value is what APIKey says of an API.
func value(api API) string { return strconv.Itoa(int(api)) }

// Put implements [subnet.Registry]. Where neither store has a config key, whoever
// writes the first one decides.
func (r *Registry) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	s, err := r.writable(ctx)
	if err != nil {
		return subnet.Entry{}, err
	}
	return s.Put(ctx, e)
}

// Replace implements [subnet.Registry].
func (r *Registry) Replace(ctx context.Context, old, e subnet.Entry) (subnet.Entry, error) {
	s, err := r.writable(ctx)
	if err != nil {
		return subnet.Entry{}, err
	}
	return s.Replace(ctx, old, e)
}

// Refresh implements [subnet.Registry].
func (r *Registry) Refresh(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	s, err := r.writable(ctx)
	if err != nil {
		return subnet.Entry{}, err
	}
	return s.Refresh(ctx, e)
}

// Delete implements [subnet.Registry].
func (r *Registry) Delete(ctx context.Context, e subnet.Entry) error {
	s, err := r.writable(ctx)
	if err != nil {
		return err
	}
	return s.Delete(ctx, e)
}
