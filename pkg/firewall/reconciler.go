package firewall

import (
	"context"
	"fmt"
	"sync"
	"time"

	"flanneld/pkg/firewall/rules"
)

// Options are what a Reconciler needs.
type Options struct {
	// Writers write what there shall be, each in its own notation, and remove
	// what there shall not be: iptables', and behind it nftables', which marks
	// packets for it.
	Writers []Writer
	// Changed tells that another program may have changed rules. Nil: nobody
	// does.
	Changed <-chan struct{}
	// Resync is how often the rules are looked at all the same: iptables-legacy
	// tells of no change.
	Resync time.Duration
	// Report is told what does not work, one text per chain, whenever that
	// changes; an empty map means that all is well. It is called from Run.
	Report func(problems map[string]string)
	// Kept is told which rules there shall be, for operators to read, whenever
	// that changes. It is called from Run.
	Rules func(rules []string)
	// Repaired is told whenever rules that were in place had to be put right.
	// It is called from Run.
	Repaired func()
}

// Writer brings rules into the kernel. Put compares and, where anything differs,
// writes. marks says that a writer in front needs packets from peers to be marked.
type Writer interface {
	Apply(ctx context.Context, w rules.Wanted, marks bool) rules.Result
}

// Reconciler keeps the wanted rules in place. Rules stay when it ends, so that
// traffic flows on.
type Reconciler struct {
	options Options
	changed chan struct{} // one slot: Set was called

	mu     sync.Mutex
	wanted *rules.Wanted // nil: Set was not called yet
	placed chan struct{} // closed once a pass has been made for it
	marks  bool          // it matters which peers there are
}

// New returns a Reconciler; Run starts it.
func New(o Options) (*Reconciler, error) {
	if o.Resync <= 0 {
		return nil, fmt.Errorf("resync period of firewall rules is %v: it must be positive", o.Resync)
	}
	return &Reconciler{options: o, changed: make(chan struct{}, 1)}, nil
}

func (r *Reconciler) String() string { return "firewall" }

// Set says what there shall be: all of it, each time. Until the first call
// nothing is written. It may be called at any time from any goroutine. What it
// returns is closed once a pass has been made for this, well or badly; never where
// another Set comes before.
func (r *Reconciler) Set(w rules.Wanted) (placed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted != nil && (r.wanted.Equal(w) || !r.marks && r.wanted.SameDevices(w)) {
		r.wanted = &w
		return r.placed
	}
	r.wanted, r.placed = &w, make(chan struct{})
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return r.placed
}

func (r *Reconciler) latest() (w *rules.Wanted, placed chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted, r.placed
}

// learn notes what a pass for w has found out.
func (r *Reconciler) setMarks(w rules.Wanted, marks bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.marks = marks; marks && !r.wanted.Equal(w) { // peers have come meanwhile
		select {
		case r.changed <- struct{}{}:
		default:
		}
	}
}

// Run looks after the rules until ctx ends, which is its only end.
func (r *Reconciler) Run(ctx context.Context) error {
	history := newHistory(r.options)
	timer, quietOver := time.NewTimer(r.options.Resync), time.NewTimer(0)
	defer timer.Stop()
	defer quietOver.Stop()
	var changes <-chan struct{} // nil while it rests
	var closed chan struct{}    // the last that was closed
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
			history.reset()
		case <-quietOver.C:
			changes = r.options.Changed
			continue
		case <-changes:
		case <-timer.C:
		}
		wanted, placed := r.latest()
		if wanted == nil {
			timer.Reset(r.options.Resync)
			continue
		}
		// iptables may wait for its lock longer than we may take to end.
		done, start := make(chan rules.Result, 1), time.Now()
		go func() { done <- r.pass(ctx, *wanted) }()
		select {
		case <-ctx.Done():
			return nil
		case p := <-done:
			r.setMarks(*wanted, p.Marks)
			next, quiet := history.record(p, time.Now())
			timer.Reset(next)
			changes = nil
			if placed != closed {
				close(placed)
				closed = placed
			}
			quietOver.Reset(max(quiet, 4*time.Since(start)))
		}
	}
}

func (r *Reconciler) pass(ctx context.Context, w rules.Wanted) (all rules.Result) {
	for _, writer := range r.options.Writers {
		one := writer.Apply(ctx, w, all.Marks)
		all.Outcomes, all.Rules = append(all.Outcomes, one.Outcomes...), append(all.Rules, one.Rules...)
		all.Marks = all.Marks || one.Marks
	}
	return all
}
