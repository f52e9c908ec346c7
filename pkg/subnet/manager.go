package subnet

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
)

// retryLongest, with jitter up to 1.2 s, is how long a newcomer waits at most
// once the store is back.
const retryLongest = 800 * time.Millisecond

// Options are what a Manager needs besides its Registry.
type Options struct {
	RenewMargin time.Duration // renew the lease this long before it expires
	Previous    netip.Prefix  // the subnet that the subnet file names; invalid: none
	Resumed     bool          // this host has worked with it: a store that does not know its lease has lost it

	// Conditions is where the manager keeps what is wrong with the store and the
	// lease. Nil: in a Set of its own.
	Conditions *condition.Set
}

// Manager follows the store and keeps this host's lease in it. One goroutine,
// Run, does both: it lists everything, watches from there, and after each
// change does the one write that is due, if any.
type Manager struct {
	registry   Registry
	conditions *condition.Set
	reads      *condition.Retry // Run's
	writes     *condition.Retry // Run's

	changed chan struct{} // one slot: View has something new
	claims  chan struct{} // one slot: Claim was called

	mu      sync.Mutex
	replica replica
	keeper  keeper
	claim   *Claim
	current bool // see View
}

// NewManager prepares a Manager; Run starts it.
func NewManager(r Registry, o Options) *Manager {
	if o.Conditions == nil {
		o.Conditions = &condition.Set{}
	}
	m := &Manager{
		registry:   r,
		conditions: o.Conditions,
		reads:      condition.NewRetry(o.Conditions, condition.EtcdUnreadable, "read from etcd", retryLongest),
		writes:     condition.NewRetry(o.Conditions, condition.EtcdUnwritable, "write this host's lease to etcd", retryLongest),

		changed: make(chan struct{}, 1),
		claims:  make(chan struct{}, 1),
		keeper:  keeper{margin: o.RenewMargin, previous: o.Previous},
	}
	if o.Resumed {
		m.replica.ours = o.Previous
	}
	return m
}

// View is what is known at one moment. It belongs to its receiver.
type View struct {
	Listed    bool              // a full list has arrived
	Config    string            // the config key's value; empty: no such key
	Own       Lease             // the lease that this host holds; zero: none
	Leases    []Lease           // every well-formed lease, our own too, in the order of their subnets
	Doubtful  bool              // leases may be missing though their holders live: what is not here may still exist
	Malformed map[string]string // key → what is wrong with the entry
	Current   bool              // a watch has stood since the last list: every change is known
}

// View returns the present state. Call it after Changed.
func (m *Manager) View() View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return View{
		Listed: m.replica.listed, Config: m.replica.config, Own: m.keeper.held,
		Leases: m.replica.all(), Doubtful: m.replica.doubtful(time.Now()), Malformed: maps.Clone(m.replica.malformed),
		Current: m.current,
	}
}

// Changed signals that View has something new; a burst of changes is one signal.
func (m *Manager) Changed() <-chan struct{} { return m.changed }

// Claim says what this host wants. Until the first call nothing is written.
func (m *Manager) Claim(c Claim) {
	m.mu.Lock()
	m.claim = &c
	m.mu.Unlock()
	signal(m.claims)
}

func signal(slot chan struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}

func (m *Manager) String() string { return "lease manager" }

// Run works until ctx ends. Nothing that the store says or fails to say ends it.
//
// When a watch breaks everything is listed again, though the store would let
// the watch go on where it stopped: it may have been replaced by another one
// meanwhile, whose indexes mean other things.
func (m *Manager) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		asked := time.Now()
		snapshot, err := m.registry.List(ctx)
		if err == nil {
			took := time.Since(asked)
			m.reached()
			m.update(func() { m.replica.replace(snapshot, time.Now()) })
			start := time.Now()
			err = m.follow(ctx, snapshot.Index)
			if time.Since(start) < shortWatch {
				pause(ctx, pace(took))
			}
		}
		switch {
		case ctx.Err() != nil || err == nil:
		case errors.Is(err, ErrHistoryLost):
			klog.Infof("listing everything in etcd again: %v", err)
		default:
			m.setCurrent(false)
			pause(ctx, m.reads.Failed(err))
		}
	}
	return nil
}

// setCurrent notes whether changes are heard of, for those who ask: nobody need
// act on it.
func (m *Manager) setCurrent(current bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = current
}

// shortWatch is the life of a watch that ended as good as at once: whatever
// the reason, lists do not follow each other without a pause.
const shortWatch = 10 * time.Second

// pace is how long to wait after a list that took that long, with jitter, where
// another follows: the more etcd has to do, the longer it is left alone.
func pace(took time.Duration) time.Duration {
	base := min(max(10*took, retryLongest/8), retryLongest)
	return base/2 + rand.N(base)
}

// outageToDoubt is so long that leases may have ended meanwhile whose holders
// could not renew them.
const outageToDoubt = 30 * time.Second

// reached notes that the store answers.
func (m *Manager) reached() {
	if away := m.reads.Succeeded(); away > outageToDoubt {
		m.update(func() { m.replica.suspect("it was away for "+away.Round(time.Second).String(), time.Now()) })
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// update changes the state and tells the receiver of View.
func (m *Manager) update(change func()) {
	m.mu.Lock()
	change()
	m.noteConditions(time.Now())
	m.mu.Unlock()
	signal(m.changed)
}

// follow applies events and keeps the lease until ctx ends, the watch breaks,
// or a new list is needed for another reason, which is no error.
func (m *Manager) follow(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	events, broken := make(chan []Event), make(chan error, 1)
	var watching sync.WaitGroup
	watching.Go(func() { broken <- m.watch(ctx, index, events) })
	defer watching.Wait()
	defer cancel()

	var await uint64    // our last write's index: nothing is decided before the replica has reached it
	var quiet time.Time // a write failed: no further one before this, whatever events arrive
	deadline := time.NewTimer(0)
	defer deadline.Stop()
	released := time.NewTimer(m.settle()) // what was held
	defer released.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return err
		case batch := <-events:
			m.update(func() { m.replica.apply(batch, time.Now()) })
			released.Reset(m.settle())
		case <-m.claims:
		case <-released.C:
			released.Reset(m.settle())
		case <-deadline.C:
			if await > 0 {
				klog.Warning("etcd has not announced this host's own write: listing everything again")
				return nil
			}
		}
		if await > m.index() || time.Now().Before(quiet) {
			continue
		}
		outcome := m.act(ctx)
		if outcome.relist {
			return nil
		}
		await, quiet = outcome.await, time.Time{}
		if outcome.failed {
			quiet = time.Now().Add(outcome.again)
		}
		deadline.Reset(outcome.again)
	}
}

// watch passes events on until ctx ends or the watch breaks.
func (m *Manager) watch(ctx context.Context, index uint64, events chan<- []Event) error {
	err := m.registry.Watch(ctx, index, func(batch []Event) {
		m.setCurrent(true)
		if len(batch) == 0 {
			return
		}
		select {
		case events <- batch:
		case <-ctx.Done():
		}
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrHistoryLost) {
		m.setCurrent(false)
	}
	return err
}

// settle lets go of what was held for long enough, and returns how long until
// it is to be called again.
func (m *Manager) settle() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed, next := m.replica.settle(time.Now())
	m.noteConditions(time.Now())
	if changed {
		signal(m.changed)
	}
	return next
}

func (m *Manager) index() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.replica.index
}

// outcome is what follows from one look at the lease.
type outcome struct {
	again  time.Duration // look again after this long at the latest
	await  uint64        // decide nothing before the replica has reached this index
	relist bool          // the replica is not to be trusted
	failed bool          // a write failed: do nothing at all for that long
}

// announced bounds the time between a write and its event.
const announced = 5 * time.Second

// act does what is due about our lease.
func (m *Manager) act(ctx context.Context) outcome {
	m.mu.Lock()
	if m.claim == nil {
		m.mu.Unlock()
		return outcome{again: lookAgain}
	}
	before := m.keeper.held
	due := m.keeper.next(&m.replica, *m.claim, time.Now())
	m.noteConditions(time.Now())
	if m.keeper.held != before {
		m.replica.ours = m.keeper.held.Subnet
		signal(m.changed)
	}
	m.mu.Unlock()
	if due.do == wait {
		return outcome{again: due.wait}
	}

	stored, err := m.write(ctx, due)
	switch {
	case errors.Is(err, ErrConflict):
		m.writes.Succeeded()
		m.mu.Lock()
		defer m.mu.Unlock()
		// Somebody was faster. That the replica does not show it yet is
		// normal where the key is new to us, and wrong where it was ours.
		return outcome{relist: !m.keeper.refuse(due.entry.Key)}
	case err != nil:
		m.keeper.wrote(0)
		return outcome{again: m.writes.Failed(err), failed: true}
	}
	m.writes.Succeeded()
	m.keeper.wrote(stored.Modified)
	if due.do == refresh {
		m.update(func() { // no event tells of it
			m.replica.put(stored, time.Now())
			m.keeper.renewed(stored, time.Now())
		})
		return outcome{}
	}
	return outcome{await: stored.Modified, again: announced}
}

func (m *Manager) write(ctx context.Context, s step) (Entry, error) {
	switch s.do {
	case refresh:
		return m.registry.Refresh(ctx, s.entry)
	case remove:
		return Entry{}, m.registry.Delete(ctx, s.entry)
	default:
		return m.registry.Put(ctx, s.entry)
	}
}
