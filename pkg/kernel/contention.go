package kernel

import (
	"maps"
	"slices"
	"time"
)

// paces notice that another program undoes an object again and again. The first
// repairs come at once; when they do not end, ever later. Each object has its own
// pace, so that the others are repaired at once.
type paces map[Object]pace

// pace is that of one object.
type pace struct {
	repairs int       // in a row
	last    time.Time // of them
}

const (
	repairsAtOnce  = 30
	firstBackoff   = 200 * time.Millisecond
	longestBackoff = time.Minute
	quietPeriod    = 5 * time.Second // so long without a repair, beyond the backoff, ends it
)

// Contention is what another program undoes again and again.
type Contention struct {
	Objects []string      // as the commands that make them; in order
	Again   time.Duration // when to look again; 0: there is none
}

func (p pace) backoff() time.Duration {
	over := p.repairs - repairsAtOnce
	if over <= 0 {
		return 0
	}
	return min(firstBackoff<<min(over-1, 10), longestBackoff)
}

func (p pace) wait(now time.Time) time.Duration { return p.backoff() - now.Sub(p.last) }

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
	waits := func(o Op) bool { return o.Repair && p[o.Object].wait(now) > 0 }
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
	maps.DeleteFunc(p, func(_ Object, one pace) bool { return -one.wait(now) > quietPeriod })
	devices := map[string]bool{}
	for _, o := range done {
		if o.Repair && o.base() {
			devices[o.Dev()] = true
		}
	}
	for _, o := range done {
		if o.Repair && (o.base() || !devices[o.Dev()]) {
			p[o.Object] = pace{p[o.Object].repairs + 1, now}
		}
	}
}

func (p paces) contention(now time.Time) (c Contention) {
	for object, one := range p {
		if one.repairs <= repairsAtOnce {
			continue
		}
		c.Objects = append(c.Objects, object.command(Add))
		again := one.wait(now)
		if again <= 0 {
			again = quietPeriod + time.Millisecond + again // then it is over
		}
		if c.Again == 0 || again < c.Again {
			c.Again = again
		}
	}
	slices.Sort(c.Objects)
	return c
}
