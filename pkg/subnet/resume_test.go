package subnet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// TestGoesOn has watches break in a store that loses nothing: nobody lists again.
func TestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), on21)
		defer h.stop()
		settle()
		lists := func() int { return h.client.Calls("List") }
		before := lists()
		for range 3 {
			time.Sleep(time.Minute)
			store.Restart()
			store.Set("subnets/172.7.22.0-24", lease22, 24*time.Hour)
			settle()
			if v := h.View(); !knows(h, "172.7.22.0/24") || !v.Current || !v.Stored {
				t.Fatalf("after a restart: %+v", v)
			}
			store.Remove("subnets/172.7.22.0-24")
			time.Sleep(10 * time.Second)
		}
		if len(h.wrong.List()) > 0 {
			t.Errorf("conditions %v", h.wrong.List())
		}

		// Away for longer than holders of leases may bear.
		h.client.Partition(true)
		store.Restart()
		store.Set("subnets/172.7.22.0-24", lease22, 24*time.Hour)
		time.Sleep(time.Second)
		if v := h.View(); v.Current || h.cause(condition.EtcdUnreadable) == "" {
			t.Errorf("while etcd is away: %+v, %v", v, h.wrong.List())
		}
		time.Sleep(time.Minute)
		h.client.Partition(false)
		time.Sleep(time.Second)
		if v := h.View(); !knows(h, "172.7.22.0/24") || !v.Current || !v.Degraded || h.cause(condition.EtcdUnreadable) != "" {
			t.Errorf("when etcd is back: %+v, %v", v, h.wrong.List())
		}
		time.Sleep(subnet.RetainTime + time.Minute)
		if len(h.wrong.List()) > 0 {
			t.Errorf("conditions %v", h.wrong.List())
		}
		if n := lists() - before; n != 0 {
			t.Errorf("%d lists", n)
		}

		// A day later it is renewed, though no list came since.
		time.Sleep(24 * time.Hour)
		if e := entry(t, store, "subnets/172.7.21.0-24"); e.Value != lease21 || lists() != before {
			t.Errorf("%+v, %d lists", e, lists()-before)
		}
	})
}

// TestDoesNotGoOn has a store of an earlier time in the place of the one that was watched. Own key, index, cluster
// and term are as they should be.
func TestDoesNotGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), on21)
		defer h.stop()
		time.Sleep(time.Minute)
		backup := store.Backup()
		store.Set("subnets/172.7.22.0-24", lease22, 24*time.Hour)
		store.Set("subnets/172.7.23.0-24", lease22, 24*time.Hour)
		settle()
		lists, puts := h.client.Calls("List"), h.client.Calls("Put")
		store.Restore(backup, subnettest.LaterTerm, []subnet.Event{
			{Entry: subnet.Entry{Key: "subnets/172.7.24.0-24", Value: lease22, TTL: 24 * time.Hour}},
			{Entry: subnet.Entry{Key: "subnets/172.7.23.0-24", Value: lease22, TTL: 24 * time.Hour}},
		})
		time.Sleep(10 * time.Second)
		if !knows(h, "172.7.24.0/24") || knows(h, "172.7.22.0/24") || h.client.Calls("List") != lists+1 {
			t.Errorf("%+v after %d lists", h.View().Leases, h.client.Calls("List")-lists)
		}
		if n := h.client.Calls("Put"); n != puts {
			t.Errorf("%d writes", n-puts)
		}
	})
}

// TestWatchGoesOnInVain has lists take the place of a watch that goes on and ends at once.
func TestWatchGoesOnInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), on21)
		defer h.stop()
		time.Sleep(time.Minute)
		h.client.Inject(subnettest.Refuse("Watch"))
		store.Restart()
		store.Set("subnets/172.7.22.0-24", lease22, 24*time.Hour)
		time.Sleep(12 * time.Second)
		if v := h.View(); !knows(h, "172.7.22.0/24") || !v.Current || h.client.Calls("Resume") > 2 {
			t.Errorf("%+v after going on %d times", v, h.client.Calls("Resume"))
		}
		if h.cause(condition.EtcdWatchBroken) == "" {
			t.Errorf("conditions %v", h.wrong.List())
		}
	})
}

// TestGoesOnInVainBetweenOutages has an etcd that is away again and again, and whose watches fail whenever it is
// there: what it holds is known all the same.
func TestGoesOnInVainBetweenOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), on21)
		defer h.stop()
		time.Sleep(time.Minute)
		h.client.Inject(func(op string) subnettest.Fault {
			if op == "Watch" || op == "Resume" && h.client.Calls("Resume")%2 == 1 {
				return subnettest.Refused
			}
			return subnettest.None
		})
		store.Restart()
		store.Set("subnets/172.7.22.0-24", lease22, 24*time.Hour)
		time.Sleep(time.Minute)
		if v := h.View(); !knows(h, "172.7.22.0/24") {
			t.Errorf("%+v after going on %d times", v, h.client.Calls("Resume"))
		}
	})
}
