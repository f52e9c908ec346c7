package etcdauto

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdv2"
)

const (
	// lookAgain is how long both stores are watched before they are listed again,
	// as one of them may not have answered.
	lookAgain = 30 * time.Second

	// reasonTimeout is how long the v3 API may take where its answer decides nothing,
	// and is only for the log.
	reasonTimeout = 3 * time.Second
)

// decide looks at the stores, and lists the one that is chosen. Where neither
// has a config key, it returns the leases that there are, as of index 0: no
// index counts before the store is known.
func (r *Registry) decide(ctx context.Context) (subnet.Snapshot, error) {
	two, err := r.stores[V2].List(ctx)
	served := !errors.Is(err, etcdv2.ErrNotServed)
	if err != nil && served {
		return subnet.Snapshot{}, err
	}
	config := fmt.Sprintf("%s/%s", r.prefix, subnet.ConfigKey)
	switch marked := two.Find(APIKey).Value; {
	case marked == value(V3):
		r.choose(V3, fmt.Sprintf("the keys were moved there, says %s/%s in the v2 store", r.prefix, APIKey))
		return r.stores[V3].List(ctx)
	case marked == value(V2) || two.Has(subnet.ConfigKey):
		r.choose(V2, r.whyTwo(ctx, config))
		return two, nil
	}
	three, err := r.stores[V3].List(ctx)
	switch {
	case err == nil && three.Has(subnet.ConfigKey) && served:
		r.choose(V3, config+" lies there, and not in the v2 store")
		return three, nil
	case err == nil && three.Has(subnet.ConfigKey):
		r.choose(V3, config+" lies there, and the v2 API is not served")
		return three, nil
	case err != nil && !served:
		return subnet.Snapshot{}, fmt.Errorf("neither of etcd's APIs can be used: v2 is not served; v3: %w", err)
	}
	return r.undecided(two, served, three, err, config), nil
}

// whyTwo says why the v2 API is chosen, for which it asks the other one as well.
func (r *Registry) whyTwo(ctx context.Context, config string) string {
	ctx, cancel := context.WithTimeout(ctx, reasonTimeout)
	defer cancel()
	defer r.stores[V3].Close()
	switch three, err := r.stores[V3].List(ctx); {
	case err != nil:
		return fmt.Sprintf("%s lies there, and the v3 API cannot be used (%v)", config, err)
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

// undecided notes what both stores are like, and says so if that is news.
func (r *Registry) undecided(
	two subnet.Snapshot, served bool, three subnet.Snapshot, err error, config string,
) subnet.Snapshot {
	now := seen{index: map[API]uint64{}, reason: config + " lies in neither of etcd's stores, v2 and v3: looking at both"}
	if served {
		now.index[V2] = two.Index
	} else {
		now.reason = config + " is not there by etcd's v3 API, and the v2 API is not served: looking for it"
	}
	if err == nil {
		now.index[V3] = three.Index
	} else {
		now.reason = fmt.Sprintf("%s is not there by etcd's v2 API: looking for it; the v3 API cannot be used: %v",
			config, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.reason != r.seen.reason {
		klog.InfoS("Waiting for the config key", "key", config, "reason", now.reason)
	}
	r.seen = now
	out := subnet.Snapshot{Entries: two.Entries, Omitted: two.Omitted, Cluster: two.Cluster}
	if len(out.Entries) == 0 {
		out.Entries, out.Omitted = three.Entries, three.Omitted
	}
	if !served {
		out.Cluster = three.Cluster
	}
	return out
}

// await watches both stores until something decides, or for a while.
func (r *Registry) await(ctx context.Context, emit func([]subnet.Event)) error {
	r.mu.Lock()
	indexes := r.seen.index
	r.mu.Unlock()
	watching, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	emit(nil)
	var once sync.Once
	var failed error
	var both sync.WaitGroup
	for api, index := range indexes {
		both.Go(func() {
			err := r.stores[api].Watch(watching, index, func(events []subnet.Event) {
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
