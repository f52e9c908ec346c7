package subnet

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// watched is a store during whose writes somebody looks at the Manager's state.
// The first write fails.
type watched struct {
	look   func()
	writes int
	told   chan Event
	looks  sync.WaitGroup
}

func (w *watched) List(context.Context) (Snapshot, error) { return Snapshot{Index: 1}, nil }

func (w *watched) Watch(ctx context.Context, _ uint64, emit func([]Event)) error {
	emit(nil)
	for {
		select {
		case e := <-w.told:
			emit([]Event{e})
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Put must not wait for the other one by any means but time: that would put the
// two in order.
func (w *watched) Put(_ context.Context, e Entry) (Entry, error) {
	w.looks.Go(w.look)
	time.Sleep(20 * time.Millisecond)
	w.writes++
	if w.writes == 1 {
		return Entry{}, errors.New("refused")
	}
	e.Created, e.Modified = 2, uint64(w.writes)
	w.told <- Event{Entry: e}
	return e, nil
}

func (w *watched) Refresh(ctx context.Context, e Entry) (Entry, error)    { return w.Put(ctx, e) }
func (w *watched) Replace(ctx context.Context, _, e Entry) (Entry, error) { return w.Put(ctx, e) }
func (w *watched) Delete(context.Context, Entry) error                    { return nil }
func (w *watched) Proven() time.Time                                      { return time.Now() }
func (w *watched) Resume(context.Context, uint64) error                   { return nil }

// TestLock reads all that the lock guards, while Run changes it: -race tells.
func TestLock(t *testing.T) {
	store := &watched{told: make(chan Event, 1)}
	m := NewManager(store, Options{RenewMargin: time.Hour})
	store.look = func() { m.with(func(s *state) { _ = *s }) }
	c, err := ParseConfig(`{"Network":"172.7.0.0/16"}`)
	if err != nil {
		t.Fatal(err)
	}
	m.Claim(Claim{Config: c, Attrs: Attrs{PublicIP: netip.MustParseAddr("10.4.7.21"), BackendType: "host-gw"}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	for m.View().Own.Subnet == (netip.Prefix{}) {
		<-m.Changed()
	}
	cancel()
	running.Wait()
	store.looks.Wait()
}
