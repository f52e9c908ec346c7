package crowd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/etcdconn"
)

// Options describe a crowd.
type Options struct {
	Etcd   etcdconn.Config
	API    etcdauto.API // as --etcd-api
	Config subnet.Config
	Hosts  int
	Whole  int // of them with a replica: real daemons, as far as etcd can tell

	RenewMargin time.Duration            // as --subnet-lease-renew-margin
	Previous    func(i int) netip.Prefix // the subnet in the ith host's subnet file; nil: there is none
}

// Crowd are hosts at one etcd.
type Crowd struct {
	options Options
	history *History
	taken   *taken
	hosts   []*Host
	gone    Totals // of hosts that were stopped
}

// New prepares a crowd; Start starts it.
func New(o Options) *Crowd {
	c := &Crowd{options: o, history: newHistory(), taken: &taken{}}
	for i := range o.Hosts {
		h := &Host{
			number: i, whole: i < o.Whole, crowd: c,
			address: netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}),
		}
		if o.Previous != nil {
			h.previous = o.Previous(i)
		}
		c.hosts = append(c.hosts, h)
	}
	return c
}

// Start starts all hosts at once.
func (c *Crowd) Start() error { return c.start(c.hosts) }

// StartInTurn starts the hosts so that at most n at a time have no lease yet.
func (c *Crowd) StartInTurn(ctx context.Context, n int) error {
	var pending []*Host
	for _, h := range c.hosts {
		for len(pending) >= n {
			if err := ctx.Err(); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
			pending = slices.DeleteFunc(pending, (*Host).holds)
		}
		if err := h.start(); err != nil {
			return err
		}
		pending = append(pending, h)
	}
	return nil
}

func (c *Crowd) start(hosts []*Host) error {
	return each(hosts, func(h *Host) error { return h.start() })
}

// each does the same to hosts, a hundred at a time.
func each(hosts []*Host, do func(*Host) error) error {
	errs := make([]error, len(hosts))
	slots := make(chan struct{}, 100)
	var all sync.WaitGroup
	for i, h := range hosts {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = do(h)
			<-slots
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// Restart ends the last n hosts, and starts them again at once.
func (c *Crowd) Restart(n int) error {
	some := c.hosts[len(c.hosts)-n:]
	for _, h := range some {
		c.gone.add(h)
	}
	_ = each(some, func(h *Host) error { h.stop(); return nil })
	return c.start(some)
}

// Join writes the lease of a host that is not of the crowd, however long that takes, and
// returns its index.
func (c *Crowd) Join(ctx context.Context, p netip.Prefix, at netip.Addr) (uint64, error) {
	registry, err := etcdauto.New(c.options.Etcd, c.options.API)
	if err != nil {
		return 0, err
	}
	defer registry.Close()
	lease := subnet.Attrs{PublicIP: at, BackendType: c.options.Config.BackendType}
	for {
		_, err := registry.Put(ctx, subnet.Entry{Key: subnet.Key(p), Value: lease.Marshal(), TTL: subnet.LeaseTTL})
		if s, listed := registry.List(ctx); listed == nil { // also where a reply was lost
			if e := s.Find(subnet.Key(p)); e.Key != "" {
				return e.Modified, nil
			}
		}
		if ctx.Err() != nil {
			return 0, errors.Join(err, ctx.Err())
		}
	}
}

// Renew has each host renew its lease once.
func (c *Crowd) Renew(ctx context.Context) error {
	return each(c.hosts, func(h *Host) error { return h.renew(ctx) })
}

// Close ends all hosts.
func (c *Crowd) Close() { _ = each(c.hosts, func(h *Host) error { h.stop(); return nil }) }

// Await waits until every host has a lease and has heard of the store's index, which is
// raised to that of every write that a host of the crowd has heard of.
func (c *Crowd) Await(ctx context.Context, index uint64) error {
	pending := slices.Clone(c.hosts)
	for {
		holding := !slices.ContainsFunc(pending, func(h *Host) bool { return !h.holds() })
		if holding {
			index = max(index, c.history.last.Load())
		}
		pending = slices.DeleteFunc(pending, func(h *Host) bool { return holding && h.knows(index) })
		if len(pending) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d hosts have no lease or do not know all: %w", len(pending), len(c.hosts), ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Without is how many hosts have no lease.
func (c *Crowd) Without() (n int) {
	for _, h := range c.hosts {
		if h.manager == nil || !h.holds() {
			n++
		}
	}
	return n
}

// Totals are what hosts have asked and were told since they were started.
type Totals struct {
	Lists int64 // that arrived
	Told  int64 // entries and events
}

func (t *Totals) add(h *Host) {
	if h.meter == nil { // it was never started
		return
	}
	t.Lists += h.meter.lists.Load()
	t.Told += h.meter.told.Load()
}

// Totals are those of all hosts together.
func (c *Crowd) Totals() Totals {
	all := c.gone
	for _, h := range c.hosts {
		all.add(h)
	}
	return all
}

// Check compares what each host was told with what the store holds. Nothing may be
// written meanwhile.
func (c *Crowd) Check(ctx context.Context) error {
	registry, err := etcdauto.New(c.options.Etcd, c.options.API)
	if err != nil {
		return err
	}
	defer registry.Close()
	store, err := registry.List(ctx)
	if err != nil {
		return err
	}
	var accounts []account
	for _, h := range c.hosts {
		accounts = append(accounts, h.meter.read())
	}
	if err := c.history.check(accounts, store); err != nil {
		return err
	}
	for _, h := range c.hosts {
		if h.whole {
			if err := h.shows(store); err != nil {
				return err
			}
		}
	}
	return c.unique()
}

// unique says which hosts share a subnet.
func (c *Crowd) unique() error {
	holders := map[netip.Prefix]int{}
	for _, h := range c.hosts {
		subnet := h.manager.View().Own.Subnet
		if other, taken := holders[subnet]; taken || !subnet.IsValid() {
			return fmt.Errorf("hosts %d and %d both have %v", other, h.number, subnet)
		}
		holders[subnet] = h.number
	}
	return nil
}
