package kernel

import (
	"maps"
	"slices"
	"time"

	"flanneld/pkg/pace"
)

// paces are of objects that were repaired. Each object has its own, so that the
// others are repaired at once.
type paces map[Object]pace.Pace

const repairsAtOnce = 30

// Contention is what another program undoes again and again.
type Contention struct {
	Objects []string      // as the commands that make them; in order
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
	waits := func(o Op) bool { return o.Repair && p[o.Object].Wait(now) > 0 }
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
	maps.DeleteFunc(p, func(_ Object, one pace.Pace) bool { return one.Over(now) })
	devices := map[string]bool{}
	for _, o := range done {
		if o.Repair && o.base() {
			devices[o.Dev()] = true
		}
	}
	for _, o := range done {
		if o.Repair && (o.base() || !devices[o.Dev()]) {
			one, known := p[o.Object]
			if !known {
				one = pace.Of(repairsAtOnce)
			}
			p[o.Object] = one.Repaired(now)
		}
	}
}

func (p paces) contention(now time.Time) (c Contention) {
	for object, one := range p {
		if !one.Contested() {
			continue
		}
		c.Objects = append(c.Objects, object.command(Add))
		if again := one.Again(now); c.Again == 0 || again < c.Again {
			c.Again = again
		}
	}
	slices.Sort(c.Objects)
	return c
}
