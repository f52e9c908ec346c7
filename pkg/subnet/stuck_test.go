package subnet_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// obstinate is a store that answers some writes with an error, whatever it shows.
type obstinate struct {
	*subnettest.Client

	mu     sync.Mutex
	refuse func(subnet.Entry) error
	puts   int
}

// from has it refuse from now on, and forgets what was written.
func (o *obstinate) from(refuse func(subnet.Entry) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuse, o.puts = refuse, 0
}

func (o *obstinate) asked(e subnet.Entry) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.puts++
	return o.refuse(e)
}

func (o *obstinate) Put(ctx context.Context, e subnet.Entry) (subnet.Entry, error) {
	if err := o.asked(e); err != nil {
		return subnet.Entry{}, fmt.Errorf("write %s: %w", e.Key, err)
	}
	return o.Client.Put(ctx, e)
}

// TestWritesThatAreNoProgress has writes that fail in the same way for ever. They
// are paced, told, and over when they are over.
func TestWritesThatAreNoProgress(t *testing.T) {
	const ours = "subnets/172.7.21.0-24"
	only := func(err error) func(subnet.Entry) error {
		return func(e subnet.Entry) error {
			if e.Key == ours {
				return err
			}
			return nil
		}
	}
	always := func(err error) func(subnet.Entry) error { return func(subnet.Entry) error { return err } }
	for _, tt := range []struct {
		name     string
		previous string
		held     bool // until the lease vanishes
		refuse   func(subnet.Entry) error
		cause    string // of EtcdUnwritable meanwhile; empty: none
		moves    bool   // to another subnet
	}{
		{name: "a conflict about our own lease", held: true, refuse: only(subnet.ErrConflict), cause: "was written by somebody else"},
		{name: "a directory at our own lease", held: true, refuse: only(subnet.ErrBlocked), cause: "in the key's place"},
		{name: "a directory at the subnet file's lease", previous: "172.7.21.0/24", refuse: only(subnet.ErrBlocked), cause: "in the key's place"},
		{name: "a conflict about each subnet", refuse: always(subnet.ErrConflict), cause: "was written by somebody else"},
		{name: "a conflict about the subnet file's", previous: "172.7.21.0/24", refuse: only(subnet.ErrConflict), moves: true},
		{name: "a directory at a subnet of many", refuse: func() func(subnet.Entry) error {
			first := ""
			return func(e subnet.Entry) error {
				if first == "" || first == e.Key {
					first = e.Key
					return subnet.ErrBlocked
				}
				return nil
			}
		}(), moves: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				switch {
				case tt.held:
					store.Set(ours, lease21, 24*time.Hour)
				case tt.previous == "": // it is another host's, and so none that is drawn
					store.Set(ours, lease22, 24*time.Hour)
				}
				o := subnet.Options{RenewMargin: time.Hour, Conditions: &condition.Set{}}
				if tt.previous != "" {
					o.Previous = subnet.SubnetsOf(netip.MustParsePrefix(tt.previous))
				}
				registry := &obstinate{Client: store.Client(), refuse: always(nil)}
				m := subnet.NewManager(registry, o)
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- m.Run(ctx) }()
				defer func() { cancel(); <-done }()
				if !tt.held {
					registry.from(tt.refuse)
				}
				m.Claim(*claim("10.4.7.21"))
				time.Sleep(10 * time.Second)
				synctest.Wait()
				if tt.held {
					registry.from(tt.refuse)
					store.Remove(ours)
				}
				lists := registry.Calls("List")
				const watched = 60 * time.Second
				time.Sleep(watched)
				synctest.Wait()
				registry.mu.Lock()
				writes := registry.puts
				registry.mu.Unlock()
				// At most one in 0.8 s less jitter, but for the first few.
				if most := 160; writes > most || registry.Calls("List")-lists > most {
					t.Errorf("%d writes and %d lists in %v", writes, registry.Calls("List")-lists, watched)
				}
				cause := ""
				if c, there := o.Conditions.Find(condition.EtcdUnwritable, ""); there {
					cause = c.Cause
				}
				if tt.cause == "" && cause != "" || !strings.Contains(cause, tt.cause) {
					t.Errorf("the condition is %q, want %q", cause, tt.cause)
				}
				if own := m.View().Own.Subnet; tt.moves != (own.IsValid() && own != netip.MustParsePrefix("172.7.21.0/24")) {
					t.Errorf("holds %v", own)
				}
				registry.from(always(nil))
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if c, there := o.Conditions.Find(condition.EtcdUnwritable, ""); there || !m.View().Own.Subnet.IsValid() {
					t.Errorf("afterwards: %+v, %v", m.View().Own, c)
				}
			})
		})
	}
}

// TestAllRefusedIsNoEnd: a host that could write no subnet at all says that it cannot write, rather than that all are
// leased, and holds one soon after the cause is gone.
func TestAllRefusedIsNoEnd(t *testing.T) {
	for _, err := range []error{subnet.ErrBlocked, subnet.ErrConflict} {
		synctest.Test(t, func(t *testing.T) {
			o := subnet.Options{RenewMargin: time.Hour, Conditions: &condition.Set{}}
			registry := &obstinate{Client: subnettest.NewStore().Client(), refuse: func(subnet.Entry) error { return err }}
			m := subnet.NewManager(registry, o)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			defer func() { cancel(); <-done }()
			c := claim("10.4.7.21")
			var wrong error
			if c.Config, wrong = subnet.ParseConfig(`{"Network":"172.7.0.0/22","SubnetLen":24,"Backend":{"Type":"host-gw"}}`); wrong != nil {
				t.Fatal(wrong)
			}
			m.Claim(*c)
			for range 60 {
				time.Sleep(time.Minute)
				synctest.Wait()
				if full, there := o.Conditions.Find(condition.NoFreeSubnet, ""); there {
					t.Fatalf("%v: %+v", err, full)
				}
			}
			if _, there := o.Conditions.Find(condition.EtcdUnwritable, ""); !there {
				t.Errorf("%v: the condition is over", err)
			}
			registry.from(func(subnet.Entry) error { return nil })
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if !m.View().Own.Subnet.IsValid() {
				t.Errorf("%v: no lease after it is over", err)
			}
		})
	}
}
