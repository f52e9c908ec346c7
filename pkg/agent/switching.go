package agent

import (
	"time"

	"flanneld/pkg/subnet"
)

// switchPace lets some changes of the config key through at once, and bounds them
// to that number in the time that peers take to hear of one: a key that changes many
// times a second costs neither repairs nor etcd. The last change is always taken up.
type switchPace struct {
	taken [switchesAtOnce]time.Time // when the last ones were taken up, the oldest first
}

// switchesAtOnce is more than a person makes in drainingTime.
const switchesAtOnce = 12

// wait is how long the next change has to wait.
func (p *switchPace) wait(now time.Time) time.Duration {
	if p.taken[0].IsZero() {
		return 0
	}
	return max(0, drainingTime-now.Sub(p.taken[0]))
}

// take notes that a change was taken up.
func (p *switchPace) take(now time.Time) {
	copy(p.taken[:], p.taken[1:])
	p.taken[len(p.taken)-1] = now
}

// paced is view with the config key that is to be followed now, and how long a
// change that has to wait still waits.
func (a *Agent) paced(view subnet.View, now time.Time) (subnet.View, time.Duration) {
	known := a.inputs.config
	if view.Config == known.Value && view.ConfigTooLong == known.TooLong {
		return view, resync
	}
	if left := a.switching.wait(now); left > 0 {
		view.Config, view.ConfigTooLong = known.Value, known.TooLong
		return view, left
	}
	a.switching.take(now)
	return view, resync
}
