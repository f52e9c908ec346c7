// Package metrics counts what the daemon does, and shows it in Prometheus' text
// format.
//
// Counting costs next to nothing; the registry and everything in it are made
// anew for each scrape and thrown away after it, so that a daemon that nobody
// scrapes pays nothing. There is no label whose values grow with the cluster.
package metrics

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Counts are what happened since the start. The zero value is ready; it is for
// any number of goroutines.
type Counts struct {
	mu sync.Mutex
	tally
}

// tally is the counters themselves.
type tally struct {
	requests map[request]uint64
	restarts uint64 // of the watch
	writes   map[write]uint64
	repairs  map[string]uint64 // by kind of object
	applies  [len(applyBounds)]uint64
	applied  uint64
	took     time.Duration // of all applies together
	failing  bool          // the last one failed
	probes   probes
}

type request struct{ operation, result string }

type write struct{ kind, result string }

const (
	success  = "success"
	failure  = "error"
	conflict = "conflict" // somebody else was faster

	abandoned = "abandoned" // given up by us, which says nothing of etcd: it is not counted
)

// applyBounds are the upper bounds of the histogram of applies: a pass over a
// few peers takes a millisecond, the first over thousands half a second.
var applyBounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond,
	500 * time.Millisecond, 2500 * time.Millisecond, 10 * time.Second,
}

// read is a copy.
func (c *Counts) read() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally
	t.requests, t.writes, t.repairs = maps.Clone(t.requests), maps.Clone(t.writes), maps.Clone(t.repairs)
	return t
}

func (c *Counts) change(f func(*tally)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.tally)
}

// add counts one in a map that may not be there yet.
func add[K comparable](m *map[K]uint64, key K) {
	if *m == nil {
		*m = map[K]uint64{}
	}
	(*m)[key]++
}

// Applied counts a pass over the kernel.
func (c *Counts) Applied(took time.Duration, err error) {
	c.change(func(t *tally) {
		t.failing = err != nil
		t.applied++
		t.took += took
		for i, bound := range applyBounds {
			if took <= bound {
				t.applies[i]++
			}
		}
	})
}

// RulesRepaired counts rules of the firewall that had to be put right, of iptables or nftables.
func (c *Counts) RulesRepaired() { c.change(func(t *tally) { add(&t.repairs, "iptables") }) }

// Wrote counts writes to the kernel, by what became of each: errs has an error
// or nil for every one of ops.
func (c *Counts) Wrote(ops []kernel.Op, errs []error) {
	c.change(func(t *tally) {
		for i, o := range ops {
			if errs[i] != nil {
				add(&t.writes, write{o.Kind(), failure})
				continue
			}
			add(&t.writes, write{o.Kind(), success})
			if o.Repair {
				add(&t.repairs, o.Kind())
			}
		}
	})
}

// Registry is r with its requests counted, and logged at V(3).
func (c *Counts) Registry(r subnet.Registry) subnet.Registry { return registry{r, c} }

type registry struct {
	subnet.Registry
	counts *Counts
}

// note takes down what became of a request; key is empty where it is about all.
func (r registry) note(ctx context.Context, operation, key string, began time.Time, err error) {
	result := success
	switch {
	case err == nil:
	case ctx.Err() != nil:
		result = abandoned
	case errors.Is(err, subnet.ErrConflict):
		result = conflict
	default:
		result = failure
	}
	if v := klog.V(3); v.Enabled() {
		said := []any{"operation", operation, "key", key, "took", time.Since(began), "result", result}
		if err != nil {
			said = append(said, "err", err)
		}
		v.InfoS("Request to etcd", said...)
	}
	if result == abandoned {
		return
	}
	r.counts.change(func(t *tally) { add(&t.requests, request{operation, result}) })
}

func (r registry) List(ctx context.Context) (subnet.Snapshot, error) {
	began := time.Now()
	s, err := r.Registry.List(ctx)
	r.note(ctx, "list", "", began, err)
	return s, err
}

func (r registry) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	began := time.Now()
	stored, err := r.Registry.Put(ctx, e)
	r.note(ctx, "put", e.Key, began, err)
	return stored, err
}

func (r registry) Replace(ctx context.Context, old, e subnet.Entry) (subnet.Entry, error) {
	began := time.Now()
	stored, err := r.Registry.Replace(ctx, old, e)
	r.note(ctx, "replace", e.Key, began, err)
	return stored, err
}

func (r registry) Refresh(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	began := time.Now()
	stored, err := r.Registry.Refresh(ctx, e)
	r.note(ctx, "refresh", e.Key, began, err)
	return stored, err
}

func (r registry) Delete(ctx context.Context, e subnet.Entry) error {
	began := time.Now()
	err := r.Registry.Delete(ctx, e)
	r.note(ctx, "delete", e.Key, began, err)
	return err
}

// Resume that finds that a list is needed has not failed.
func (r registry) Resume(ctx context.Context, after uint64) error {
	began := time.Now()
	err := r.Registry.Resume(ctx, after)
	failed := err
	if errors.Is(err, subnet.ErrHistoryLost) {
		failed = nil
	}
	r.note(ctx, "resume", "", began, failed)
	return err
}

// Watch counts a watch that stands as a success, and its end as a failure and a
// restart: another one follows.
func (r registry) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	began := time.Now()
	stands := sync.OnceFunc(func() { r.note(ctx, "watch", "", began, nil) })
	err := r.Registry.Watch(ctx, after, func(events []subnet.Event) {
		stands()
		emit(events)
	})
	if ctx.Err() == nil {
		r.counts.change(func(t *tally) { t.restarts++ })
		if !errors.Is(err, subnet.ErrHistoryLost) {
			r.note(ctx, "watch", "", began, err)
		}
	}
	return err
}
