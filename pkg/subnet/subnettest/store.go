// Package subnettest is an in-memory store with the semantics of etcd's v2 API:
// indexes, compare-and-swap, lifetimes, a bounded event history. Each client of
// it can be made to fail: refused calls, lost replies, a partition.
package subnettest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"flanneld/pkg/subnet"
)

// HistoryLength is how many events a watcher can look back, across all keys.
const HistoryLength = 1000

// Store is the shared store.
type Store struct {
	mu      sync.Mutex
	index   uint64
	entries map[string]*entry
	history []event
	cluster string        // its ID
	term    int           // of raft's
	started int           // how often: watches do not survive that
	marks   int           // that were given, whatever became of the store since
	changed chan struct{} // closed and replaced at each event
}

type entry struct {
	subnet.Entry
	mark    int // each write with a lifetime has its own, as by etcd's APIs it has a lease or a time at which it ends; 0: none
	expires time.Time
	timer   *time.Timer
}

// event is a change as watchers hear of it.
type event struct {
	subnet.Event
	mark int
}

// change is what the store says of an event.
func (e event) change() subnet.Change {
	said := e
	said.TTL = 0 // which is what is left at some time
	return subnet.Change{Index: e.Modified, Digest: subnet.Digest(said), Unique: e.mark > 0}
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{entries: map[string]*entry{}, cluster: "memory", term: 1, changed: make(chan struct{})}
}

// Set writes a key unconditionally, as an operator would. TTL 0: for ever.
func (s *Store) Set(key, value string, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(subnet.Entry{Key: key, Value: value, TTL: ttl}, true)
}

// Remove deletes a key, if there is one.
func (s *Store) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(key)
}

// Entries returns the content, sorted by key.
func (s *Store) Entries() []subnet.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read()
}

func (s *Store) read() []subnet.Entry {
	var all []subnet.Entry
	for _, e := range s.entries {
		all = append(all, e.read())
	}
	slices.SortFunc(all, func(a, b subnet.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return all
}

func (e *entry) read() subnet.Entry {
	out := e.Entry
	if !e.expires.IsZero() {
		out.TTL = time.Until(e.expires).Truncate(time.Second) + time.Second // etcd rounds up
	}
	return out
}

func (e *entry) stop() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// write stores e under a new index; announce says whether watchers hear of it.
func (s *Store) write(e subnet.Entry, announce bool) subnet.Entry {
	s.index++
	e.Modified, e.Created = s.index, s.index
	if old := s.entries[e.Key]; old != nil {
		old.stop()
		e.Created = old.Created
	}
	stored := &entry{Entry: e}
	if e.TTL > 0 {
		s.marks++
		stored.mark = s.marks
		stored.expires = time.Now().Add(e.TTL)
		stored.timer = time.AfterFunc(e.TTL, func() { s.expire(stored) })
	}
	s.entries[e.Key] = stored
	if announce {
		s.announce(event{subnet.Event{Entry: e}, stored.mark})
	}
	return e
}

func (s *Store) expire(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.Key] == e {
		s.end(e.Key)
	}
}

func (s *Store) end(key string) {
	e := s.entries[key]
	if e == nil {
		return
	}
	e.stop()
	delete(s.entries, key)
	s.index++
	gone := subnet.Entry{Key: key, Created: e.Created, Modified: s.index}
	s.announce(event{subnet.Event{Entry: gone, Deleted: true}, 0})
}

func (s *Store) announce(ev event) {
	s.history = append(s.history, ev)
	if len(s.history) > HistoryLength {
		s.history = s.history[1:]
	}
	s.wake()
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Fault is what becomes of one call.
type Fault int

const (
	None    Fault = iota
	Refused       // not carried out, and the caller learns that it failed
	Lost          // carried out, but the reply never arrives
)

var (
	errRefused   = errors.New("injected: the store refused the call")
	errLost      = errors.New("injected: the reply was lost")
	errPartition = errors.New("injected: the store cannot be reached")
	errHung      = errors.New("injected: the member that is watched hangs")
	errStarted   = errors.New("injected: the store was started anew")
)

// noticed is how long it takes to find out that a member hangs: etcd's clients
// take 7 to 13 seconds.
const noticed = 12 * time.Second

// Client is one host's access to the store. It implements subnet.Registry.
type Client struct {
	store   *Store
	cluster string // that it listed; under the store's lock
	term    int    // the highest that it has seen; under the store's lock
	trail   subnet.Trail

	mu    sync.Mutex
	fault func(op string) Fault
	cut   chan struct{} // closed while partitioned
	down  bool
	calls map[string]int

	hung     chan struct{} // closed when the member that is watched hangs
	watching int
	proven   time.Time // while no watch stands
}

var _ subnet.Registry = (*Client)(nil)

// Client returns a new access to the store.
func (s *Store) Client() *Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Client{
		store: s, cluster: s.cluster, term: s.term, trail: subnet.Trail{Keep: 2, Longest: 100},
		cut: make(chan struct{}), hung: make(chan struct{}), calls: map[string]int{},
	}
}

// Inject makes f decide what becomes of each later call, and how long it takes
// on its way: f may sleep. op is "List", "Resume", "Watch", "Put", "Refresh" or "Delete".
// nil ends the faults.
func (c *Client) Inject(f func(op string) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// Refuse is for Inject: calls of these ops are refused, and no others.
func Refuse(ops ...string) func(op string) Fault {
	return func(op string) Fault {
		if slices.Contains(ops, op) {
			return Refused
		}
		return None
	}
}

// Partition cuts this client off from the store, or connects it again.
func (c *Client) Partition(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if down == c.down {
		return
	}
	c.down = down
	if down {
		close(c.cut)
	} else {
		c.cut = make(chan struct{})
	}
}

// Hang lets the member hang at which this client watches. It tells nothing more,
// which is found out after a while; the next calls are answered by another one.
func (c *Client) Hang() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching > 0 {
		c.proven = time.Now()
	}
	close(c.hung)
	c.hung = make(chan struct{})
}

// Proven implements [subnet.Registry].
func (c *Client) Proven() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching > 0 {
		return time.Now()
	}
	return c.proven
}

// hangs is closed when the member hangs that is watched.
func (c *Client) hangs() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hung
}

// stand notes that a watch stands. It returns what notes that it stands no longer.
func (c *Client) stand() (fell func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching++
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.watching--; c.watching == 0 {
			c.proven = time.Now()
		}
	})
}

// Calls returns how often op was called.
func (c *Client) Calls(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// call begins a call: the fault that it meets, and a channel that closes when
// the client is cut off.
func (c *Client) call(ctx context.Context, op string) (Fault, <-chan struct{}, error) {
	c.mu.Lock()
	c.calls[op]++
	decide := c.fault
	c.mu.Unlock()
	f := None
	if decide != nil {
		f = decide(op)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return None, nil, ctx.Err()
	case c.down:
		return None, nil, errPartition
	case f == Refused:
		return f, nil, errRefused
	}
	return f, c.cut, nil
}

func (c *Client) List(ctx context.Context) (subnet.Snapshot, error) {
	f, _, err := c.call(ctx, "List")
	if err != nil {
		return subnet.Snapshot{}, err
	}
	if f == Lost {
		return subnet.Snapshot{}, errLost
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	s := subnet.Snapshot{Index: c.store.index, Cluster: c.store.cluster}
	c.cluster, c.term = c.store.cluster, c.store.term
	c.trail.Listed(c.store.index, c.store.latest())
	for _, e := range c.store.read() {
		if err := s.Add(e); err != nil {
			return subnet.Snapshot{}, err
		}
	}
	return s, nil
}

// latest is the change that the entries show last.
func (s *Store) latest() (last subnet.Change) {
	for _, e := range s.entries {
		if e.Modified > last.Index {
			last = event{subnet.Event{Entry: e.Entry}, e.mark}.change()
		}
	}
	return last
}

// Resume implements [subnet.Registry].
func (c *Client) Resume(ctx context.Context, after uint64) error {
	f, _, err := c.call(ctx, "Resume")
	switch {
	case err != nil:
		return err
	case f == Lost:
		return errLost
	case !c.trail.Leads():
		return subnet.ErrHistoryLost
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	return c.same(max(after, c.trail.Last()))
}

// same says what shows that the store is another one, or is back at an earlier time.
func (c *Client) same(after uint64) error {
	s := c.store
	if s.cluster != c.cluster || s.index < after || s.term < c.term {
		return fmt.Errorf("cluster %s, index %d, term %d: %w", s.cluster, s.index, s.term, subnet.ErrHistoryLost)
	}
	c.term = s.term
	return nil
}

// sameTerm says that the store was started anew since it was listed.
func (c *Client) sameTerm() error {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	if c.store.term != c.term {
		return fmt.Errorf("term %d after %d: %w", c.store.term, c.term, subnet.ErrHistoryLost)
	}
	return nil
}

func (c *Client) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	fell := func() {}
	defer func() { fell() }()
	var retrace *subnet.Retrace
	var hung <-chan struct{}
	var started int
	var told uint64
	for stands := false; ; {
		f, cut, err := c.call(ctx, "Watch")
		if err == nil && f == Lost {
			err = errLost
		}
		if err == nil && retrace == nil {
			hung, started = c.hangs(), c.store.starts()
			if retrace, err = c.trail.Retrace(after); err == nil && retrace.First() {
				err = c.sameTerm()
			}
		}
		if err != nil {
			return err
		}
		select {
		case <-hung:
			fell()
			return c.silence(ctx)
		default:
		}
		all, index, changed, err := c.store.since(max(told, retrace.From()-1), started, c)
		if err != nil {
			return err
		}
		events, err := retold(retrace, all, index, after)
		if err != nil {
			return err
		}
		if !stands {
			stands, fell = true, c.stand()
			emit(nil)
		}
		if len(all) > 0 {
			told = all[len(all)-1].Modified
			emit(events)
			continue
		}
		select {
		case <-changed:
		case <-cut:
			return errPartition
		case <-hung:
			fell()
			return c.silence(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// retold compares what the store tells up to an index, and returns what the watcher has not
// heard of.
func retold(r *subnet.Retrace, all []event, index, after uint64) (events []subnet.Event, err error) {
	for _, e := range all {
		if err := r.Told(e.change()); err != nil {
			return nil, err
		}
		if e.Modified > after {
			e.Entry = e.Entry.Bounded()
			events = append(events, e.Event)
		}
	}
	return events, r.CaughtUp(index)
}

// silence is a watch at a member that hangs.
func (c *Client) silence(ctx context.Context) error {
	timer := time.NewTimer(noticed)
	defer timer.Stop()
	select {
	case <-timer.C:
		return errHung
	case <-ctx.Done():
		return ctx.Err()
	}
}

// since are the events after one index, and the index that was reached.
func (s *Store) since(after uint64, started int, c *Client) ([]event, uint64, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started != started {
		return nil, 0, nil, errStarted
	}
	if err := c.same(after); err != nil {
		return nil, 0, nil, err
	}
	if len(s.history) == HistoryLength && s.history[0].Modified > after+1 {
		return nil, 0, nil, fmt.Errorf("watch after index %d: %w", after, subnet.ErrHistoryLost)
	}
	i, _ := slices.BinarySearchFunc(s.history, after+1, func(e event, index uint64) int {
		return cmp.Compare(e.Modified, index)
	})
	return slices.Clone(s.history[i:]), s.index, s.changed, nil
}

func (s *Store) starts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started
}

func (c *Client) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	return c.swap(ctx, "Put", e, func(*entry) subnet.Entry { return c.store.write(e, true) })
}

// Replace deletes and writes at once, as by etcd's v3 API.
func (c *Client) Replace(ctx context.Context, old, e subnet.Entry) (subnet.Entry, error) {
	return c.swap(ctx, "Replace", e, func(*entry) subnet.Entry {
		if had := c.store.entries[old.Key]; had == nil || had.Modified != old.Modified {
			return subnet.Entry{}
		}
		c.store.end(old.Key)
		return c.store.write(e, true)
	})
}

func (c *Client) Refresh(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	return c.swap(ctx, "Refresh", e, func(old *entry) subnet.Entry {
		e.Value = old.Value
		return c.store.write(e, false)
	})
}

func (c *Client) Delete(ctx context.Context, e subnet.Entry) error {
	_, err := c.swap(ctx, "Delete", e, func(*entry) subnet.Entry {
		c.store.end(e.Key)
		return subnet.Entry{}
	})
	return err
}

// swap carries do out if the key is as e.Modified says.
func (c *Client) swap(
	ctx context.Context, op string, e subnet.Entry, do func(*entry) subnet.Entry,
) (subnet.Entry, error) {
	f, _, err := c.call(ctx, op)
	if err != nil {
		return subnet.Entry{}, err
	}
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	old := c.store.entries[e.Key]
	if (old == nil) != (e.Modified == 0) || old != nil && old.Modified != e.Modified {
		if f == Lost {
			return subnet.Entry{}, errLost
		}
		// As the contract has it: a conflict with our own former write, whose
		// reply was lost, is none.
		if op != "Delete" && old != nil && old.Value == e.Value && old.Modified > e.Modified {
			return old.read(), nil
		}
		return subnet.Entry{}, fmt.Errorf("%s %s: %w", op, e.Key, subnet.ErrConflict)
	}
	stored := do(old)
	if f == Lost {
		return subnet.Entry{}, errLost
	}
	if op == "Replace" && stored.Key == "" {
		return stored, fmt.Errorf("%s %s: %w", op, e.Key, subnet.ErrConflict)
	}
	return stored, nil
}
