package kernel

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/klog/v2"
)

// Conn is what a Syncer asks of the kernel.
type Conn interface {
	// Links lists all interfaces.
	Links() ([]Link, error)
	// Routes lists the IPv4 unicast routes of the main table that have a
	// gateway or a mark of ours.
	Routes() ([]FoundRoute, error)
	// Entries lists what is on a vxlan device.
	Entries(dev Link) (Entries, error)
	// Do carries out one write. That the object is there, or gone, already is
	// success.
	Do(Op) error
}

// Syncer brings the kernel to a State. It is for one goroutine.
type Syncer struct {
	conn Conn
	was  memory
}

// NewSyncer returns a Syncer that has put nothing in place yet.
func NewSyncer(c Conn) *Syncer { return &Syncer{conn: c} }

// Result is what a pass did.
type Result struct {
	Ops       []Op // carried out
	Repairs   int  // of these, those that restored what somebody had undone
	Conflicts []Conflict
}

// Apply makes the kernel look like want, with the fewest writes; where it does
// already, it writes nothing. Writes that fail do not keep it from the others:
// the error names them all, and the next Apply tries again.
func (s *Syncer) Apply(want State) (Result, error) {
	have, err := s.read()
	if err != nil {
		return Result{}, err
	}
	ops, conflicts := plan(want, have, s.was)
	done, failed := s.carryOut(ops)
	s.remember(want, conflicts, failed)
	result := Result{Ops: done, Conflicts: conflicts}
	for _, o := range done {
		if o.Repair {
			result.Repairs++
		}
	}
	logOps(done)
	return result, summary(failed)
}

func (s *Syncer) read() (found, error) {
	links, err := s.conn.Links()
	if err != nil {
		return found{}, fmt.Errorf("list interfaces: %w", err)
	}
	have := found{links: map[string]Link{}, routes: map[netip.Prefix][]FoundRoute{}, entries: map[string]Entries{}}
	for _, l := range links {
		have.links[l.Name] = l
		if l.VXLAN == nil {
			continue
		}
		if have.entries[l.Name], err = s.conn.Entries(l); err != nil {
			return found{}, fmt.Errorf("list neighbours and forwarding entries of %s: %w", l.Name, err)
		}
	}
	routes, err := s.conn.Routes()
	if err != nil {
		return found{}, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		have.routes[r.Dst] = append(have.routes[r.Dst], r)
	}
	return have, nil
}

type failure struct {
	op  Op
	err error
}

// carryOut does what it can. A device that could not be made takes what would
// be on it along.
func (s *Syncer) carryOut(ops []Op) (done []Op, failed []failure) {
	broken := map[string]bool{}
	for _, o := range ops {
		if broken[o.Dev()] {
			continue
		}
		err := s.conn.Do(o)
		if err == nil {
			done = append(done, o)
			continue
		}
		failed = append(failed, failure{o, err})
		if _, device := o.Object.(VXLAN); device {
			broken[o.Dev()] = true
		}
	}
	return done, failed
}

// remember keeps what is in place now. After a failure it also keeps what was
// there before, so that a later pass still knows it for ours.
func (s *Syncer) remember(want State, conflicts []Conflict, failed []failure) {
	now := memory{
		devices: map[string]VXLAN{}, routes: make(map[netip.Prefix]Route, len(want.Routes)),
		neighbours: make(map[hop]MAC, len(want.Neighbours)), fdb: make(map[port]netip.Addr, len(want.FDB)),
	}
	if len(failed) > 0 || want.Partial {
		maps.Copy(now.devices, s.was.devices)
		maps.Copy(now.routes, s.was.routes)
		maps.Copy(now.neighbours, s.was.neighbours)
		maps.Copy(now.fdb, s.was.fdb)
	}
	for _, d := range want.Devices {
		now.devices[d.Name] = d
	}
	for _, r := range want.Routes {
		now.routes[r.Dst] = r
	}
	for _, n := range want.Neighbours {
		now.neighbours[hop{n.Dev, n.Addr}] = n.MAC
	}
	for _, f := range want.FDB {
		now.fdb[port{f.Dev, f.MAC}] = f.Dst
	}
	for _, c := range conflicts {
		delete(now.routes, c.Dst)
	}
	for _, f := range failed {
		if r, ok := f.op.Object.(Route); ok && f.op.Verb == Add {
			delete(now.routes, r.Dst)
		}
	}
	s.was = now
}

const (
	opsToLog    = 10
	errorsToSay = 3
)

// logOps says what was done: each write where there are few, else their number.
func logOps(ops []Op) {
	if len(ops) <= opsToLog {
		for _, o := range ops {
			klog.Info(o.sentence())
		}
		return
	}
	counts := map[string]int{}
	for _, o := range ops {
		counts[fmt.Sprintf("%s %s", o.Verb, o.Kind())]++
	}
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", what, counts[what]))
	}
	klog.Infof("kernel: %s", strings.Join(parts, ", "))
}

func (o Op) sentence() string {
	text := "kernel: "
	if o.Repair {
		text += "repair: "
	}
	text += o.String()
	if o.Why != "" {
		text += " (" + o.Why + ")"
	}
	return text
}

func summary(failed []failure) error {
	var errs []error
	for _, f := range failed[:min(len(failed), errorsToSay)] {
		errs = append(errs, fmt.Errorf("%v: %w", f.op, f.err))
	}
	if more := len(failed) - len(errs); more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	return oneLine(errs)
}

// oneLine joins errors with semicolons; errors.Join would take a line for each.
func oneLine(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return &manyErrors{strings.Join(texts, "; "), errors.Join(errs...)}
}

type manyErrors struct {
	text string
	all  error
}

func (m *manyErrors) Error() string { return m.text }
func (m *manyErrors) Unwrap() error { return m.all }
