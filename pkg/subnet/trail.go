package subnet

import (
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
)

// Trail is the latest changes of a store that its client has heard of. Where the
// store's history tells the very same ones once more, it is the history that was
// followed, and a watch may go on in it: DESIGN.md has the argument.
//
// It begins with a change that no other history can have, a unique one. Without
// one there is no trail, and nothing but a list helps.
type Trail struct {
	Keep    int // unique changes to keep
	Longest int // changes in all that are told once more at the most

	mu      sync.Mutex
	watched bool // since the last list
	changes []Change
}

// Change is one change as the store tells it.
type Change struct {
	Index  uint64
	Digest uint64 // of all that the store says of it; see Digest
	Unique bool   // with something that the store gives to this one alone
}

// Digest makes a short one of all that a store says of a change. It holds within
// this process.
func Digest[T comparable](said T) uint64 { return maphash.Comparable(seed, said) }

var seed = maphash.MakeSeed()

// Listed begins anew, as of a list's index. latest is the latest change that the list shows.
// Later ones that it does not show (a key that is gone) would be missing in the trail, so
// there is one only where that was the store's latest of all.
func (t *Trail) Listed(index uint64, latest Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watched, t.changes = false, nil
	if latest.Unique && latest.Index == index {
		t.changes = []Change{latest}
	}
}

// Leads tells whether a watch can go on.
func (t *Trail) Leads() bool { return t.Begins() > 0 }

// Begins is the index of the first change; 0: there is no trail.
func (t *Trail) Begins() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.changes) == 0 {
		return 0
	}
	return t.changes[0].Index
}

// Last is the index of the latest change; 0: there is no trail.
func (t *Trail) Last() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.changes) == 0 {
		return 0
	}
	return t.changes[len(t.changes)-1].Index
}

// heard adds a change that a watch has told.
func (t *Trail) heard(c Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.changes) == 0 && !c.Unique {
		return
	}
	t.changes = append(t.changes, c)
	if c.Unique {
		if unique := t.unique(); len(unique) > t.Keep {
			t.begin(unique[1])
		}
	}
	if len(t.changes) > t.Longest {
		t.changes = nil
	}
}

// begin cuts what comes before a change, but for what one transaction has changed with it.
func (t *Trail) begin(at int) {
	for at > 0 && t.changes[at-1].Index == t.changes[at].Index {
		at--
	}
	t.changes = slices.Clone(t.changes[at:])
}

// unique are the places of the unique changes.
func (t *Trail) unique() (at []int) {
	for i, c := range t.changes {
		if c.Unique {
			at = append(at, i)
		}
	}
	return at
}

// Forget leaves out what the store does not have any more, and tells whether there is
// a trail all the same.
func (t *Trail) Forget(before uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, at := range t.unique() {
		if t.changes[at].Index >= before {
			t.begin(at)
			return true
		}
	}
	t.changes = nil
	return false
}

// Retrace is for a watch that tells what comes after an index. The first one after a list
// needs no trail; each later one is to begin where the trail does. ErrHistoryLost: there
// is none.
func (t *Trail) Retrace(after uint64) (*Retrace, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.watched:
		t.watched = true
		return &Retrace{trail: t, after: after, from: after + 1}, nil
	case len(t.changes) == 0:
		return nil, errNoTrail
	}
	first, last := t.changes[0].Index, t.changes[len(t.changes)-1].Index
	return &Retrace{
		trail: t, after: after, from: min(after+1, first), due: slices.Clone(t.changes), first: first, last: last,
	}, nil
}

var errNoTrail = fmt.Errorf("too little has happened since the last list to know the store by: %w", ErrHistoryLost)

// Retrace compares what a watch tells with a trail, and prolongs that. It is for one
// goroutine.
type Retrace struct {
	trail *Trail
	after uint64
	from  uint64
	due   []Change // to be told yet
	first uint64   // index of the trail's first change, and of its last
	last  uint64
}

// From is the first index that the watch is to tell of.
func (r *Retrace) From() uint64 { return r.from }

// First tells whether this is the first watch after a list. Nothing shows then that the
// store was not replaced in between but that raft's term is still that of the list.
func (r *Retrace) First() bool { return r.first == 0 }

// Sure tells whether the store has told all of the trail.
func (r *Retrace) Sure() bool { return len(r.due) == 0 }

// Told takes a change that the watch tells. ErrHistoryLost: it is of another history.
func (r *Retrace) Told(c Change) error {
	switch {
	case c.Index < r.first: // the caller has not heard of it
		return nil
	case len(r.due) > 0 && c == r.due[0]:
		r.due = r.due[1:]
		return nil
	case len(r.due) > 0 || c.Index <= r.last:
		return fmt.Errorf("another change than before has index %d: %w", c.Index, ErrHistoryLost)
	case c.Index > r.after:
		r.trail.heard(c)
	}
	return nil
}

// CaughtUp says that the store has told all up to an index. ErrHistoryLost: without
// telling what it had told before.
func (r *Retrace) CaughtUp(index uint64) error {
	if len(r.due) > 0 && index >= r.due[0].Index {
		return fmt.Errorf("the change that had index %d is there no more: %w", r.due[0].Index, ErrHistoryLost)
	}
	return nil
}
