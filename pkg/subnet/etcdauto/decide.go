package etcdauto

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/etcdv2"
	"flanneld/pkg/subnet/etcdv3"
)

// overrule is what people do where the stores do not tell.
const overrule = "--etcd-api=2 or --etcd-api=3, the same on all hosts, overrules this"

// protectionTimeout bounds the question whether a store wants a password.
const protectionTimeout = 5 * time.Second

// look is what a store has answered.
type look struct {
	subnet.Snapshot
	err error
}

func (r *Registry) look(ctx context.Context, api API) look {
	s, err := r.stores[api].List(ctx)
	return look{s, err}
}

// absent tells whether the store has said that it is not there. One member suffices:
// all of a cluster serve the same APIs, and another one may be down.
func (l look) absent() bool {
	return errors.Is(l.err, etcdv2.ErrNotServed) || errors.Is(l.err, etcdv3.ErrNotServed)
}

// partly tells whether only some of the endpoints have said so.
func (l look) partly() bool { return l.absent() && errors.Is(l.err, etcdconn.ErrPartly) }

// unread tells whether nothing is known of the store, not even that it is absent.
func (l look) unread() bool { return l.err != nil && !l.absent() }

// decide looks at the stores, and lists the one that is chosen. Where neither
// has a config key, it returns the leases that there are, as of index 0: no
// index counts before the store is known. Where a store that could have the word
// cannot be read, that is an error: it is not as if there were no config key.
func (r *Registry) decide(ctx context.Context) (subnet.Snapshot, error) {
	two := r.look(ctx, V2)
	switch {
	case two.unread() && condition.Denied(two.err):
		return subnet.Snapshot{}, fmt.Errorf("undecided between etcd's two stores: the v2 store has the first word, "+
			"and refuses to be read: %w (%s)", two.err, overrule)
	case two.unread():
		return subnet.Snapshot{}, two.err
	}
	config := r.config(V2)
	marked := strings.TrimSpace(two.Find(APIKey).Value)
	if marked == value(V3) {
		r.choose(V3, fmt.Sprintf("the keys were moved there, says %s/%s in the v2 store", r.stores[V2].Dir(), APIKey))
		return r.stores[V3].List(ctx)
	}
	three := r.look(ctx, V3)
	ignored := "" // why v2's word does not count
	if marked == value(V2) || two.Has(subnet.ConfigKey) {
		counts, err := r.counts(ctx, three)
		switch {
		case err != nil:
			return subnet.Snapshot{}, fmt.Errorf("undecided between etcd's two stores: %s lies in the v2 store, "+
				"which does not count if it needs no password while the v3 store does, and that cannot be told: %w (%s)",
				config, err, overrule)
		case counts:
			r.choose(V2, whyTwo(config, three))
			r.stores[V3].Close()
			return two.Snapshot, nil
		case three.err != nil:
			return subnet.Snapshot{}, fmt.Errorf("undecided between etcd's two stores: %s lies in the v2 store, "+
				"which needs no password while the v3 store does, and that one cannot be read: %w (%s)",
				config, three.err, overrule)
		}
		ignored = "what lies in the v2 store does not count, as it needs no password while the v3 store does"
	}
	switch {
	case two.absent() && three.err != nil:
		return subnet.Snapshot{}, fmt.Errorf("neither of etcd's APIs can be used: v2 is not served; v3: %w", three.err)
	case three.unread():
		return subnet.Snapshot{}, fmt.Errorf("undecided between etcd's two stores: %s is not in the v2 store, "+
			"and the v3 store cannot be read: %w (%s)", config, three.err, overrule)
	case two.partly() && !three.Has(subnet.ConfigKey):
		return subnet.Snapshot{}, fmt.Errorf("undecided between etcd's two stores: %s is not in the v3 store, "+
			"and %w: %w (%s)", r.config(V3), etcdconn.ErrPartly, two.err, overrule)
	case three.partly():
		return subnet.Snapshot{}, fmt.Errorf("undecided between etcd's two stores: %s is not in the v2 store, "+
			"and %w: %w (%s)", config, etcdconn.ErrPartly, three.err, overrule)
	case !three.Has(subnet.ConfigKey):
		return r.undecided(two, three, ignored), nil
	case ignored != "":
		r.choose(V3, r.config(V3)+" lies there; "+ignored)
	case two.absent():
		r.choose(V3, r.config(V3)+" lies there, and the v2 API is not served")
	default:
		r.choose(V3, r.config(V3)+" lies there, and not in the v2 store")
	}
	return three.Snapshot, nil
}

func (r *Registry) counts(ctx context.Context, three look) (bool, error) {
	if three.absent() {
		return true, nil
	}
	return V2Counts(ctx, r.stores[V2], r.stores[V3], three.err)
}

// V2Counts tells whether hosts go by what the v2 store says. They do not where
// everybody may write there, while the v3 store wants to know who does. Both must
// have been listed before; listed is what the list of v3 has ended with.
func V2Counts(ctx context.Context, two, three Store, listed error) (bool, error) {
	guarded, err := protected(ctx, three, listed)
	if err == nil && !guarded {
		return true, nil
	}
	too, err2 := protected(ctx, two, nil)
	switch {
	case err2 == nil && too:
		return true, nil
	case err != nil:
		return false, err
	}
	return false, err2
}

// protected tells whether a store wants to know who its clients are. listed is
// what its list has ended with.
func protected(ctx context.Context, s Store, listed error) (bool, error) {
	if errors.Is(listed, fs.ErrPermission) {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, protectionTimeout)
	defer cancel()
	yes, err := s.Protected(ctx)
	if err != nil && listed != nil { // which says why it does not answer
		err = listed
	}
	return yes, err
}

// whyTwo says why the v2 API is chosen.
func whyTwo(config string, three look) string {
	switch {
	case three.err != nil:
		return fmt.Sprintf("%s lies there, and the v3 API cannot be used (%v)", config, three.err)
	case three.Has(subnet.ConfigKey):
		return config + " lies in both stores, and v2 comes first as long as `flanneld migrate` has not moved the keys; " +
			"--etcd-api=3 overrules this"
	}
	return config + " lies there, and not in the v3 store"
}

func (r *Registry) choose(api API, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chosen = api
	klog.InfoS("Chose an API of etcd", "api", api, "reason", why)
}
