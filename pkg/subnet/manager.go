package subnet

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/outage"
)

// retryLongest, with jitter up to 1.2 s, is how long a newcomer waits at most
// once the store is back.
const retryLongest = 800 * time.Millisecond

// Options are what a Manager needs besides its Registry.
type Options struct {
	RenewMargin time.Duration // renew the lease this long before it expires
	Previous    netip.Prefix  // the subnet that the subnet file names; invalid: none
}

// Manager follows the store and keeps this host's lease in it. One goroutine,
// Run, does both: it lists everything, watches from there, and after each
// change does the one write that is due, if any.
type Manager struct {
	registry Registry
	changed  chan struct{} // one slot: View has something new
	claims   chan struct{} // one slot: Claim was called

	mu      sync.Mutex
	replica replica
	keeper  keeper
	claim   *Claim
}

// NewManager prepares a Manager; Run starts it.
func NewManager(r Registry, o Options) *Manager {
	return &Manager{
		registry: r,
		changed:  make(chan struct{}, 1),
		claims:   make(chan struct{}, 1),
		keeper:   keeper{margin: o.RenewMargin, previous: o.Previous},
	}
}

// View is what is known at one moment. It belongs to its receiver.
type View struct {
	Listed    bool                   // a full list has arrived: what is not here does not exist
	Config    string                 // the config key's value; empty: no such key
	Own       Lease                  // the lease that this host holds; zero: none
	Leases    map[netip.Prefix]Lease // every well-formed lease, our own too
	Malformed map[string]string      // key → what is wrong with the entry
}

// View returns the present state. Call it after Changed.
func (m *Manager) View() View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return View{
		Listed: m.replica.listed, Config: m.replica.config, Own: m.keeper.held,
		Leases: maps.Clone(m.replica.leases), Malformed: maps.Clone(m.replica.malformed),
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
func (m *Manager) Run(ctx context.Context) error {
	reads, writes := outage.New("read from etcd", retryLongest), outage.New("write this host's lease to etcd", retryLongest)
	for ctx.Err() == nil {
		snapshot, err := m.registry.List(ctx)
		if err != nil {
			if ctx.Err() == nil {
				pause(ctx, reads.Failed(err))
			}
			continue
		}
		reads.Worked()
		m.update(func() { m.replica.replace(snapshot, time.Now()) })
		m.follow(ctx, snapshot.Index, reads, writes)
	}
	return nil
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
	m.mu.Unlock()
	signal(m.changed)
}

// follow applies events and keeps the lease, until a new list is needed or ctx
// ends.
func (m *Manager) follow(ctx context.Context, index uint64, reads, writes *outage.Outage) {
	ctx, cancel := context.WithCancel(ctx)
	events, lost := make(chan []Event), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		defer close(lost)
		m.watch(ctx, index, events, reads)
	})
	defer watching.Wait()
	defer cancel()

	var await uint64    // our last write's index: nothing is decided before the replica has reached it
	var quiet time.Time // a write failed: no further one before this, whatever events arrive
	deadline := time.NewTimer(0)
	defer deadline.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-lost:
			return
		case batch := <-events:
			m.update(func() { m.replica.apply(batch, time.Now()) })
		case <-m.claims:
		case <-deadline.C:
			if await > 0 {
				klog.Warning("etcd has not announced this host's own write: listing everything again")
				return
			}
		}
		if await > m.reached() || time.Now().Before(quiet) {
			continue
		}
		outcome := m.act(ctx, writes)
		if outcome.relist {
			return
		}
		await, quiet = outcome.await, time.Time{}
		if outcome.failed {
			quiet = time.Now().Add(outcome.again)
		}
		deadline.Reset(outcome.again)
	}
}

// watch passes events on until the history is lost or ctx ends.
func (m *Manager) watch(ctx context.Context, index uint64, events chan<- []Event, reads *outage.Outage) {
	for ctx.Err() == nil {
		err := m.registry.Watch(ctx, index, func(batch []Event) {
			reads.Worked()
			if len(batch) == 0 {
				return
			}
			select {
			case events <- batch:
				index = max(index, batch[len(batch)-1].Modified)
			case <-ctx.Done():
			}
		})
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrHistoryLost):
			klog.Infof("etcd's event history does not reach back to index %d: listing everything again", index)
			return
		default:
			pause(ctx, reads.Failed(err))
		}
	}
}

func (m *Manager) reached() uint64 {
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
func (m *Manager) act(ctx context.Context, writes *outage.Outage) outcome {
	m.mu.Lock()
	if m.claim == nil {
		m.mu.Unlock()
		return outcome{again: lookAgain}
	}
	before := m.keeper.held
	due := m.keeper.next(&m.replica, *m.claim, time.Now())
	if m.keeper.held != before {
		signal(m.changed)
	}
	m.mu.Unlock()
	if due.do == wait {
		return outcome{again: due.wait}
	}

	stored, err := m.write(ctx, due)
	switch {
	case errors.Is(err, ErrConflict):
		writes.Worked()
		m.mu.Lock()
		defer m.mu.Unlock()
		// Somebody was faster. That the replica does not show it yet is
		// normal where the key is new to us, and wrong where it was ours.
		return outcome{relist: !m.keeper.refuse(due.entry.Key)}
	case err != nil:
		return outcome{again: writes.Failed(err), failed: true}
	}
	writes.Worked()
	if due.do == refresh {
		m.update(func() { m.keeper.renewed(stored, time.Now()) })
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
