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
type rounds struct {
	options  Options
	placed   map[string]bool // the wanted rules have been in place
	failures map[string]int
	repairs  map[string]row
	problems map[string]string
	reported map[string]string
	kept     []string
	retries  *backoff.ExponentialBackOff
}

// row is repairs of one chain that followed each other.
type row struct {
	count int
	last  time.Time
}

const (
	failuresToReport = 2 // one alone is a race with another program, lost
	repairsToReport  = 4 // so many in a row are no accident
	retryFirst       = 100 * time.Millisecond

	// rest is how long no change is looked at after a pass: those that dockerd
	// makes at its start, by the hundred, are worth few passes.
	rest = 20 * time.Millisecond
	// atOnce is how long repairs count as one: dockerd's start may need several.
	atOnce = time.Second
)

const contention = "another program undoes flanneld's rules again and again: find it (docker, firewalld, a configuration manager?) and let it leave them alone"

func newRounds(o Options) *rounds {
	r := &rounds{
		options: o, placed: map[string]bool{}, failures: map[string]int{}, repairs: map[string]row{}, problems: map[string]string{},
		retries: backoff.NewExponentialBackOff(),
	}
	r.retries.InitialInterval = min(retryFirst, o.Resync)
	r.retries.Multiplier = 2
	r.retries.MaxInterval = o.Resync
	return r
}

// fresh is called when other rules are wanted.
func (r *rounds) fresh() {
	clear(r.placed)
	clear(r.repairs)
	clear(r.problems)
}

// note logs and reports what came of a pass. It returns when the next is due at
// the latest, and how long changes may wait for it.
func (r *rounds) note(p rules.Result, now time.Time) (next, wait time.Duration) {
	wait = rest
	for _, o := range p.Outcomes {
		r.noteOne(o, now)
		if r.repairs[o.Subject].count >= repairsToReport {
			wait = r.options.Resync
		}
	}
	r.forget(p.Outcomes)
	if !maps.Equal(r.problems, r.reported) && r.options.Report != nil {
		r.options.Report(maps.Clone(r.problems))
	}
	r.reported = maps.Clone(r.problems)
	if !slices.Equal(p.Kept, r.kept) && r.options.Kept != nil {
		r.options.Kept(p.Kept)
	}
	r.kept = p.Kept
	if slices.ContainsFunc(p.Outcomes, func(o rules.Outcome) bool { return o.Err != nil }) {
		return min(r.retries.NextBackOff(), r.options.Resync), wait
	}
	r.retries.Reset()
	return r.options.Resync, wait
}

// forget drops the problems of chains that no pass speaks of any more.
func (r *rounds) forget(outcomes []rules.Outcome) {
	maps.DeleteFunc(r.problems, func(subject, _ string) bool {
		return !slices.ContainsFunc(outcomes, func(o rules.Outcome) bool { return o.Subject == subject })
	})
}

func (r *rounds) noteOne(o rules.Outcome, now time.Time) {
	if o.Err != nil {
		if r.failures[o.Subject]++; r.failures[o.Subject] >= failuresToReport {
			r.problems[o.Subject] = o.Err.Error()
		}
		return
	}
	r.failures[o.Subject] = 0
	if o.Wrong != "" && r.placed[o.Subject] && r.options.Repaired != nil {
		r.options.Repaired()
	}
	r.placed[o.Subject] = true
	count, news := r.repaired(o, now)
	if count >= repairsToReport {
		r.problems[o.Subject] = contention
		return
	}
	delete(r.problems, o.Subject)
	if news {
		klog.Infof("%s: put right: %s", o.Subject, o.Wrong)
	}
}

// repaired counts the repairs in a row up to now, and tells whether this is one
// more.
func (r *rounds) repaired(o rules.Outcome, now time.Time) (count int, news bool) {
	row := r.repairs[o.Subject]
	switch since := now.Sub(row.last); {
	case o.Wrong == "" && since < 2*r.options.Resync: // it stands, for a while
	case o.Wrong == "":
		row.count = 0
	case since >= atOnce:
		row.count, row.last, news = row.count+1, now, true
	}
	r.repairs[o.Subject] = row
	return row.count, news
}
