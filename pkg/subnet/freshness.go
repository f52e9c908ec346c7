package subnet

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
)

// StaleAfter is how old what is known of the store may be and still count as
// current. A Registry finds a silent member within 15 seconds, and lists that
// take the place of a watch come about every ten.
const StaleAfter = 20 * time.Second

// shortWatch is the life of a watch that ended as good as at once. Whatever the
// reason, it is no success, and lists do not follow each other without a pause.
const shortWatch = 10 * time.Second

// vainWatches is how many watches in a row may not come to stand, as an etcd that comes and goes
// has it, until lists take their place: a watch that goes on in vain tells nothing.
const vainWatches = 2

// pollLongest is how far apart lists are where no watch lasts.
const pollLongest = 10 * time.Second

// evidence is what shows that the store is known.
type evidence struct {
	listed  time.Time // when the last list that arrived was asked for
	failing bool      // the last list did not arrive
}

// until is up to when the store is known, and whether that is recent. proven is
// what the Registry says of its watch.
func (e evidence) until(proven, now time.Time) (read time.Time, current bool) {
	if e.listed.IsZero() {
		return time.Time{}, false
	}
	read = e.listed
	if proven.After(read) {
		read = proven
	}
	return read, !e.failing && now.Sub(read) < StaleAfter
}

// ended notes that a watch has ended, and returns how long to wait before what comes next: a
// watch that goes on, or a list. The watch was tried for some time, and what came before it took
// that long.
func (m *Manager) ended(err error, tried, took time.Duration) (wait time.Duration) {
	resumed, lost := m.resumes, errors.Is(err, ErrHistoryLost)
	m.resumes = err != nil && !lost
	if errors.Is(err, ErrRenewed) {
		return 0
	}
	if m.lasts {
		if lost {
			klog.InfoS("Listing everything in etcd again", "reason", err)
		}
		return 0
	}
	switch {
	case err == nil:
	case lost && resumed:
		klog.InfoS("Listing everything in etcd again", "reason", err)
	case lost: // many changes at once do that: the last of them must be known soon
		klog.V(1).InfoS("Listing everything in etcd again", "reason", err)
	default:
		// One may happen to be of a member that is just leaving. Where no watch lasts, lists take its place.
		held := m.vain > 0 && tried >= shortWatch // back, and never stood
		if m.short++; m.short > 1 || m.vain > vainWatches || held {
			m.resumes = false
			wait = max(0, m.watches.Failed(likelyCause(err))-tried)
		}
	}
	return wait + pace(took)
}

// lasted notes that a watch stands for good.
func (m *Manager) lasted() {
	m.short, m.lasts = 0, true
	m.watches.Succeeded()
}

// likelyCause adds to the error of a watch that ended at once what is behind it
// most often.
func likelyCause(err error) error {
	if condition.Denied(err) || errors.Is(err, ErrSilent) {
		return err
	}
	return fmt.Errorf("%w (a proxy in front of etcd must carry requests that last for minutes; "+
		"until then everything is listed every few seconds)", err)
}
