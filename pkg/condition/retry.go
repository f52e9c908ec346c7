package condition

import (
	"errors"
	"io/fs"
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/klog/v2"

	"flanneld/pkg/printable"
)

// Retry paces the retries of one thing that may fail, and keeps its condition. A
// failure is logged at once, again at growing intervals, and when it is over. It
// is for one goroutine.
type Retry struct {
	set     *Set
	code    Code
	what    string
	last    string // error
	since   time.Time
	logged  time.Time
	silence time.Duration
	retries *backoff.ExponentialBackOff
}

const (
	retryFirst   = 100 * time.Millisecond
	silenceFirst = 10 * time.Second
	silenceLast  = 10 * time.Minute
)

// NewRetry returns a Retry of what, a phrase such as "read from etcd". Retries
// begin after 100 ms and become rarer up to longest, with jitter.
func NewRetry(s *Set, code Code, what string, longest time.Duration) *Retry {
	r := &Retry{set: s, code: code, what: what, retries: backoff.NewExponentialBackOff()}
	r.retries.InitialInterval = retryFirst
	r.retries.MaxInterval = longest * 2 / 3 // to which jitter adds up to a half
	r.retries.Multiplier = 2
	return r
}

// Failed notes a failure and returns how long to wait before the next try.
func (r *Retry) Failed(err error) time.Duration {
	now := time.Now()
	if text := err.Error(); r.since.IsZero() || text != r.last {
		r.last = text
		r.set.put(Condition{Code: r.code, Message: "cannot " + r.what, Cause: text, Denied: Denied(err)})
	}
	switch {
	case r.since.IsZero():
		r.since, r.logged, r.silence = now, now, silenceFirst
		klog.ErrorS(oneLine(err), "Cannot "+r.what+": trying again until it works", "condition", r.code)
		r.set.note("cannot " + r.what + ": " + r.last)
	case now.Sub(r.logged) >= r.silence:
		r.logged, r.silence = now, min(2*r.silence, silenceLast)
		klog.ErrorS(oneLine(err), "Still cannot "+r.what, "condition", r.code, "lasted", now.Sub(r.since).Round(time.Second))
	}
	return r.retries.NextBackOff()
}

// Succeeded notes a success, and returns how long the failure was that it ends.
func (r *Retry) Succeeded() (ended time.Duration) {
	if !r.since.IsZero() {
		ended = time.Since(r.since)
		klog.InfoS("Can "+r.what+" again", "condition", r.code, "lasted", ended.Round(100*time.Millisecond))
		r.set.note("over: cannot " + r.what)
	}
	r.set.take(id{code: r.code})
	r.since = time.Time{}
	r.retries.Reset()
	return ended
}

// Failing reports whether the last try failed.
func (r *Retry) Failing() bool { return !r.since.IsZero() }

func oneLine(err error) error { return errors.New(printable.Bounded(err.Error(), printable.Longest)) }

// Denied reports whether an error means a lack of rights: the kernel's EPERM and
// EACCES, and whatever wraps fs.ErrPermission.
func Denied(err error) bool { return errors.Is(err, fs.ErrPermission) }
