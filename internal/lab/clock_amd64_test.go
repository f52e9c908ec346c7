package lab

import (
	"strings"
	"testing"
	"time"
)

func TestStepClock(t *testing.T) {
	d := timePrinter(t)
	const day = 24 * time.Hour
	for _, step := range []struct {
		by   time.Duration
		says string
	}{{2 * day, "apart by 48h0m0s"}, {-3 * day, "apart by -24h0m0s"}, {day + time.Second, "apart by 1s"}} {
		d.StepClock(step.by)
		d.WaitLog(step.says)
	}

	// A frozen one stays so, and wakes at another time.
	d.Freeze()
	d.StepClock(8 * time.Hour)
	isFrozen(t, d)
	d.Thaw()
	d.WaitLog("apart by 8h0m1s")
	if n := strings.Count(d.Log(), "apart"); n != 5 {
		t.Errorf("the clock was stepped 4 times, and it tells of %d times:\n%s", n-1, d.Log())
	}

	// The next process has the machine's clock.
	d.Kill()
	d.Restart()
	d.WaitLog("apart by 0s")
}
