package kernel

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/inet"
)

// Conn is what a Syncer asks of the kernel.
type Conn interface {
	// Look says of which families the lists below are to be, of those that the connection
	// is for; none: of all. It returns them.
	Look(families ...inet.Family) []inet.Family
	// Links lists all interfaces.
	Links() ([]Link, error)
	// Routes lists the routes of the main table, in the order in which
	// the kernel tries those of one destination.
	Routes() ([]FoundRoute, error)
	// Nexthops lists the next hop objects; none where the kernel knows of no such.
	Nexthops() ([]FoundNexthop, error)
	// Entries lists what is on a device of ours.
	Entries(dev Link) (Entries, error)
	// Do carries out writes in order, whatever becomes of the others, and
	// returns an error or nil for each. That an object to delete is gone is
	// success, and so is that one to add is there: who made it so is heard of, and
	// the next pass looks again. But an id of a next hop object's is then a stranger's.
	Do(...Op) []error
}

// Syncer brings the kernel to a State. It is for one goroutine.
type Syncer struct {
	conn Conn
	was  memory

	paces paces
	swept map[inet.Family]bool // nothing of ours is left of it: it is not looked at

	nexthopsFrom int  // so many wanted routes of a family are written by next hop objects
	plain        bool // the kernel refuses those
}

// nexthopsFrom is the number of wanted routes of a family from which on next hop objects are
// faster than plain routes. Tests have the linker set it.
var nexthopsFrom = "1000"

// NewSyncer returns a Syncer that has put nothing in place yet.
func NewSyncer(c Conn) *Syncer {
	from, err := strconv.Atoi(nexthopsFrom)
	if err != nil {
		from = 1000
	}
	return NewSyncerFrom(c, from)
}

// NewSyncerFrom is NewSyncer with the number of wanted routes from which on they are
// written by next hop objects.
func NewSyncerFrom(c Conn, nexthopsFrom int) *Syncer {
	return &Syncer{
		conn: c, was: memoryOf(State{}), paces: paces{}, swept: map[inet.Family]bool{}, nexthopsFrom: nexthopsFrom,
	}
}

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
	first, refusal, err := s.pass(want)
	if refusal == nil {
		return first, err
	}
	s.plain = true
	result, _, err := s.pass(want)
	taken := func(o Op) bool { return o.Kind() == "route" && o.Action != Delete }
	if s.plain = slices.ContainsFunc(result.Ops, taken); s.plain {
		klog.InfoS("The kernel refuses next hop objects: routes are written without", "err", refusal)
	}
	result.Ops = slices.Concat(first.Ops, result.Ops)
	return result, err
}

// pass is an Apply. Where the kernel refuses a next hop object as it may refuse all,
// refusal says so.
func (s *Syncer) pass(want State) (result Result, refusal, err error) {
	looks := s.look(want)
	have, err := s.read(want)
	if err != nil {
		return Result{}, nil, err
	}
	have.looks, have.waits = looks, s.paces.waiting(have.at)
	wanted := memoryOf(want)
	ops, others, later := plan(want, &wanted, have, &s.was)
	due, held := s.paces.split(ops, have.at)
	done, undone, refusal, err := s.carryOut(due, held)
	undone = append(undone, later...)
	s.paces.record(done, have.at)
	s.was = s.was.after(wanted, want.Partial, undone, others.Conflicts)
	if !want.Partial && len(undone)+len(s.was.orphans) == 0 {
		s.leave(want)
	}
	logOps(done)
	return Result{Ops: done, Others: others, Contention: s.paces.contention(have.at)}, refusal, err
}

// look is at the families of a State, and at those in which something of ours may be
// left: by an earlier run, or since they were wanted last.
func (s *Syncer) look(want State) []inet.Family {
	for _, f := range want.Families {
		delete(s.swept, f)
	}
	return s.conn.Look(slices.DeleteFunc(inet.Families(), func(f inet.Family) bool {
		return s.swept[f] && want.Families != nil
	})...)
}

// leave looks no more at families of which nothing is wanted, and nothing left.
func (s *Syncer) leave(want State) {
	for _, f := range inet.Families() {
		s.swept[f] = want.Families != nil && !slices.Contains(want.Families, f)
	}
	s.look(want)
}

// read lists what a pass needs: what is on the wanted devices, and the routes;
// neither where nothing but devices is to be added.
func (s *Syncer) read(want State) (found, error) {
	links, err := s.conn.Links()
	if err != nil {
		return found{}, fmt.Errorf("list interfaces: %w", err)
	}
	have := found{links: links, entries: map[string]Entries{}, at: time.Now()}
	if !s.plain {
		have.byNexthops = s.many(want.Routes)
	}
	if want.Partial && want.Harmful == nil && len(want.Routes)+len(want.Neighbours)+len(want.FDB)+len(want.Peers) == 0 {
		return have, nil
	}
	for _, d := range want.Devices {
		l, exists := have.link(d.Name)
		if !exists || l.Kind == nil {
			continue
		}
		if have.entries[d.Name], err = s.conn.Entries(l); err != nil {
			return found{}, fmt.Errorf("list what is on %s: %w", d.Name, err)
		}
	}
	if have.nexthops, err = s.conn.Nexthops(); err != nil {
		return found{}, fmt.Errorf("list next hop objects: %w", err)
	}
	if have.routes, err = s.conn.Routes(); err != nil {
		return found{}, fmt.Errorf("list routes: %w", err)
	}
	return have, nil
}

// many tells of each family whether it has so many routes that next hop objects pay.
func (s *Syncer) many(routes []Route) (many [2]bool) {
	var count [2]int
	for i := range routes {
		count[inet.Of(routes[i].Dst.Addr()).Index()]++
	}
	for i, n := range count {
		many[i] = n >= s.nexthopsFrom
	}
	return many
}

// carryOut does what it can. A device that could not be made takes what would
// be on it along, and a next hop object the routes by it: its id may be another's. A
// route that stays as it is, of what is held too, keeps those that are to be deleted: it may
// be by one. What was done comes back in the place of all, what is held among the undone.
func (s *Syncer) carryOut(ops, held []Op) (done, undone []Op, refusal, err error) {
	var failed failures
	broken, hops := map[string]bool{}, map[uint32]bool{}
	done, undone = ops[:0], slices.Clip(held)
	for group := range inGroups(ops) {
		possible := group
		if len(broken)+len(hops)+len(undone) > 0 {
			possible = nil
			keep := slices.ContainsFunc(undone, Op.leadsAway)
			for _, o := range group {
				hop, route := o.nexthop()
				if broken[o.Dev()] || route && hops[hop] || keep && o.Action == Delete && o.Kind() == kindNexthop {
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
			if hop, route := o.nexthop(); hop != 0 && !route {
				hops[hop] = true
				if !is(err, ofRoutesToo...) {
					refusal = err
				}
			}
		}
	}
	return done, undone, refusal, failed.err()
}

// ofRoutesToo are the errors of a next hop object's that a plain route would have as well.
// The last two are of replies that were lost.
var ofRoutesToo = []unix.Errno{
	unix.EEXIST, unix.ENODEV, unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EPERM, unix.EACCES,
	unix.ENOBUFS, unix.EAGAIN,
}

// inGroups cuts ops where one decides about the following: at each device, and between
// next hop objects and all else.
func inGroups(ops []Op) iter.Seq[[]Op] {
	return func(yield func([]Op) bool) {
		from := 0
		for i, o := range ops {
			switch {
			case o.wholeDevice():
				if from < i && !yield(ops[from:i]) || !yield(ops[i:i+1]) {
					return
				}
				from = i + 1
			case from < i && (o.Kind() == kindNexthop) != (ops[i-1].Kind() == kindNexthop):
				if !yield(ops[from:i]) {
					return
				}
				from = i
			}
		}
		if from < len(ops) {
			yield(ops[from:])
		}
	}
}
