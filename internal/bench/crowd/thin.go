package crowd

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"flanneld/pkg/subnet"
)

// thin is a Registry that asks all that it is asked, and hands on of the answers what
// decides a host's next step.
type thin struct {
	subnet.Registry
	address string // the host's public IP as a lease has it
	taken   *taken
	reserve func([]netip.Prefix) // tells the Manager of subnets that are taken

	mu    sync.Mutex
	tried map[string]bool // keys that it has written, or tried to
	held  string          // key of its lease; "": it knows of none
}

// List implements [subnet.Registry].
func (t *thin) List(ctx context.Context) (subnet.Snapshot, error) {
	s, err := t.Registry.List(ctx)
	if err != nil {
		return s, err
	}
	t.taken.add(s.Entries)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = ""
	var own []subnet.Entry
	for _, e := range s.Entries {
		if t.concerns(e, false) {
			own = append(own, e)
		}
	}
	s.Entries = own
	t.tellTaken(s.Index)
	return s, nil
}

// Watch implements [subnet.Registry]. What does not concern a host that has its lease is
// held back; only where the watch ends, the Manager hears how far the store had come.
func (t *thin) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	var held []subnet.Event
	err := t.Registry.Watch(ctx, after, func(events []subnet.Event) {
		if len(events) == 0 {
			emit(nil)
			return
		}
		own, urgent := t.concerning(events)
		if held = own; urgent {
			held = nil
			emit(own)
		}
	})
	if held != nil {
		emit(held)
	}
	return err
}

// concerning are the events that concern the host, and the last one: where it does not,
// as the end of a key of which the Manager has not heard. They are urgent if one concerns
// the host, or if it has no lease.
func (t *thin) concerning(events []subnet.Event) (own []subnet.Event, urgent bool) {
	t.taken.addEvents(events)
	t.mu.Lock()
	defer t.mu.Unlock()
	last := events[len(events)-1]
	own = events[:0]
	for _, e := range events {
		if t.concerns(e.Entry, e.Deleted) {
			own = append(own, e)
		}
	}
	urgent = len(own) > 0 || t.held == ""
	if len(own) == 0 || own[len(own)-1].Modified != last.Modified {
		last.Deleted = true
		own = append(own, last)
	}
	t.tellTaken(last.Modified)
	return slices.Clone(own), urgent
}

// concerns tells whether the Manager needs to know of a key's change.
func (t *thin) concerns(e subnet.Entry, deleted bool) bool {
	switch {
	case strings.Contains(e.Value, t.address):
		t.held = e.Key
		return true
	case deleted && e.Key == t.held:
		t.held = ""
		return true
	}
	return e.Key == subnet.ConfigKey || t.tried[e.Key]
}

// tellTaken tells the Manager which subnets are taken, as long as it looks for one.
func (t *thin) tellTaken(index uint64) {
	if t.held == "" {
		t.reserve(t.taken.upTo(index))
	}
}

// Put implements [subnet.Registry].
func (t *thin) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	t.mu.Lock()
	if t.tried == nil {
		t.tried = map[string]bool{}
	}
	t.tried[e.Key] = true
	t.mu.Unlock()
	return t.Registry.Put(ctx, e)
}

// taken are the subnets that were leased, in the order of their creation. Who adds one
// has added all that came before: hosts hear of them in that order.
type taken struct {
	last atomic.Uint64 // index

	mu      sync.Mutex
	indexes []uint64
	subnets []netip.Prefix // what was handed out is never written again
}

func (t *taken) add(all []subnet.Entry) {
	var fresh []subnet.Entry
	for _, e := range all {
		if e.Created > t.last.Load() {
			fresh = append(fresh, e)
		}
	}
	slices.SortFunc(fresh, func(a, b subnet.Entry) int { return int(a.Created) - int(b.Created) })
	for _, e := range fresh {
		t.one(e)
	}
}

func (t *taken) addEvents(all []subnet.Event) {
	for _, e := range all {
		if !e.Deleted && e.Created > t.last.Load() {
			t.one(e.Entry)
		}
	}
}

func (t *taken) one(e subnet.Entry) {
	p, err := subnet.ParseKey(e.Key)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Created > t.last.Load() {
		t.indexes, t.subnets = append(t.indexes, e.Created), append(t.subnets, p.First())
		t.last.Store(e.Created)
	}
}

// upTo are those that were leased up to an index.
func (t *taken) upTo(index uint64) []netip.Prefix {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, _ := slices.BinarySearch(t.indexes, index+1)
	return t.subnets[:n:n]
}
