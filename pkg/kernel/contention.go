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

func (o Op) what() write { return write{o.Object, o.Action == Delete} }

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

// split takes out what has to wait; where that is a device, all that is on it.
func (p paces) split(ops []Op, now time.Time) (due, held []Op) {
	if len(p) == 0 {
		return ops, nil
	}
	waits := func(o Op) bool { return o.paced() && p[o.what()].Wait(now) > 0 }
	devices := map[string]bool{}
	for _, o := range ops {
		if o.base() && waits(o) {
			devices[o.Dev()] = true
		}
	}
	for _, o := range ops {
		if devices[o.Dev()] || waits(o) {
			held = append(held, o)
		} else {
			due = append(due, o)
		}
	}
	return due, held
}

// record counts repairs. What is on a device that was repaired itself went with it
// and does not count.
func (p paces) record(done []Op, now time.Time) {
	maps.DeleteFunc(p, func(_ write, one pace.Pace) bool { return one.Over(now) })
	devices := map[string]bool{}
	for _, o := range done {
		if o.Repair && o.base() {
			devices[o.Dev()] = true
		}
	}
	for _, o := range done {
		if o.paced() && (o.base() || !devices[o.Dev()]) {
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
