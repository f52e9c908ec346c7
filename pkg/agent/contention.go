package agent

import (
	"time"

	"flanneld/pkg/condition"
)

// contention notices that another program keeps undoing our work. The first
// repairs come at once; when they do not end, ever later.
type contention struct {
	repairs int       // in a row
	last    time.Time // of them
	until   time.Time // repairs wait for this
}

const (
	repairsAtOnce  = 30
	firstBackoff   = 200 * time.Millisecond
	longestBackoff = time.Minute
	quietPeriod    = 5 * time.Second // so long without a repair, beyond the backoff, ends it
)

// record counts a pass's repairs and returns how long to back off.
func (c *contention) record(set *condition.Set, repairs int, now time.Time) time.Duration {
	if c.repairs > 0 && now.Sub(c.last) > quietPeriod+c.backoff() {
		set.Clear(condition.KernelContention, "")
		c.repairs = 0
	}
	if repairs == 0 {
		return max(0, c.until.Sub(now))
	}
	c.repairs++
	c.last, c.until = now, now.Add(c.backoff())
	if c.repairs > repairsAtOnce {
		set.Set(
			condition.Condition{
				Code: condition.KernelContention,
				Message: "another program undoes flanneld's work in the kernel again and again: " +
					"find it and let it leave flanneld's routes and devices alone (the log has the last repairs); until then " +
					"repairs come ever later, up to a minute",
			},
		)
	}
	return c.backoff()
}

func (c *contention) backoff() time.Duration {
	over := c.repairs - repairsAtOnce
	if over <= 0 {
		return 0
	}
	return min(firstBackoff<<min(over-1, 10), longestBackoff)
}

// backsOff says that changes of the kernel are to be left alone for now.
func (c *contention) backsOff(now time.Time) bool { return now.Before(c.until) }
