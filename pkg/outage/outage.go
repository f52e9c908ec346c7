// Package outage paces the retries of something that fails, and says so at
// once, again at growing intervals, and when it is over.
package outage

import (
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/klog/v2"
)

// Outage belongs to one thing that may fail. It is for one goroutine.
type Outage struct {
	what    string
	reason  string
	since   time.Time
	said    time.Time
	silence time.Duration
	retries *backoff.ExponentialBackOff
}

const (
	retryFirst   = 100 * time.Millisecond
	silenceFirst = 10 * time.Second
	silenceLast  = 10 * time.Minute
)

// New returns an Outage of what, a phrase such as "read from etcd". Retries
// begin after 100 ms and become rarer up to longest, with jitter.
func New(what string, longest time.Duration) *Outage {
	o := &Outage{what: what, retries: backoff.NewExponentialBackOff()}
	o.retries.InitialInterval = retryFirst
	o.retries.MaxInterval = longest * 2 / 3 // to which jitter adds up to a half
	o.retries.Multiplier = 2
	return o
}

// Failed notes a failure and returns how long to wait before the next try.
func (o *Outage) Failed(err error) time.Duration {
	now := time.Now()
	switch {
	case o.since.IsZero():
		o.since, o.said, o.silence = now, now, silenceFirst
		klog.Errorf("cannot %s: %v; trying again until it works", o.what, err)
	case now.Sub(o.said) >= o.silence:
		o.said, o.silence = now, min(2*o.silence, silenceLast)
		klog.Errorf("still cannot %s after %v: %v", o.what, now.Sub(o.since).Round(time.Second), err)
	}
	o.reason = err.Error()
	return o.retries.NextBackOff()
}

// Worked notes a success, and returns how long the outage was that it ends.
func (o *Outage) Worked() (ended time.Duration) {
	if !o.since.IsZero() {
		ended = time.Since(o.since)
		klog.Infof("can %s again after %v", o.what, ended.Round(100*time.Millisecond))
	}
	o.since, o.reason = time.Time{}, ""
	o.retries.Reset()
	return ended
}

// Reason is the present failure; "" where all is well.
func (o *Outage) Reason() string { return o.reason }
