package firewall

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/rules"
)

// Options are what a Reconciler needs.
type Options struct {
	// Writers write the wanted rules, each in its own notation, and remove the
	// ones that are no longer wanted. The one of iptables comes first: the one of
	// nftables marks packets for its rules.
	Writers []Writer
	// Changed signals that another program may have changed rules. Nil: there is
	// no such signal.
	Changed <-chan struct{}
	// Resync is how often the rules are read without such a signal: iptables-legacy
	// sends none.
	Resync time.Duration
	// Report is called from Run whenever what is wrong changes, with all of it by
	// chain; an empty map means that there is nothing.
	Report func(map[string]condition.Condition)
	// Rules is called from Run whenever the list of wanted rules changes, as text
	// for operators to read.
	Rules func(rules []string)
	// Repaired is called from Run whenever rules that had been in place had to be
	// written again.
	Repaired func()
}

// Writer brings rules into the kernel. Apply compares and, where anything differs,
// writes. marks means that rules of an earlier Writer need packets from peers to be
// marked.
type Writer interface {
	Apply(ctx context.Context, w rules.Wanted, marks bool) rules.Result
}

// waiter is a Writer that runs programs, which may hang.
type waiter interface {
	WaitsFor() (program string, lasted time.Duration)
}

// marker is a Writer that marks packets, where the kernel has what that needs.
type marker interface {
	CanMark(w rules.Wanted) bool
}

// How long a program may run before it is told of: it may well be slow where the rules
// have been seen in place.
const (
	slowTime       = 3 * time.Second
	slowTimePlaced = 10 * time.Second
)

// Reconciler keeps the wanted rules of one family in place. Rules stay when it ends, so
// that traffic flows on.
type Reconciler struct {
	options Options
	changed chan struct{} // one slot: Set or Remove was called

	mu    sync.Mutex
	goal  *goal // nil: Set was not called yet
	marks bool  // rules depend on which peers there are
}

// goal is what there must be.
type goal struct {
	wanted rules.Wanted
	ends   bool          // once it is reached, nobody looks any more
	placed chan struct{} // closed once its rules have been seen in place
}

// New returns a Reconciler; Run starts it.
func New(o Options) (*Reconciler, error) {
	if o.Resync <= 0 {
		return nil, fmt.Errorf("resync period of firewall rules is %v: it must be positive", o.Resync)
	}
	return &Reconciler{options: o, changed: make(chan struct{}, 1)}, nil
}

func (r *Reconciler) String() string { return "firewall" }

// Set replaces everything that is wanted. Until the first call nothing is written.
// It may be called at any time from any goroutine. The channel is closed once the
// rules for w have been seen in place; it is never closed where another Set comes
// before that.
func (r *Reconciler) Set(w rules.Wanted) (placed <-chan struct{}) { return r.set(w, false) }

// Remove is Set for the time when a family is not in use: rules for networks of before
// go, and once they have been seen to be gone, nothing is read until the next Set.
func (r *Reconciler) Remove(network, former netip.Prefix, table string) (gone <-chan struct{}) {
	return r.set(rules.Wanted{Network: network, Subnet: network, Former: former, Table: table}, true)
}

func (r *Reconciler) set(w rules.Wanted, ends bool) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := &goal{wanted: w, ends: ends}
	if g := r.goal; g != nil && g.ends == ends && (g.wanted.Equal(w) || !r.marks && g.wanted.SameDevices(w)) {
		next.placed = g.placed
		r.goal = next
		return next.placed
	}
	next.placed = make(chan struct{})
	r.goal = next
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return next.placed
}

func (r *Reconciler) latest() *goal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.goal
}

// setMarks records whether the rules of a pass for w depend on marks.
func (r *Reconciler) setMarks(w rules.Wanted, marks bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.marks = marks; marks && !r.goal.wanted.Equal(w) { // peers were added meanwhile
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}

// Run keeps the rules in place until ctx ends, and then returns nil.
func (r *Reconciler) Run(ctx context.Context) error {
	history, cause := newHistory(r.options), ""
	timer, quietOver := time.NewTimer(r.options.Resync), time.NewTimer(0)
	defer timer.Stop()
	defer quietOver.Stop()
	var changes <-chan struct{} // nil during the quiet time after a pass
	var closed chan struct{}    // the one that was closed last
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
			history.reset()
			cause = "wanted"
		case <-quietOver.C:
			changes = r.options.Changed
			continue
		case <-changes:
			cause = "changed"
		case <-timer.C:
			cause = "timer"
		}
		goal := r.latest()
		if goal == nil {
			timer.Reset(r.options.Resync)
			continue
		}
		// In the background: iptables may wait for its lock longer than we may
		// take to stop.
		done, start := make(chan rules.Result, 1), time.Now()
		go func() { done <- r.pass(ctx, goal.wanted) }()
		p, ended := r.await(ctx, done, history, goal.placed == closed)
		if !ended {
			return nil
		}
		logPass(cause, time.Since(start), p)
		r.setMarks(goal.wanted, p.Marks)
		next, quiet := history.record(p, time.Now())
		changes = nil
		if goal.placed != closed && !p.Failed() {
			close(goal.placed)
			closed = goal.placed
		}
		if goal.ends && goal.placed == closed { // only another goal is a reason to look
			timer.Stop()
			quietOver.Stop()
			continue
		}
		timer.Reset(next)
		quietOver.Reset(max(quiet, min(4*time.Since(start), longestRest)))
	}
}

// longestRest bounds how long changes are ignored after a pass that took long.
const longestRest = 20 * time.Second

// await waits for the end of a pass, and tells of a program that does not answer
// meanwhile. False: ctx has ended.
func (r *Reconciler) await(
	ctx context.Context, done <-chan rules.Result, h *history, placed bool,
) (p rules.Result, ended bool) {
	limit := slowTime
	if placed {
		limit = slowTimePlaced
	}
	look := time.NewTicker(slowTime / 3)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return p, false
		case p = <-done:
			return p, true
		case <-look.C:
			for _, w := range r.options.Writers {
				if w, runs := w.(waiter); runs {
					if program, lasted := w.WaitsFor(); lasted >= limit {
						h.noAnswer(rules.NoAnswer{Program: program})
					}
				}
			}
		}
	}
}

// pass brings the rules about. What was written is read again: only rules that were
// seen are in place.
func (r *Reconciler) pass(ctx context.Context, w rules.Wanted) rules.Result {
	first := r.apply(ctx, w)
	if ctx.Err() != nil || first.Failed() || !first.Wrote() {
		return first
	}
	seen := r.apply(ctx, w)
	drifts := map[string]string{}
	for _, o := range first.Outcomes {
		drifts[o.Subject] = o.Drift
	}
	for i, o := range seen.Outcomes {
		if o.Err == nil && o.Drift != "" && drifts[o.Subject] != "" {
			seen.Outcomes[i].Err = fmt.Errorf("%s: the kernel %w: %s", o.Subject, rules.ErrNotThere, o.Drift)
		} else if o.Drift == "" {
			seen.Outcomes[i].Drift = drifts[o.Subject]
		}
		delete(drifts, o.Subject)
	}
	for _, o := range first.Outcomes { // a chain that had rules of ours, and has none now
		if _, gone := drifts[o.Subject]; gone {
			seen.Outcomes = append(seen.Outcomes, o)
		}
	}
	return seen
}

func (r *Reconciler) apply(ctx context.Context, w rules.Wanted) (all rules.Result) {
	for _, writer := range r.options.Writers {
		if m, marks := writer.(marker); marks {
			w.Marked = w.Marked && m.CanMark(w)
		}
	}
	for _, writer := range r.options.Writers {
		one := writer.Apply(ctx, w, all.Marks)
		all.Outcomes = append(all.Outcomes, one.Outcomes...)
		all.Rules = append(all.Rules, one.Rules...)
		all.Marks = all.Marks || one.Marks
	}
	return all
}

// logPass logs a pass at level 1.
func logPass(cause string, took time.Duration, p rules.Result) {
	v := klog.V(1)
	if !v.Enabled() {
		return
	}
	writes, failures := 0, 0
	for _, o := range p.Outcomes {
		if o.Err != nil {
			failures++
		} else if o.Drift != "" {
			writes++
		}
	}
	v.InfoS("Checked firewall rules", "cause", cause, "took", took, "writes", writes, "failures", failures)
}
