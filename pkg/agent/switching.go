package agent

import "time"

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

// pacedConfig is the config key to follow now, and when to look again for a change
// that has to wait.
func (a *Agent) pacedConfig(text string, now time.Time) (string, time.Duration) {
	if text == a.inputs.config || text == "" {
		return text, resync
	}
	if left := a.switching.wait(now); left > 0 {
		return a.inputs.config, left
	}
	a.switching.take(now)
	return text, resync
}
