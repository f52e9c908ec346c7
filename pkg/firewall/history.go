package firewall

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/rules"
)

// history is what earlier passes did. It decides what is logged and reported of a
// pass, and when the next one is due.
type history struct {
	options  Options
	placed   map[string]bool // by chain: the wanted rules were in place
	failures map[string]int
	streaks  map[string]repairStreak
	problems map[string]condition.Condition
	reported map[string]condition.Condition
	hung     string // the subject of a program that did not answer in the last pass
	rules    []string
	retries  *backoff.ExponentialBackOff
}

// repairStreak is the repairs of one chain that followed each other.
type repairStreak struct {
	count int
	last  time.Time
}

const (
	failuresToReport = 2 // a single failure is a lost race with another program
	// repairsToReport in a row, each a second from the last, are a fight: dockerd puts rules in
	// front of ours for each container, and a start of several on a slow host takes a while.
	repairsToReport = 12
	retryFirst      = 100 * time.Millisecond

	// quietTime is how long changes are ignored after a pass: dockerd makes
	// hundreds of them when it starts, which should cost few passes.
	quietTime = 20 * time.Millisecond
	// burstTime is how long repairs count as one: a start of dockerd may need
	// several.
	burstTime = time.Second
)

const contention = "another program undoes flanneld's rules again and again: " +
	"find it (docker, firewalld, a configuration manager?) and let it leave them alone"

func newHistory(o Options) *history {
	h := &history{
		options: o, placed: map[string]bool{}, failures: map[string]int{}, streaks: map[string]repairStreak{},
		problems: map[string]condition.Condition{}, retries: backoff.NewExponentialBackOff(),
	}
	h.retries.InitialInterval = min(retryFirst, o.Resync)
	h.retries.Multiplier = 2
	h.retries.MaxInterval = o.Resync
	return h
}

// reset is called when other rules are wanted.
func (h *history) reset() {
	clear(h.placed)
	clear(h.streaks)
}

// record logs and reports the result of a pass. It returns when the next pass is
// due at the latest, and how long changes are ignored until then.
func (h *history) record(p rules.Result, now time.Time) (next, quiet time.Duration) {
	quiet, h.hung = quietTime, ""
	for _, o := range p.Outcomes {
		h.recordOne(o, now)
		if h.streaks[o.Subject].count >= repairsToReport {
			quiet = h.options.Resync
		}
	}
	h.dropGone(p.Outcomes)
	h.report()
	if !slices.Equal(p.Rules, h.rules) && h.options.Rules != nil {
		h.options.Rules(p.Rules)
	}
	h.rules = p.Rules
	if p.Failed() {
		next = min(h.retries.NextBackOff(), h.options.Resync)
		if slices.ContainsFunc(p.Outcomes, func(o rules.Outcome) bool { return errors.Is(o.Err, rules.ErrNotThere) }) {
			quiet = max(quiet, next) // our own writes are changes, too
		}
		return next, quiet
	}
	h.retries.Reset()
	return h.options.Resync, quiet
}

// report tells what is wrong, if that is news.
func (h *history) report() {
	if !maps.Equal(h.problems, h.reported) && h.options.Report != nil {
		h.options.Report(maps.Clone(h.problems))
	}
	h.reported = maps.Clone(h.problems)
}

// noAnswer tells of a program that does not answer, before its pass ends.
func (h *history) noAnswer(err rules.NoAnswer) {
	h.problems[err.Subject()] = notApplied(err.Subject(), err)
	h.report()
}

func notApplied(subject string, err error) condition.Condition {
	var lacks rules.Lacks
	errors.As(err, &lacks)
	return condition.Condition{
		Code: condition.FirewallNotApplied, Subject: subject, Message: subject,
		Cause: err.Error(), Denied: condition.Denied(err), Fix: lacks.Fix,
	}
}

// dropGone drops the problems of chains that the last pass did not look at.
func (h *history) dropGone(outcomes []rules.Outcome) {
	maps.DeleteFunc(h.problems, func(subject string, _ condition.Condition) bool {
		if subject == h.hung {
			return false
		}
		return !slices.ContainsFunc(outcomes, func(o rules.Outcome) bool { return o.Subject == subject })
	})
}

func (h *history) recordOne(o rules.Outcome, now time.Time) {
	var silent rules.NoAnswer
	if errors.As(o.Err, &silent) { // as noAnswer has said
		h.hung = silent.Subject()
		h.problems[h.hung] = notApplied(h.hung, silent)
		return
	}
	if o.Err != nil {
		if h.failures[o.Subject]++; h.failures[o.Subject] >= failuresToReport {
			h.problems[o.Subject] = notApplied(o.Subject, o.Err)
		}
		return
	}
	h.failures[o.Subject] = 0
	if o.Drift != "" && h.placed[o.Subject] && h.options.Repaired != nil {
		h.options.Repaired()
	}
	h.placed[o.Subject] = true
	count, isNew := h.countRepair(o, now)
	if count >= repairsToReport {
		h.problems[o.Subject] = condition.Condition{
			Code: condition.FirewallContention, Subject: o.Subject, Message: o.Subject, Cause: contention,
		}
		return
	}
	delete(h.problems, o.Subject)
	if isNew {
		klog.InfoS("Wrote firewall rules", "chain", o.Subject, "reason", o.Drift)
	}
}

// countRepair counts the repairs in a row, and reports whether this outcome is a
// new one.
func (h *history) countRepair(o rules.Outcome, now time.Time) (count int, isNew bool) {
	streak := h.streaks[o.Subject]
	switch since := now.Sub(streak.last); {
	case o.Drift == "" && since < 2*h.options.Resync: // not long enough to count as stable
	case o.Drift == "":
		streak.count = 0
	case since >= burstTime:
		streak.count, streak.last, isNew = streak.count+1, now, true
	}
	h.streaks[o.Subject] = streak
	return streak.count, isNew
}
