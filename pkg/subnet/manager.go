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

	"flanneld/pkg/outage"
)

// retryLongest, with jitter up to 1.2 s, is how long a newcomer waits at most
// once the store is back.
const retryLongest = 800 * time.Millisecond

// Options are what a Manager needs besides its Registry.
type Options struct {
	RenewMargin time.Duration // renew the lease this long before it expires
	Previous    netip.Prefix  // the subnet that the subnet file names; invalid: none
	Resumed     bool          // this host has worked with it: a store that does not know its lease has lost it
}

// Manager follows the store and keeps this host's lease in it. One goroutine,
// Run, does both: it lists everything, watches from there, and after each
// change does the one write that is due, if any.
type Manager struct {
	registry Registry
	changed  chan struct{} // one slot: View has something new
	claims   chan struct{} // one slot: Claim was called

	// with calls change with the state that Run shares with the callers of View
	// and Claim, under its lock. There is no other way to that state.
	with func(change func(*state))
}

// state is what is known, and what is wanted.
type state struct {
	replica replica
	holder  leaseHolder
	claim   *Claim
	store   Store
}

// guard returns the one function that reaches s, which locks it.
func guard(s state) func(func(*state)) {
	var mu sync.Mutex
	return func(change func(*state)) {
		mu.Lock()
		defer mu.Unlock()
		change(&s)
	}
}

// NewManager prepares a Manager; Run starts it.
func NewManager(r Registry, o Options) *Manager {
	s := state{holder: leaseHolder{margin: o.RenewMargin, previous: o.Previous}}
	if o.Resumed {
		s.replica.ours = o.Previous
	}
	return &Manager{registry: r, changed: make(chan struct{}, 1), claims: make(chan struct{}, 1), with: guard(s)}
}

// View is what is known at one moment. It belongs to its receiver.
type View struct {
	Listed    bool              // a full list has arrived
	Config    string            // the config key's value; empty: no such key
	Own       Lease             // the lease that this host holds; zero: none
	Leases    []Lease           // every well-formed lease, our own too, in the order of their subnets
	Degraded  bool              // leases may be missing though their holders live: what is not here may still exist
	Malformed map[string]string // key → what is wrong with the entry
	Store     Store
}

// Store is how the store itself is.
type Store struct {
	Current   bool   // a watch has stood since the last list: every change is known
	Reads     string // what is wrong with reading it; empty: nothing
	Writes    string // what is wrong with writing this host's lease; empty: nothing
	Contested bool   // somebody else has written this host's lease lately
	Full      bool   // every subnet of the config is leased, and none to this host
}

// View returns the present state. Call it after Changed.
func (m *Manager) View() (v View) {
	m.with(func(s *state) { v = s.view(time.Now()) })
	return v
}

func (s *state) view(now time.Time) View {
	store := s.store
	store.Contested = now.Before(s.holder.complain)
	store.Full = s.holder.full && !s.holder.own.Subnet.IsValid()
	return View{
		Listed: s.replica.listed, Config: s.replica.config, Own: s.holder.own,
		Leases: s.replica.all(), Degraded: s.replica.degraded(now), Malformed: maps.Clone(s.replica.malformed),
		Store: store,
	}
}

// Changed signals that View has something new; a burst of changes is one signal.
func (m *Manager) Changed() <-chan struct{} { return m.changed }

// Claim says what this host wants. Until the first call nothing is written.
func (m *Manager) Claim(c Claim) {
	m.with(func(s *state) { s.claim = &c })
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
	reads, writes := outage.New("read from etcd", retryLongest), outage.New("write this host's lease to etcd", retryLongest)
	for ctx.Err() == nil {
		asked := time.Now()
		snapshot, err := m.registry.List(ctx)
		if err == nil {
			took := time.Since(asked)
			m.reached(reads)
			m.update(func(s *state) { s.replica.replace(snapshot, time.Now()) })
			start := time.Now()
			err = m.follow(ctx, snapshot.Index, writes)
			if time.Since(start) < shortWatch {
				pause(ctx, pace(took))
			}
		}
		switch {
		case ctx.Err() != nil || err == nil:
		case errors.Is(err, ErrHistoryLost):
			klog.Infof("listing everything in etcd again: %v", err)
		default:
			m.broke(err)
			pause(ctx, reads.Failed(err))
		}
	}
	return nil
}

// broke notes that changes may go unnoticed from now on.
func (m *Manager) broke(err error) {
	m.with(func(s *state) { s.store.Current, s.store.Reads = false, err.Error() })
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

// longOutage is so long that leases may have ended meanwhile whose holders
// could not renew them.
const longOutage = 30 * time.Second

// reached notes that the store answers.
func (m *Manager) reached(reads *outage.Outage) {
	if away := reads.Worked(); away > longOutage {
		m.update(func(s *state) { s.replica.degrade("it was away for "+away.Round(time.Second).String(), time.Now()) })
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
func (m *Manager) update(change func(*state)) {
	m.with(change)
	signal(m.changed)
}

// follow applies events and keeps the lease until ctx ends, the watch breaks,
// or a new list is needed for another reason, which is no error.
func (m *Manager) follow(ctx context.Context, index uint64, writes *outage.Outage) error {
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
	released := time.NewTimer(m.releaseExpired()) // what was retained
	defer released.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broken:
			return err
		case batch := <-events:
			m.update(func(s *state) { s.replica.apply(batch, time.Now()) })
			released.Reset(m.releaseExpired())
		case <-m.claims:
		case <-released.C:
			released.Reset(m.releaseExpired())
		case <-deadline.C:
			if await > 0 {
				klog.Warning("etcd has not announced this host's own write: listing everything again")
				return nil
			}
		}
		if await > m.index() || time.Now().Before(quiet) {
			continue
		}
		outcome := m.act(ctx, writes)
		m.with(func(s *state) { s.store.Writes = writes.Reason() })
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
		m.with(func(s *state) { s.store.Current, s.store.Reads = true, "" })
		if len(batch) == 0 {
			return
		}
		select {
		case events <- batch:
		case <-ctx.Done():
		}
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrHistoryLost) {
		m.broke(err)
	}
	return err
}

// releaseExpired lets go of what was retained for long enough, and returns how long until
// it is to be called again.
func (m *Manager) releaseExpired() (next time.Duration) {
	m.with(func(s *state) {
		var changed bool
		if changed, next = s.replica.releaseExpired(time.Now()); changed {
			signal(m.changed)
		}
	})
	return next
}

func (m *Manager) index() (at uint64) {
	m.with(func(s *state) { at = s.replica.index })
	return at
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
	var due step
	m.with(func(s *state) {
		before := s.holder.own
		due = s.next(time.Now())
		if s.holder.own != before {
			signal(m.changed)
		}
	})
	if due.do == wait {
		return outcome{again: due.wait}
	}
	stored, err := m.write(ctx, due)
	relist := false
	m.with(func(s *state) { relist = s.wrote(due, stored, err, time.Now()) })
	switch {
	case err != nil && !errors.Is(err, ErrConflict):
		return outcome{again: writes.Failed(err), failed: true}
	case err != nil:
		writes.Worked()
		return outcome{relist: relist}
	}
	writes.Worked()
	if due.do == refresh {
		signal(m.changed) // no event tells of it
		return outcome{}
	}
	return outcome{await: stored.Modified, again: announced}
}

// next names what is due.
func (s *state) next(now time.Time) step {
	if s.claim == nil {
		return step{wait: lookAgain}
	}
	before := s.holder.own
	due := s.holder.next(&s.replica, *s.claim, now)
	if s.holder.own != before {
		s.replica.ours = s.holder.own.Subnet
	}
	return due
}

// wrote notes what became of a write.
func (s *state) wrote(due step, stored Entry, err error, now time.Time) (relist bool) {
	switch {
	case errors.Is(err, ErrConflict):
		// Somebody was faster. That the replica does not show it yet is
		// normal where the key is new to us, and wrong where it was ours.
		return !s.holder.refuse(due.entry.Key)
	case err != nil:
		s.holder.written = 0
	default:
		s.holder.written = stored.Modified
		if due.do == refresh {
			s.replica.put(stored, now)
			s.holder.renewed(stored, now)
		}
	}
	return false
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
