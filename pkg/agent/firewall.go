package agent

import (
	"context"
	"time"
)

// firewall is whether the rules have ever been seen in place. Later on, the firewall
// says itself what is wrong with them.
type firewall struct {
	placed []<-chan struct{} // each closed once a family's have been seen
	since  time.Time         // when they were asked for first
	seen   bool
	heard  bool // that has been taken up
}

const (
	// firstRulesTime bounds how long the first Ready waits for the rules: dockerd, which is
	// started after it, can do without them.
	firstRulesTime = 5 * time.Second
	// rulesTime bounds the wait for rules by which peers are let in, which may fail.
	rulesTime = time.Second
)

// waitFor takes up what says that the rules are in place; none: nobody does.
func (f *firewall) waitFor(placed []<-chan struct{}, now time.Time) {
	if f.since.IsZero() {
		f.since = now
	}
	f.placed, f.seen = placed, f.seen || len(placed) == 0
}

// missing is closed once more of the rules have been seen; nil: all have.
func (f *firewall) missing() <-chan struct{} {
	for _, p := range f.placed {
		select {
		case <-p:
		default:
			return p
		}
	}
	return nil
}

// inPlace reports whether all rules have been seen.
func (f *firewall) inPlace() bool {
	f.seen = f.seen || !f.since.IsZero() && f.missing() == nil
	return f.seen
}

// news is closed where it has not been heard yet that more of the rules are in place.
func (f *firewall) news() <-chan struct{} {
	if f.heard || len(f.placed) == 0 {
		return nil
	}
	if p := f.missing(); p != nil {
		return p
	}
	return f.placed[0]
}

// left is how long Ready has to wait for them.
func (f *firewall) left(now time.Time) time.Duration {
	if f.inPlace() {
		return 0
	}
	return f.since.Add(firstRulesTime).Sub(now)
}

// await waits until the firewall lets in what comes by the next setup: peers use it
// once they hear of it.
func (f *firewall) await(ctx context.Context) {
	timer := time.NewTimer(rulesTime)
	defer timer.Stop()
	for p := f.missing(); p != nil; p = f.missing() {
		select {
		case <-p:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
