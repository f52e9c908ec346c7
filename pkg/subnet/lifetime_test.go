package subnet_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// coy is a Registry that shows lifetimes to nobody but who sets them, as etcd's
// v3 API does.
type coy struct {
	*subnettest.Client
	writes int
}

func hide(e *subnet.Entry) {
	if e.TTL > 0 {
		e.TTL = subnet.UnknownTTL
	}
}

func (c *coy) List(ctx context.Context) (subnet.Snapshot, error) {
	s, err := c.Client.List(ctx)
	for i := range s.Entries {
		hide(&s.Entries[i])
	}
	return s, err
}

func (c *coy) Watch(ctx context.Context, after uint64, emit func([]subnet.Event)) error {
	return c.Client.Watch(ctx, after, func(events []subnet.Event) {
		hidden := append([]subnet.Event(nil), events...)
		for i := range hidden {
			hide(&hidden[i].Entry)
		}
		emit(hidden)
	})
}

func (c *coy) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	c.writes++
	return c.Client.Put(ctx, e)
}

func (c *coy) Refresh(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	c.writes++
	return c.Client.Refresh(ctx, e)
}

// TestUnknownLifetimes keeps leases for days that do not say when they end.
func TestUnknownLifetimes(t *testing.T) {
	for _, tt := range []struct {
		name     string
		found    time.Duration // lifetime of the lease that is found; 0: a reservation, -1: none
		margin   time.Duration
		from, to int // writes
	}{
		{"new", -1, time.Hour, 10, 13},
		{"found with a day left", 24 * time.Hour, time.Hour, 10, 13},
		{"found with a minute left", time.Minute, time.Hour, 10, 13},
		{"renewed every hour", 24 * time.Hour, 23 * time.Hour, 240, 245},
		{"reserved", 0, time.Hour, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				if tt.found >= 0 {
					store.Set("subnets/172.7.21.0-24", lease21, tt.found)
				}
				store.Set("subnets/172.7.22.0-24", lease22, 0)
				r := &coy{Client: store.Client()}
				m := subnet.NewManager(r, subnet.Options{RenewMargin: tt.margin})
				m.Claim(*claim("10.4.7.21"))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- m.Run(ctx) }()
				settle()
				first := m.View().Own
				time.Sleep(10 * 24 * time.Hour)
				settle()
				own := m.View().Own
				if !own.Subnet.IsValid() || own.Subnet != first.Subnet || own.Expires.IsZero() != (tt.found == 0) || own.ExpiryUnknown {
					t.Errorf("holding %+v, at first %+v", own, first)
				}
				if e := entry(t, store, subnet.Key(own.Subnet)); (e.TTL == 0) != (tt.found == 0) || e.TTL > 0 && own.Expires.Sub(time.Now().Add(e.TTL)).Abs() > time.Minute {
					t.Errorf("the store has %+v, and the manager %v", e, own.Expires)
				}
				if r.writes < tt.from || r.writes > tt.to {
					t.Errorf("%d writes, want %d to %d", r.writes, tt.from, tt.to)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
