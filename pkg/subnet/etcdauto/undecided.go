package etcdauto

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/subnet"
)

// lookAgain is how long both stores are watched before they are listed again,
// as one of them may not have answered.
const lookAgain = 30 * time.Second

// seen is what the last look has shown where nothing was decided.
type seen struct {
	stores map[API]subnet.Snapshot // those that count: each has answered, and has no config key
	where  string                  // the config key was looked for in vain, and why nothing was decided
}

// undecided notes what the stores are like where none has a config key that
// counts, and says so if that is news.
func (r *Registry) undecided(two, three look, ignored string) subnet.Snapshot {
	now := seen{stores: map[API]subnet.Snapshot{}}
	if two.err == nil && ignored == "" {
		now.stores[V2] = two.Snapshot
	}
	if three.err == nil {
		now.stores[V3] = three.Snapshot
	}
	switch {
	case ignored != "":
		now.where = "is not in etcd's v3 store, and " + ignored
	case two.absent():
		now.where = "is not in etcd's v3 store, and the v2 API is not served"
	case three.absent():
		now.where = "is not in etcd's v2 store, and the v3 API is not served"
	default:
		now.where = "is in neither of etcd's stores, v2 and v3"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	shown := V3 // as it was written
	if three.absent() {
		shown = V2
	}
	if now.where != r.seen.where {
		config := r.stores[shown].Dir() + "/" + subnet.ConfigKey
		klog.InfoS("Waiting for the config key", "key", config, "reason", config+" "+now.where+": looking for it")
	}
	r.seen = now
	var out subnet.Snapshot
	for _, api := range []API{V3, V2} { // what v2 has comes first
		if s, counts := now.stores[api]; counts && (len(s.Entries) > 0 || out.Cluster == "") {
			out.Entries, out.Omitted, out.Cluster = s.Entries, s.Omitted, s.Cluster
		}
	}
	if s, counts := now.stores[V2]; counts {
		out.Cluster = s.Cluster
	}
	return out
}

// await watches the stores that count until something decides, or for a while.
func (r *Registry) await(ctx context.Context, emit func([]subnet.Event)) error {
	r.mu.Lock()
	stores := r.seen.stores
	r.mu.Unlock()
	watching, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	emit(nil)
	var once sync.Once
	var failed error
	var both sync.WaitGroup
	for api, s := range stores {
		both.Go(func() {
			err := r.stores[api].Watch(watching, s.Index, func(events []subnet.Event) {
				for _, e := range events {
					if e.Key == subnet.ConfigKey || e.Key == APIKey {
						once.Do(cancel)
					}
				}
			})
			once.Do(func() { failed = err; cancel() })
		})
	}
	both.Wait()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed == nil || errors.Is(failed, context.DeadlineExceeded) && watching.Err() != nil:
		return nil
	}
	return failed
}

// writable is the store that is written to. Where neither has a config key yet,
// the first write decides.
func (r *Registry) writable(ctx context.Context) (Store, error) {
	if s := r.store(); s != nil {
		return s, nil
	}
	r.mu.Lock()
	stores := r.seen.stores
	r.mu.Unlock()
	for api := range stores { // what came since they were listed decides
		now := r.look(ctx, api)
		switch {
		case now.err != nil:
			return nil, fmt.Errorf("look once more before the first write to etcd: %w", now.err)
		case now.Has(subnet.ConfigKey) || now.Has(APIKey):
			return nil, fmt.Errorf("nothing is written: %s has just come into etcd's %v store; try again",
				r.config(api), api)
		}
	}
	api, err := r.first(ctx, stores)
	if err != nil {
		return nil, fmt.Errorf("write to etcd: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chosen = api
	return r.stores[api], nil
}

// first chooses among stores without a config key: the one that wants to know who
// writes, if the other does not; the one with the leases; and otherwise v2.
func (r *Registry) first(ctx context.Context, stores map[API]subnet.Snapshot) (API, error) {
	var all, guarded, leased []API
	for _, api := range []API{V2, V3} {
		s, counts := stores[api]
		if !counts {
			continue
		}
		all = append(all, api)
		if len(stores) == 1 {
			break
		}
		yes, err := protected(ctx, r.stores[api], nil)
		if err != nil {
			return Auto, fmt.Errorf("which of etcd's two stores needs a password cannot be told: %w (%s)", err, overrule)
		}
		if yes {
			guarded = append(guarded, api)
		}
		if slices.ContainsFunc(s.Entries, isLease) {
			leased = append(leased, api)
		}
	}
	switch {
	case len(all) == 0:
		return Auto, errors.New("it was not listed before")
	case len(guarded) == 1:
		return guarded[0], nil
	case len(leased) == 2:
		return Auto, fmt.Errorf("leases lie in both of etcd's stores, and a config key in neither: " +
			"say with --etcd-api which of them the hosts use, 2 or 3")
	case len(leased) == 1:
		return leased[0], nil
	}
	return all[0], nil
}

func isLease(e subnet.Entry) bool { return strings.HasPrefix(e.Key, subnet.LeaseDir+"/") }
