package subnet

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
)

const (
	// paceLongest, with jitter up to 1.2 s, is how long a list waits at most after another, and a write.
	paceLongest = 800 * time.Millisecond
	// retryLongest, jitter included, is how long a store that is back waits at most to be asked.
	retryLongest = 500 * time.Millisecond
)

// Options are what a Manager needs besides its Registry.
type Options struct {
	RenewMargin time.Duration // renew the lease this long before it expires
	Previous    Subnets       // those that the subnet file names; zero: none
	Resumed     bool          // this host has worked with it: a store that does not know its lease has lost it

	// Dir tells where the keys are, and Command makes a command line of flanneld's that finds
	// the store; for what the log says. Nil: not known.
	Dir     Dir
	Command func(words ...string) string

	// Conditions is where the manager keeps what is wrong with the store and the
	// lease. Nil: in a Set of its own.
	Conditions *condition.Set
}

// Manager follows the store and keeps this host's lease in it. One goroutine,
// Run, does both: it lists everything, watches from there, and after each
// change does the one write that is due, if any. A watch that breaks goes on where
// it stopped, if the store is the same for sure.
type Manager struct {
	registry Registry
	reads    *condition.Retry // Run's
	watches  *condition.Retry // Run's
	writes   *condition.Retry // Run's
	short    int              // Run's: watches without one between them that lasted
	vain     int              // Run's: watches in a row that have not stood at all, whatever came between them
	lasts    bool             // Run's: the present watch has stood for long enough
	resumes  bool             // Run's: the next watch may go on where the last one stopped
	await    uint64           // Run's: index of our last write: nothing is decided before the replica has reached it
	changed  chan struct{}    // one slot: View has something new
	claims   chan struct{}    // one slot: Claim was called

	// with calls change with the state that Run shares with the callers of View
	// and Claim, under its lock. There is no other way to that state.
	with func(change func(*state))
}

// state is what is known, and what is wanted.
type state struct {
	replica replica
	holder  leaseHolder
	claim   *Claim
	read    evidence
	noted   noted
}

// guard returns the one function that reaches s, which locks it. After each
// change it says in wrong what is not as it should be.
func guard(s state, wrong *condition.Set) func(func(*state)) {
	var mu sync.Mutex
	return func(change func(*state)) {
		mu.Lock()
		defer mu.Unlock()
		change(&s)
		s.noteConditions(wrong, time.Now())
	}
}

// NewManager prepares a Manager; Run starts it.
func NewManager(r Registry, o Options) *Manager {
	if o.Conditions == nil {
		o.Conditions = &condition.Set{}
	}
	s := state{holder: leaseHolder{
		margin: o.RenewMargin, previous: o.Previous, paths: paths{o.Dir, o.Command},
	}}
	if o.Resumed {
		s.replica.ours = o.Previous.First()
	}
	retry := func(code condition.Code, what string, longest time.Duration) *condition.Retry {
		return condition.NewRetry(o.Conditions, code, what, longest)
	}
	return &Manager{
		registry: r,
		reads:    retry(condition.EtcdUnreadable, "read from etcd", retryLongest),
		watches:  retry(condition.EtcdWatchBroken, "keep a watch on etcd", pollLongest),
		writes:   retry(condition.EtcdUnwritable, "write this host's lease to etcd", paceLongest),
		changed:  make(chan struct{}, 1),
		claims:   make(chan struct{}, 1),
		with:     guard(s, o.Conditions),
	}
}

// View is what is known at one moment. It belongs to its receiver.
type View struct {
	Listed    bool              // a full list has arrived
	Config    string            // the config key's value; empty: no such key
	NoConfig  NoConfig          // in that case
	Own       Lease             // the lease that this host holds, with the subnets that it may use; zero: none
	Leases    []Lease           // every well-formed lease, our own too, by subnets, of one the holder's first
	Degraded  bool              // leases may be missing though their holders live: what is not here may still exist
	Malformed map[string]string // key → what is wrong with the entry
	Omitted   int               // more of them, about
	Living    map[string]bool   // keys of leases that seemed to be this host's, and have another holder that lives
	Awaits    string            // key of the reservation that this host takes at its next start; empty: none

	ConfigTooLong int // bytes of a config key beyond LongestValue, which is not known; 0: Config is the whole

	Read    time.Time // what the store held until then is known; zero: nothing is
	Current bool      // Read is recent: see StaleAfter
	Stored  bool      // the store is known to hold Own
}

// View returns the present state. Call it after Changed.
func (m *Manager) View() (v View) {
	proven := m.registry.Proven()
	m.with(func(s *state) { v = s.view(proven, time.Now()) })
	return v
}

func (s *state) view(proven, now time.Time) View {
	read, current := s.read.until(proven, now)
	_, stored := s.replica.leases[s.holder.own.Key]
	living := make(map[string]bool, len(s.holder.living))
	for key := range s.holder.living {
		living[key] = true
	}
	awaits := ""
	if s.claim != nil {
		awaits = s.holder.awaits(&s.replica, *s.claim)
	}
	return View{
		Listed: s.replica.listed, Config: s.replica.config, NoConfig: s.replica.noConfig, Own: s.holder.held(),
		Leases: s.replica.all(), Degraded: s.replica.degraded(now), Malformed: maps.Clone(s.replica.malformed),
		Omitted: s.replica.omitted, Living: living, Awaits: awaits, ConfigTooLong: s.replica.tooLong,
		Read: read, Current: current, Stored: stored,
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
func (m *Manager) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		asked := time.Now()
		err := m.read(ctx)
		switch {
		case ctx.Err() != nil:
		case m.resumes && errors.Is(err, ErrHistoryLost):
			m.resumes = false
			klog.InfoS("Listing everything in etcd again", "reason", err)
		case err != nil:
			m.with(func(s *state) { s.read.failing = true })
			pause(ctx, rest(m.reads.Failed(err), time.Since(asked), err))
		default:
			began := time.Now()
			err = m.follow(ctx)
			if ctx.Err() == nil {
				pause(ctx, m.ended(err, time.Since(began), began.Sub(asked)))
			}
		}
	}
	return nil
}

// read lists everything, or finds that the watch may go on without.
func (m *Manager) read(ctx context.Context) error {
	asked := time.Now()
	if m.resumes {
		err := m.registry.Resume(ctx, m.index())
		if err == nil {
			m.with(func(s *state) { s.read.failing = false })
			m.reached()
		}
		return err
	}
	snapshot, err := m.registry.List(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	m.reached()
	m.await = 0
	m.update(func(s *state) {
		s.read = evidence{listed: asked}
		s.replica.replace(snapshot, now)
	})
	return nil
}

// pace is how long to wait after a list that took that long, with jitter, where
// another follows: the more etcd has to do, the longer it is left alone.
func pace(took time.Duration) time.Duration {
	base := min(max(10*took, paceLongest/8), paceLongest)
	return base/2 + rand.N(base)
}

// rest is how long to wait after a call that failed, where that is wait if etcd is absent. Where it is
// there and took too long it is busy, maybe with what others have given up: it is left alone for about as
// long as it was asked, so that hosts that are too many for it are half as many.
func rest(wait, took time.Duration, err error) time.Duration {
	if took = min(took, restLongest); took <= 0 || !errors.Is(err, ErrSilent) {
		return wait
	}
	return max(wait, took/2+rand.N(took))
}

// restLongest, with jitter up to 12 s, leaves a host that asks again within [StaleAfter].
const restLongest = 8 * time.Second

// longOutage is so long that leases may have ended meanwhile whose holders
// could not renew them.
const longOutage = 30 * time.Second

// reached notes that the store answers.
func (m *Manager) reached() {
	away := m.reads.Succeeded()
	if away > 0 {
		m.short = 0 // what ended with the store is no watch that ends by itself
	}
	if away > longOutage {
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
