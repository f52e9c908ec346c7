package subnet_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// busy is a store that is there, and too slow for whoever asks.
type busy struct {
	*subnettest.Client
	over          atomic.Bool
	lists, writes atomic.Int32
	asked         atomic.Int64 // time for which somebody has waited
}

func (b *busy) overrun(calls *atomic.Int32) error {
	const long = 20 * time.Second
	if calls.Add(1); b.over.Load() {
		return nil
	}
	time.Sleep(long)
	b.asked.Add(int64(long))
	return fmt.Errorf("ask etcd: %w", subnet.ErrSilent)
}

func (b *busy) List(ctx context.Context) (subnet.Snapshot, error) {
	if err := b.overrun(&b.lists); err != nil {
		return subnet.Snapshot{}, err
	}
	return b.Client.List(ctx)
}

func (b *busy) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	if err := b.overrun(&b.writes); err != nil {
		return subnet.Entry{}, err
	}
	return b.Client.Put(ctx, e)
}

// TestBusyEtcd has calls overrun their time: etcd is left alone for a while after each, and is asked again soon enough
// to be known when it is better.
func TestBusyEtcd(t *testing.T) {
	for _, writes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := &busy{Client: subnettest.NewStore().Client()}
			h := &host{Manager: subnet.NewManager(b, subnet.Options{RenewMargin: time.Hour}), client: b.Client}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			defer func() { cancel(); <-done }()
			if b.over.Store(writes); writes {
				go func() { done <- h.Run(ctx) }()
				settle()
				b.over.Store(false)
				h.Claim(*claim("10.4.7.21"))
			} else {
				h.Claim(*claim("10.4.7.21"))
				go func() { done <- h.Run(ctx) }()
			}
			const long = 30 * time.Minute
			time.Sleep(long)
			if asked := time.Duration(b.asked.Load()); asked < long/2 || asked > long*4/5 {
				t.Errorf("writes %t: for %v of %v etcd was asked", writes, asked, long)
			}
			b.over.Store(true)
			time.Sleep(20*time.Second + 13*time.Second)
			if own(h) == "none" {
				t.Errorf("writes %t: no lease, after %d lists and %d writes", writes, b.lists.Load(), b.writes.Load())
			}
		})
	}
}

// late tells each change three seconds after the one before, as an etcd does that has too many
// watchers.
type late struct {
	*subnettest.Client
	lists, watches atomic.Int32
}

func (l *late) List(ctx context.Context) (subnet.Snapshot, error) {
	l.lists.Add(1)
	return l.Client.List(ctx)
}

func (l *late) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	l.watches.Add(1)
	return l.Client.Watch(ctx, after, func(events []subnet.Event) {
		if len(events) == 0 {
			emit(nil)
		}
		for i := range events {
			time.Sleep(3 * time.Second)
			emit(events[i : i+1])
		}
	})
}

// TestLateEvents: an etcd that tells this host's own write late, but tells, is not listed or watched
// anew for it: that would begin with the same changes once more.
func TestLateEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		l := &late{Client: store.Client()}
		h := &host{Manager: subnet.NewManager(l, subnet.Options{RenewMargin: time.Hour}), client: l.Client}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		defer func() { cancel(); <-done }()
		go func() { done <- h.Run(ctx) }()
		settle()
		for i := range 6 {
			store.Set(fmt.Sprintf("subnets/172.7.%d.0-24", 40+i), lease22, subnet.LeaseTTL)
		}
		h.Claim(*claim("10.4.7.21"))
		settle()
		time.Sleep(25 * time.Second)
		synctest.Wait()
		if held := h.View().Own; !held.Subnet.IsValid() || l.lists.Load() != 1 || l.watches.Load() != 1 {
			t.Errorf("holds %+v after %d lists and %d watches", held, l.lists.Load(), l.watches.Load())
		}
	})
}
