package subnet

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/klog/v2"
)

// outage paces the retries of something that fails, and says so at once, again
// at growing intervals, and when it is over.
type outage struct {
	what    string // "read from etcd"
	since   time.Time
	said    time.Time
	silence time.Duration
	retries *backoff.ExponentialBackOff
}

const (
	retryFirst   = 100 * time.Millisecond
	retryLongest = 800 * time.Millisecond // with jitter up to 1.2 s: a newcomer waits no longer once the store is back
	silenceFirst = 10 * time.Second
	silenceLast  = 10 * time.Minute
)

func newOutage(what string) *outage {
	o := &outage{what: what, retries: backoff.NewExponentialBackOff()}
	o.retries.InitialInterval = retryFirst
	o.retries.MaxInterval = retryLongest
	o.retries.Multiplier = 2
	return o
}

// failed notes a failure and returns how long to wait before the next try.
func (o *outage) failed(err error) time.Duration {
	now := time.Now()
	switch {
	case o.since.IsZero():
		o.since, o.said, o.silence = now, now, silenceFirst
		klog.Errorf("cannot %s: %v; trying again until it works", o.what, err)
	case now.Sub(o.said) >= o.silence:
		o.said, o.silence = now, min(2*o.silence, silenceLast)
		klog.Errorf("still cannot %s after %v: %v", o.what, now.Sub(o.since).Round(time.Second), err)
	}
	return o.retries.NextBackOff()
}

// worked notes a success.
func (o *outage) worked() {
	if !o.since.IsZero() {
		klog.Infof("can %s again after %v", o.what, time.Since(o.since).Round(100*time.Millisecond))
	}
	o.since = time.Time{}
	o.retries.Reset()
}
