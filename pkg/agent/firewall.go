package agent

import "time"

// firewall is whether the rules have ever been seen in place. Later on, the firewall
// says itself what is wrong with them.
type firewall struct {
	placed <-chan struct{} // closed once they have been seen
	since  time.Time       // when they were asked for first
	seen   bool
	heard  bool // that has been taken up
}

// firstRulesTime bounds how long the first Ready waits for the rules: dockerd, which is
// started after it, can do without them.
const firstRulesTime = 5 * time.Second

// waitFor takes up what says that the rules are in place; nil: nobody does.
func (f *firewall) waitFor(placed <-chan struct{}, now time.Time) {
	if f.since.IsZero() {
		f.since = now
	}
	f.placed, f.seen = placed, f.seen || placed == nil
}

// inPlace reports whether the rules have been seen.
func (f *firewall) inPlace() bool {
	select {
	case <-f.placed:
		f.seen = true
	default:
	}
	return f.seen
}

// news is closed where it has not been heard yet that the rules are in place.
func (f *firewall) news() <-chan struct{} {
	if f.heard {
		return nil
	}
	return f.placed
}

// left is how long Ready has to wait for them.
func (f *firewall) left(now time.Time) time.Duration {
	if f.inPlace() {
		return 0
	}
	return f.since.Add(firstRulesTime).Sub(now)
}
