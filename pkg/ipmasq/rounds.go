package ipmasq

import (
	"maps"
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/klog/v2"
)

// rounds remembers the passes: what to say of them, and when to make the next.
type rounds struct {
	options  Options
	swept    bool          // the chains in which nothing is wanted hold nothing of ours
	placed   map[home]bool // the wanted rules have been in place
	failures map[home]int
	repairs  map[home]int
	problems map[string]string
	reported map[string]string
	retries  *backoff.ExponentialBackOff
}

const (
	failuresToReport = 2 // one alone is a race with another program, lost
	repairsToReport  = 4 // so many passes in a row had something to put right
	retryFirst       = 100 * time.Millisecond
)

const tugOfWar = "another program undoes flanneld's rules again and again: find it (docker, firewalld, a configuration manager?) and let it leave them alone"

func newRounds(o Options) *rounds {
	r := &rounds{
		options: o, placed: map[home]bool{}, failures: map[home]int{}, repairs: map[home]int{}, problems: map[string]string{},
		retries: backoff.NewExponentialBackOff(),
	}
	r.retries.InitialInterval = min(retryFirst, o.Resync)
	r.retries.Multiplier = 2
	r.retries.MaxInterval = o.Resync
	return r
}

// fresh is called when other rules are wanted.
func (r *rounds) fresh() {
	r.swept = false
	clear(r.placed)
	clear(r.repairs)
	clear(r.problems)
}

// note logs and reports what came of a pass, and returns when the next is due.
func (r *rounds) note(outcomes []outcome) time.Duration {
	failed := false
	for _, o := range outcomes {
		r.noteOne(o)
		failed = failed || o.err != nil
	}
	if !maps.Equal(r.problems, r.reported) {
		r.reported = maps.Clone(r.problems)
		if r.options.Report != nil {
			r.options.Report(maps.Clone(r.problems))
		}
	}
	if failed {
		return min(r.retries.NextBackOff(), r.options.Resync)
	}
	r.swept = true
	r.retries.Reset()
	return r.options.Resync
}

func (r *rounds) noteOne(o outcome) {
	subject := "iptables " + o.home.String()
	if o.err != nil {
		if r.failures[o.home]++; r.failures[o.home] >= failuresToReport {
			r.problems[subject] = o.err.Error()
		}
		return
	}
	r.failures[o.home] = 0
	if o.wrong != "" && r.placed[o.home] && r.options.Repaired != nil {
		r.options.Repaired()
	}
	r.placed[o.home] = true
	if o.wrong == "" {
		r.repairs[o.home] = 0
	} else {
		r.repairs[o.home]++
	}
	if r.repairs[o.home] >= repairsToReport {
		r.problems[subject] = tugOfWar
		return
	}
	delete(r.problems, subject)
	if o.wrong != "" {
		klog.Infof("%s: put right: %s", subject, o.wrong)
	}
}
