package agent

import (
	"time"

	"k8s.io/klog/v2"
)

// fight notices that another program keeps undoing our work. The first repairs
// come at once; when they do not end, ever later.
type fight struct {
	repairs int       // in a row
	last    time.Time // of them
	until   time.Time // rest
}

const (
	repairsAtOnce = 30
	firstRest     = 200 * time.Millisecond
	longestRest   = time.Minute
	peace         = 5 * time.Second // so long without a repair, beyond the rest, ends it
)

// note counts a pass's repairs and returns how long to rest.
func (f *fight) note(repairs int, now time.Time) time.Duration {
	if f.repairs > 0 && now.Sub(f.last) > peace+f.rest() {
		if f.rest() > 0 {
			klog.Info("kernel: nobody undoes flanneld's work any more")
		}
		f.repairs = 0
	}
	if repairs == 0 {
		return max(0, f.until.Sub(now))
	}
	f.repairs++
	f.last, f.until = now, now.Add(f.rest())
	if f.repairs == repairsAtOnce+1 {
		klog.Warning("kernel: another program undoes flanneld's work again and again (its last repairs are logged above): find it and let it leave them alone; " +
			"until then repairs come ever later, up to a minute")
	}
	return f.rest()
}

func (f *fight) rest() time.Duration {
	over := f.repairs - repairsAtOnce
	if over <= 0 {
		return 0
	}
	return min(firstRest<<min(over-1, 10), longestRest)
}

// rests says that changes of the kernel are to be left alone for now.
func (f *fight) rests(now time.Time) bool { return now.Before(f.until) }
