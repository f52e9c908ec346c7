// Package pace slows repairs down that another program undoes again and again: the
// first come at once; when they do not end, ever later.
package pace

import "time"

const (
	first   = 200 * time.Millisecond
	longest = time.Minute
	quiet   = 5 * time.Second // so long without a repair, beyond the backoff, ends it
)

// Pace is that of one thing, which is repaired that often in a row at once. The
// zero Pace waits for nothing.
type Pace struct {
	atOnce  int
	repairs int       // in a row
	last    time.Time // of them
}

// Of is the pace of a thing that has not been repaired yet.
func Of(atOnce int) Pace { return Pace{atOnce: atOnce} }

// Repairs are those in a row.
func (p Pace) Repairs() int { return p.repairs }

// Contested reports whether another program undoes the repairs.
func (p Pace) Contested() bool { return p.repairs > p.atOnce }

func (p Pace) backoff() time.Duration {
	if !p.Contested() {
		return 0
	}
	return min(first<<min(p.repairs-p.atOnce-1, 10), longest)
}

// Wait is how long the next repair has to wait; 0 or less: no more.
func (p Pace) Wait(now time.Time) time.Duration { return p.backoff() - now.Sub(p.last) }

// Over reports whether the repairs have ended.
func (p Pace) Over(now time.Time) bool { return -p.Wait(now) > quiet }

// Again is when to look again: for the next repair, or to see that they have ended.
func (p Pace) Again(now time.Time) time.Duration {
	wait := p.Wait(now)
	if wait <= 0 {
		wait += quiet + time.Millisecond
	}
	return wait
}

// Repaired is the pace after one more repair.
func (p Pace) Repaired(now time.Time) Pace {
	if p.Over(now) {
		p.repairs = 0
	}
	p.repairs, p.last = p.repairs+1, now
	return p
}
