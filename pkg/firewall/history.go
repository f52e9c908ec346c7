package firewall

import (
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/klog/v2"

	"flanneld/pkg/firewall/rules"
)

// rounds remembers the passes: what to say of them, and when to make the next.
type history struct {
	options  Options
	placed   map[string]bool // the wanted rules have been in place
	failures map[string]int
	streaks  map[string]repairStreak
	problems map[string]string
	reported map[string]string
	rules    []string
	retries  *backoff.ExponentialBackOff
}

// row is repairs of one chain that followed each other.
type repairStreak struct {
	count int
	last  time.Time
}

const (
	failuresToReport = 2 // one alone is a race with another program, lost
	repairsToReport  = 4 // so many in a row are no accident
	retryFirst       = 100 * time.Millisecond

	// rest is how long no change is looked at after a pass: those that dockerd
	// makes at its start, by the hundred, are worth few passes.
	quietTime = 20 * time.Millisecond
	// atOnce is how long repairs count as one: dockerd's start may need several.
	burstTime = time.Second
)

const contention = "another program undoes flanneld's rules again and again: find it (docker, firewalld, a configuration manager?) and let it leave them alone"

func newHistory(o Options) *history {
	h := &history{
		options: o, placed: map[string]bool{}, failures: map[string]int{}, streaks: map[string]repairStreak{}, problems: map[string]string{},
		retries: backoff.NewExponentialBackOff(),
	}
	h.retries.InitialInterval = min(retryFirst, o.Resync)
	h.retries.Multiplier = 2
	h.retries.MaxInterval = o.Resync
	return h
}

// fresh is called when other rules are wanted.
func (r *history) reset() {
	clear(r.placed)
	clear(r.streaks)
	clear(r.problems)
}

// note logs and reports what came of a pass. It returns when the next is due at
// the latest, and how long changes may wait for it.
func (r *history) record(p rules.Result, now time.Time) (next, quiet time.Duration) {
	quiet = quietTime
	for _, o := range p.Outcomes {
		r.recordOne(o, now)
		if r.streaks[o.Subject].count >= repairsToReport {
			quiet = r.options.Resync
		}
	}
	r.dropGone(p.Outcomes)
	if !maps.Equal(r.problems, r.reported) && r.options.Report != nil {
		r.options.Report(maps.Clone(r.problems))
	}
	r.reported = maps.Clone(r.problems)
	if !slices.Equal(p.Rules, r.rules) && r.options.Rules != nil {
		r.options.Rules(p.Rules)
	}
	r.rules = p.Rules
	if slices.ContainsFunc(p.Outcomes, func(o rules.Outcome) bool { return o.Err != nil }) {
		return min(r.retries.NextBackOff(), r.options.Resync), quiet
	}
	r.retries.Reset()
	return r.options.Resync, quiet
}

// forget drops the problems of chains that no pass speaks of any more.
func (r *history) dropGone(outcomes []rules.Outcome) {
	maps.DeleteFunc(r.problems, func(subject, _ string) bool {
		return !slices.ContainsFunc(outcomes, func(o rules.Outcome) bool { return o.Subject == subject })
	})
}

func (r *history) recordOne(o rules.Outcome, now time.Time) {
	if o.Err != nil {
		if r.failures[o.Subject]++; r.failures[o.Subject] >= failuresToReport {
			r.problems[o.Subject] = o.Err.Error()
		}
		return
	}
	r.failures[o.Subject] = 0
	if o.Drift != "" && r.placed[o.Subject] && r.options.Repaired != nil {
		r.options.Repaired()
	}
	r.placed[o.Subject] = true
	count, isNew := r.countRepair(o, now)
	if count >= repairsToReport {
		r.problems[o.Subject] = contention
		return
	}
	delete(r.problems, o.Subject)
	if isNew {
		klog.Infof("%s: put right: %s", o.Subject, o.Drift)
	}
}

// repaired counts the repairs in a row up to now, and tells whether this is one
// more.
func (r *history) countRepair(o rules.Outcome, now time.Time) (count int, isNew bool) {
	streak := r.streaks[o.Subject]
	switch since := now.Sub(streak.last); {
	case o.Drift == "" && since < 2*r.options.Resync: // it stands, for a while
	case o.Drift == "":
		streak.count = 0
	case since >= burstTime:
		streak.count, streak.last, isNew = streak.count+1, now, true
	}
	r.streaks[o.Subject] = streak
	return streak.count, isNew
}
