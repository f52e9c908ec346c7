package kernel

import (
	"maps"
	"slices"
	"time"

	"flanneld/pkg/pace"
)

// paces are of writes that may be undone. Each has its own, so that the others are
// done at once.
type paces map[write]pace.Pace

// write is what an Op does, however it is done.
type write struct {
	Object
	removes bool
}

func (o Op) what() write {
	object := o.Object
	if r, isRoute := object.(Route); isRoute {
		r.Nexthop = 0 // in whatever form it is written
		object = r
	}
	return write{object, o.Action == Delete}
}

// paced tells an Op that another program can make due again and again: a repair, and the
// removal of what bears no mark of ours.
func (o Op) paced() bool {
	switch x := o.Object.(type) {
	case FoundRoute:
		return x.Protocol != Protocol
	case Address:
		return o.Repair || o.Action == Delete
	}
	return o.Repair
}

const repairsAtOnce = 30

// Contention is what another program undoes again and again.
type Contention struct {
	Objects []string      // as the commands that make or remove them; in order
	Again   time.Duration // when to look again; 0: there is none
}

// base tells an Op without which nothing on its device can be.
func (o Op) base() bool {
	s, isSetting := o.Object.(Setting)
	return o.wholeDevice() || isSetting && s.Up
}

// nexthop is the id of the next hop object that an Op writes, or writes a route by; 0:
// there is none.
func (o Op) nexthop() (id uint32, route bool) {
	if o.Action == Delete {
		return 0, false
	}
	switch x := o.Object.(type) {
	case Nexthop:
		return x.ID, false
	case Route:
		return x.Nexthop, true
	}
	return 0, false
}

// leadsAway tells an Op after which a route that was there leads to its next hop object no
// more.
func (o Op) leadsAway() bool { return o.Action != Add && o.Kind() == "route" }

// waiting tells an Op whose turn has not come.
func (p paces) waiting(now time.Time) func(Op) bool {
	return func(o Op) bool { return o.paced() && p[o.what()].Wait(now) > 0 }
}

// split takes out what has to wait; where that is a device, all that is on it, and
// where it is a next hop object, the routes by it.
func (p paces) split(ops []Op, now time.Time) (due, held []Op) {
	if len(p) == 0 {
		return ops, nil
	}
	waits := p.waiting(now)
	devices := map[string]bool{}
	for _, o := range ops {
		if o.base() && waits(o) {
			devices[o.Dev()] = true
		}
	}
	hops := map[uint32]bool{}
	for _, o := range ops {
		hop, route := o.nexthop()
		if devices[o.Dev()] || waits(o) || route && hops[hop] {
			held = append(held, o)
			if hop != 0 && !route {
				hops[hop] = true
			}
		} else {
			due = append(due, o)
		}
	}
	return due, held
}

// record counts repairs. What is on a device that was repaired itself went with it
// and does not count, and nor do the routes by a next hop object.
func (p paces) record(done []Op, now time.Time) {
	maps.DeleteFunc(p, func(_ write, one pace.Pace) bool { return one.Over(now) })
	devices, hops := map[string]bool{}, map[uint32]bool{}
	for _, o := range done {
		if o.Repair && o.base() {
			devices[o.Dev()] = true
		}
		if hop, route := o.nexthop(); o.Repair && hop != 0 && !route {
			hops[hop] = true
		}
	}
	for _, o := range done {
		hop, route := o.nexthop()
		if o.paced() && (o.base() || !devices[o.Dev()]) && !(route && hops[hop]) {
			one, known := p[o.what()]
			if !known {
				one = pace.Of(repairsAtOnce)
			}
			p[o.what()] = one.Repaired(now)
		}
	}
}

func (p paces) contention(now time.Time) (c Contention) {
	for what, one := range p {
		if !one.Contested() {
			continue
		}
		action := Add
		if what.removes {
			action = Delete
		}
		c.Objects = append(c.Objects, what.command(action))
		if again := one.Again(now); c.Again == 0 || again < c.Again {
			c.Again = again
		}
	}
	slices.Sort(c.Objects)
	return c
}
