package pace

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPace(t *testing.T) {
	now := time.Unix(1e9, 0)
	p := Of(3)
	if p.Wait(now) > 0 || p.Contested() || (Pace{}).Wait(now) > 0 {
		t.Error("what was never repaired waits")
	}
	var waits []time.Duration
	for range 15 {
		p = p.Repaired(now)
		waits = append(waits, p.Wait(now))
		now = now.Add(max(p.Wait(now), 0))
	}
	for i, want := range []time.Duration{0, 0, 0, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000, 60000} {
		if waits[i] != want*time.Millisecond {
			t.Errorf("after repair %d: %v", i+1, waits[i])
		}
	}
	if p.Over(now) || !p.Contested() || p.Again(now) != quiet+time.Millisecond {
		t.Errorf("at the end of the wait: over %v, again %v", p.Over(now), p.Again(now))
	}
	if now = now.Add(p.Again(now)); !p.Over(now) {
		t.Error("it is never over")
	}
	if p = p.Repaired(now); p.Repairs() != 1 || p.Contested() {
		t.Errorf("%d repairs after that", p.Repairs())
	}
}
