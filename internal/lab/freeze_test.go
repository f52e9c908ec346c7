package lab

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// tellTime is what this test binary is in flanneld's place: it asks for the time
// without end, and tells when the clock on the wall leaves the monotonic one.
func printTime() {
	for range runtime.NumCPU() {
		go func() {
			for {
				_ = time.Now()
			}
		}()
	}
	start, told := time.Now(), -time.Second
	for {
		now := time.Now()
		apart := now.Round(0).Sub(start.Round(0)) - now.Sub(start)
		if apart = apart.Round(time.Second); apart != told {
			fmt.Printf("apart by %v\n", apart)
			told = apart
		}
		time.Sleep(time.Millisecond)
	}
}

// timeTeller starts it.
func timePrinter(t *testing.T) *Daemon {
	h := New(t).Host("hdss7-21", "10.4.7.21/24")
	d := h.Start(FlanneldOptions{Binary: "/proc/self/exe", Env: []string{"LAB_TEST_DAEMON=time"}, Dir: h.Dir()})
	d.WaitLog("apart by 0s")
	return d
}

// isFrozen looks twice: what is frozen uses no CPU time, and this daemon
// otherwise uses all there is.
func isFrozen(t *testing.T, d *Daemon) {
	t.Helper()
	before := d.CPUTime()
	time.Sleep(50 * time.Millisecond)
	if frozen, err := d.frozen(); !frozen || err != nil || d.CPUTime() != before {
		t.Errorf("frozen: %v, %v; CPU time %v, then %v", frozen, err, before, d.CPUTime())
	}
}

func TestFreeze(t *testing.T) {
	d := timePrinter(t)
	d.Freeze()
	isFrozen(t, d)
	before := d.CPUTime()
	d.Thaw()
	Eventually(t, waitTimeout, "CPU time", func() error {
		if now := d.CPUTime(); now == before {
			return fmt.Errorf("still %v", now)
		}
		return nil
	})
	d.Freeze()
	d.Kill() // works on the frozen too
}
