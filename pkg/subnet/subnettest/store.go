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
	history []subnet.Event
	wiped   int           // how often: each time it is another store, as etcd's cluster ID tells
	changed chan struct{} // closed and replaced at each event
}

type entry struct {
	subnet.Entry
	expires time.Time
	timer   *time.Timer
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{entries: map[string]*entry{}, changed: make(chan struct{})}
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

// Wipe replaces the store by an empty one whose index starts anew.
func (s *Store) Wipe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		e.stop()
	}
	s.entries, s.history, s.index = map[string]*entry{}, nil, 0
	s.wiped++
	s.wake()
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
		stored.expires = time.Now().Add(e.TTL)
		stored.timer = time.AfterFunc(e.TTL, func() { s.expire(stored) })
	}
	s.entries[e.Key] = stored
	if announce {
		s.announce(subnet.Event{Entry: e})
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
	s.announce(subnet.Event{Entry: subnet.Entry{Key: key, Created: e.Created, Modified: s.index}, Deleted: true})
}

func (s *Store) announce(ev subnet.Event) {
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
)

// noticed is how long it takes to find out that a member hangs: etcd's clients
// take 7 to 13 seconds.
const noticed = 12 * time.Second

// Client is one host's access to the store. It implements subnet.Registry.
type Client struct {
	store *Store
	wiped int // the store that it listed; under the store's lock

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
	return &Client{store: s, wiped: s.wiped, cut: make(chan struct{}), hung: make(chan struct{}), calls: map[string]int{}}
}

// Inject makes f decide what becomes of each later call, and how long it takes
// on its way: f may sleep. op is "List", "Watch", "Put", "Refresh" or "Delete".
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

// stand notes that a watch stands. It returns what tells that its member hangs,
// and a function that notes that it stands no longer.
func (c *Client) stand() (hung <-chan struct{}, fell func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching++
	return c.hung, sync.OnceFunc(func() {
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
	s := subnet.Snapshot{Index: c.store.index, Cluster: "memory"}
	c.wiped = c.store.wiped
	for _, e := range c.store.read() {
		if err := s.Add(e); err != nil {
			return subnet.Snapshot{}, err
		}
	}
	return s, nil
}

func (c *Client) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	var hung <-chan struct{}
	fell := func() {}
	defer func() { fell() }()
	for first := true; ; first = false {
		f, cut, err := c.call(ctx, "Watch")
		if err != nil {
			return err
		}
		if f == Lost {
			return errLost
		}
		if first {
			hung, fell = c.stand()
			emit(nil)
		}
		select {
		case <-hung:
			fell()
			return c.silence(ctx)
		default:
		}
		events, changed, err := c.store.since(after, c)
		if err != nil {
			return err
		}
		if len(events) > 0 {
			after = events[len(events)-1].Modified
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

func (s *Store) since(after uint64, c *Client) ([]subnet.Event, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.wiped != s.wiped || after > s.index || len(s.history) == HistoryLength && s.history[0].Modified > after+1 {
		return nil, nil, fmt.Errorf("watch after index %d: %w", after, subnet.ErrHistoryLost)
	}
	i, _ := slices.BinarySearchFunc(s.history, after+1, func(e subnet.Event, index uint64) int {
		return cmp.Compare(e.Modified, index)
	})
	events := slices.Clone(s.history[i:])
	for i := range events {
		events[i].Entry = events[i].Bounded()
	}
	return events, s.changed, nil
}

func (c *Client) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	return c.swap(ctx, "Put", e, func(*entry) subnet.Entry { return c.store.write(e, true) })
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
	return stored, nil
}
