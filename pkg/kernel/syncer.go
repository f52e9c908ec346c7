package kernel

import (
	"fmt"
	"iter"
	"time"
)

// Conn is what a Syncer asks of the kernel.
type Conn interface {
	// Links lists all interfaces.
	Links() ([]Link, error)
	// Routes lists the routes of the main table, in the order in which
	// the kernel tries those of one destination.
	Routes() ([]FoundRoute, error)
	// Entries lists what is on a device of ours.
	Entries(dev Link) (Entries, error)
	// Do carries out writes in order, whatever becomes of the others, and
	// returns an error or nil for each. That an object to delete is gone is
	// success, and so is that one to add is there: who made it so is heard of, and
	// the next pass looks again.
	Do(...Op) []error
}

// Syncer brings the kernel to a State. It is for one goroutine.
type Syncer struct {
	conn Conn
	was  memory

	paces paces
}

// NewSyncer returns a Syncer that has put nothing in place yet.
func NewSyncer(c Conn) *Syncer { return &Syncer{conn: c, was: memoryOf(State{}), paces: paces{}} }

// Result is what a pass did.
type Result struct {
	Ops []Op // carried out
	Others
	Contention
}

// Apply makes the kernel look like want, with the fewest writes; where it does
// already, it writes nothing. Writes that fail do not keep it from the others:
// the error names them, and the next Apply tries again. What another program undoes
// again and again is repaired ever later, and that alone.
func (s *Syncer) Apply(want State) (Result, error) {
	have, err := s.read(want)
	if err != nil {
		return Result{}, err
	}
	wanted := memoryOf(want)
	ops, others := plan(want, wanted, have, &s.was)
	now := time.Now()
	due, held := s.paces.split(ops, now)
	done, undone, err := s.carryOut(due)
	undone = append(undone, held...)
	s.paces.record(done, now)
	s.was = s.was.after(wanted, want.Partial, undone, others.Conflicts)
	logOps(done)
	return Result{Ops: done, Others: others, Contention: s.paces.contention(now)}, err
}

// read lists what a pass needs: what is on the wanted devices, and the routes;
// neither where nothing but devices is to be added.
func (s *Syncer) read(want State) (found, error) {
	links, err := s.conn.Links()
	if err != nil {
		return found{}, fmt.Errorf("list interfaces: %w", err)
	}
	have := found{links: links, entries: map[string]Entries{}}
	if want.Partial && want.Harmful == nil && len(want.Routes)+len(want.Neighbours)+len(want.FDB) == 0 {
		return have, nil
	}
	for _, d := range want.Devices {
		l, exists := have.link(d.Name)
		if !exists || l.Kind == nil {
			continue
		}
		if have.entries[d.Name], err = s.conn.Entries(l); err != nil {
			return found{}, fmt.Errorf("list neighbours and forwarding entries of %s: %w", d.Name, err)
		}
	}
	if have.routes, err = s.conn.Routes(); err != nil {
		return found{}, fmt.Errorf("list routes: %w", err)
	}
	return have, nil
}

// carryOut does what it can. A device that could not be made takes what would
// be on it along. What was done comes back in the place of all.
func (s *Syncer) carryOut(ops []Op) (done, undone []Op, err error) {
	var failed failures
	broken := map[string]bool{}
	done = ops[:0]
	for group := range groups(ops) {
		possible := group
		if len(broken) > 0 {
			possible = nil
			for _, o := range group {
				if broken[o.Dev()] {
					undone = append(undone, o)
				} else {
					possible = append(possible, o)
				}
			}
		}
		for i, err := range s.conn.Do(possible...) {
			o := possible[i]
			if err == nil {
				done = append(done, o)
				continue
			}
			failed.add(o, err)
			undone = append(undone, o)
			if o.wholeDevice() {
				broken[o.Dev()] = true
			}
		}
	}
	return done, undone, failed.err()
}

// groups cuts ops where one decides about the following: at each device.
func groups(ops []Op) iter.Seq[[]Op] {
	return func(yield func([]Op) bool) {
		from := 0
		for i, o := range ops {
			if o.wholeDevice() {
				if from < i && !yield(ops[from:i]) || !yield(ops[i:i+1]) {
					return
				}
				from = i + 1
			}
		}
		if from < len(ops) {
			yield(ops[from:])
		}
	}
}
