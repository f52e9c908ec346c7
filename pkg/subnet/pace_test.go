package subnet

import (
	"testing"
	"time"
)

// TestPace leaves an etcd alone that has much to do, and a quick one hardly: the
// last of a burst of changes is known within a second.
func TestPace(t *testing.T) {
	for _, tt := range []struct{ took, least, most time.Duration }{
		{0, 50 * time.Millisecond, 150 * time.Millisecond},
		{40 * time.Millisecond, 200 * time.Millisecond, 600 * time.Millisecond},
		{time.Minute, 400 * time.Millisecond, 1200 * time.Millisecond},
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			got := pace(tt.took)
			if got < tt.least || got >= tt.most {
				t.Errorf("after a list of %v: %v, want %v to %v", tt.took, got, tt.least, tt.most)
			}
			seen[got] = true
		}
		if len(seen) < 50 { // a thousand daemons must not ask at once
			t.Errorf("after a list of %v: only %d different answers in 100", tt.took, len(seen))
		}
	}
}
