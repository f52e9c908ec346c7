package subnet_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

var prefix22 = netip.MustParsePrefix("172.7.22.0/24")

// What makes a host keep the routes of leases that vanish, and what does not.
func TestDoubt(t *testing.T) {
	const key22 = "subnets/172.7.22.0-24"
	for _, tt := range []struct {
		name     string
		fault    func(*subnettest.Store, *host)
		retained bool
	}{
		{"a peer's lease is deleted", func(s *subnettest.Store, _ *host) { s.Remove(key22) }, false},
		{"a peer's lease is deleted during a short partition", func(s *subnettest.Store, h *host) {
			h.client.Partition(true)
			s.Remove(key22)
			time.Sleep(5 * time.Second)
			h.client.Partition(false)
		}, false},
		{"the store is wiped", func(s *subnettest.Store, _ *host) { s.Wipe() }, true},
		{"the store is wiped while this host cannot see it", func(s *subnettest.Store, h *host) {
			h.client.Partition(true)
			s.Wipe()
			time.Sleep(time.Second)
			h.client.Partition(false)
		}, true},
		{"the store is wiped and others come back faster", func(s *subnettest.Store, h *host) {
			h.client.Partition(true)
			s.Wipe()
			for range 50 {
				s.Set("subnets/172.7.33.0-24", `{"PublicIP":"10.4.7.33"}`, time.Hour)
			}
			h.client.Partition(false)
		}, true},
		{"all leases are deleted, the peer's first", func(s *subnettest.Store, _ *host) {
			s.Remove(key22)
			s.Remove("subnets/172.7.21.0-24")
		}, true},
		{"all leases are deleted, ours first", func(s *subnettest.Store, _ *host) {
			s.Remove("subnets/172.7.21.0-24")
			s.Remove(key22)
		}, true},
		{"all leases are deleted twice, the peer's first", func(s *subnettest.Store, _ *host) { deleteAllTwice(s, 0) }, true},
		{"all leases are deleted twice, one by one", func(s *subnettest.Store, _ *host) { deleteAllTwice(s, time.Second) }, true},
		{"leases end that nobody could renew", func(s *subnettest.Store, h *host) {
			h.client.Partition(true)
			time.Sleep(time.Minute)
			h.client.Partition(false)
			time.Sleep(3 * time.Second)
			s.Remove(key22)
		}, true},
		{"a backup from before is restored", func(s *subnettest.Store, h *host) {
			h.client.Partition(true)
			s.Wipe()
			s.Set("subnets/172.7.21.0-24", lease21, time.Hour)
			h.client.Partition(false)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				for range 20 {
					store.Set(subnet.ConfigKey, "{}", 0)
				}
				store.Set(key22, lease22, subnet.LeaseTTL)
				h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
				defer h.stop()
				settle()
				tt.fault(store, h)
				time.Sleep(8 * time.Second)
				synctest.Wait()
				v := h.View()
				if has(v, prefix22) != tt.retained || v.Degraded != tt.retained {
					t.Errorf("lease of the peer there: %t, degraded: %t; want both %t", has(v, prefix22), v.Degraded, tt.retained)
				}
				if own(h) != "172.7.21.0/24" {
					t.Errorf("holds %s", own(h))
				}
				time.Sleep(subnet.RetainTime + 2*time.Minute)
				synctest.Wait()
				if v := h.View(); v.Degraded || has(v, prefix22) {
					t.Errorf("after the time for which leases are retained: %+v", v)
				}
			})
		})
	}
}

// deleteAllTwice deletes the leases of both hosts, the peer's first, and once more when both are back.
func deleteAllTwice(s *subnettest.Store, between time.Duration) {
	for range 2 {
		s.Set("subnets/172.7.22.0-24", lease22, subnet.LeaseTTL)
		time.Sleep(2 * time.Second)
		s.Remove("subnets/172.7.22.0-24")
		time.Sleep(between)
		s.Remove("subnets/172.7.21.0-24")
		time.Sleep(2 * time.Second)
	}
}

// A lease that comes and goes while the store is degraded was its holder's own
// doing.
func TestFreshLeasesAreNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		store.Wipe()
		time.Sleep(2 * time.Second)
		store.Set("subnets/172.7.22.0-24", lease22, subnet.LeaseTTL)
		settle()
		store.Remove("subnets/172.7.22.0-24")
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if v := h.View(); !v.Degraded || has(v, prefix22) {
			t.Errorf("degraded %t, leases %v", v.Degraded, v.Leases)
		}
	})
}

// A newcomer is not given a subnet whose holder has not come back yet.
func TestHeldSubnetsAreNotFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		small := mustConfig(`{"Network":"10.1.0.0/28","SubnetLen":30,"Backend":{"Type":"host-gw"}}`)
		store.Set("subnets/10.1.0.4-30", lease22, subnet.LeaseTTL)
		store.Set("subnets/10.1.0.8-30", `{"PublicIP":"10.4.7.23"}`, subnet.LeaseTTL)
		h := start(t, store, &subnet.Claim{Config: small, Attrs: attrs("10.4.7.21")})
		defer h.stop()
		settle()
		if own(h) != "10.1.0.12/30" {
			t.Fatalf("holds %s", own(h))
		}
		h.client.Partition(true)
		store.Wipe()
		store.Set("subnets/10.1.0.12-30", `{"PublicIP":"10.4.7.99"}`, subnet.LeaseTTL) // somebody was faster
		h.client.Partition(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if own(h) != "none" {
			t.Errorf("took %s, whose holder may be alive", own(h))
		}
		time.Sleep(subnet.RetainTime + 2*time.Minute)
		synctest.Wait()
		if own(h) == "none" {
			t.Error("no subnet after the time for which leases are retained")
		}
	})
}

func TestResumedHostDoubtsAnEmptyStore(t *testing.T) {
	for _, resumed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"), func(o *subnet.Options) { o.Resumed = resumed })
			defer h.stop()
			settle()
			if v := h.View(); v.Degraded != resumed || own(h) != "172.7.21.0/24" {
				t.Errorf("resumed %t: degraded %t, holds %s", resumed, v.Degraded, own(h))
			}
		})
	}
}

// Two hosts with one public IP learn of each other.
func TestSamePublicIP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		first := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer first.stop()
		time.Sleep(time.Hour)
		second := start(t, store, claim("10.4.7.21"))
		defer second.stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		for name, h := range map[string]*host{"first": first, "second": second} {
			if n := h.client.Calls("Put"); n < 2 || n > 70 {
				t.Errorf("%s host wrote %d times in an hour", name, n)
			}
		}
	})
}

// A host that comes back under another address takes its lease on evidence.
func TestReturnUnderAnotherAddress(t *testing.T) {
	vxlan := func(ip, mac string) subnet.Attrs {
		return subnet.Attrs{PublicIP: netip.MustParseAddr(ip), BackendType: "vxlan", BackendData: `{"VtepMAC":"` + mac + `"}`}
	}
	old := vxlan("10.4.7.21", "0a:00:00:00:00:21")
	for _, tt := range []struct {
		name  string
		claim subnet.Claim
		takes bool
	}{
		{"a clone", subnet.Claim{Attrs: vxlan("10.4.7.66", "0a:00:00:00:00:66")}, false},
		{"the same VTEP", subnet.Claim{Attrs: vxlan("10.4.7.66", "0a:00:00:00:00:21")}, true},
		{"the lease's address is one of its own", subnet.Claim{Attrs: vxlan("10.4.7.66", "0a:00:00:00:00:66"), Self: subnet.Self{Addrs: []netip.Addr{old.PublicIP}}}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("subnets/172.7.21.0-24", old.Marshal(), time.Hour)
			tt.claim.Config = hostGW
			h := start(t, store, &tt.claim, previous("172.7.21.0/24"))
			defer h.stop()
			time.Sleep(6 * time.Second) // it asks
			synctest.Wait()
			if took := own(h) == "172.7.21.0/24"; took != tt.takes {
				t.Errorf("%s: holds %s", tt.name, own(h))
			}
		})
	}
}

// While this host cannot register itself, the others may be as unlucky.
func TestDoubtLastsWhileNobodyCanRegister(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("subnets/172.7.22.0-24", lease22, subnet.LeaseTTL)
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		h.client.Inject(subnettest.Refuse("Put"))
		store.Wipe()
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if v := h.View(); !v.Degraded || !has(v, prefix22) {
			t.Fatalf("after three hours: degraded %t, leases %v", v.Degraded, v.Leases)
		}
		h.client.Inject(nil)
		time.Sleep(subnet.RetainTime - time.Minute)
		synctest.Wait()
		if v := h.View(); !v.Degraded {
			t.Error("the others had no time to come back")
		}
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if v := h.View(); v.Degraded || has(v, prefix22) {
			t.Errorf("at last: degraded %t, leases %v", v.Degraded, v.Leases)
		}
	})
}

// Events without end do not keep what is retained for ever.
func TestHeldLeasesGoDespiteEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("subnets/172.7.22.0-24", lease22, subnet.LeaseTTL)
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		store.Wipe()
		for range 20 {
			store.Set("subnets/172.7.33.0-24", `{"PublicIP":"10.4.7.33"}`, time.Hour)
			time.Sleep(30 * time.Second)
		}
		synctest.Wait()
		if v := h.View(); v.Degraded || has(v, prefix22) {
			t.Errorf("degraded %t, leases %v", v.Degraded, v.Leases)
		}
	})
}

// Garbage in a living host's key is put right by its host, and costs no route.
func TestGarbledLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		peer := start(t, store, claim("10.4.7.22"), previous("172.7.22.0/24"))
		defer h.stop()
		defer peer.stop()
		settle()
		puts := h.client.Calls("Put")
		store.Set("subnets/172.7.21.0-24", `{"PublicIP": 10.4.7.21}`, 0)
		for range 100 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			if v := peer.View(); !has(v, netip.MustParsePrefix("172.7.21.0/24")) {
				t.Fatalf("the peer sees %+v", v.Leases)
			}
		}
		if e := entry(t, store, "subnets/172.7.21.0-24"); e.Value != lease21 {
			t.Errorf("stored %+v", e)
		}
		time.Sleep(time.Hour)
		if n := h.client.Calls("Put") - puts; n != 1 {
			t.Errorf("%d writes to put it right", n)
		}
	})
}

// An operator who turns a lease into a reservation is no second host.
func TestReservingIsNoConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := start(t, store, claim("10.4.7.21"), previous("172.7.21.0/24"))
		defer h.stop()
		settle()
		for _, ttl := range []time.Duration{0, subnet.LeaseTTL} {
			store.Set("subnets/172.7.21.0-24", lease21, ttl)
			settle()
			if contested := h.cause(condition.LeaseContested); contested != "" || h.View().Own.Expires.IsZero() != (ttl == 0) {
				t.Errorf("lifetime %v: contested %q, holds %+v", ttl, contested, h.View().Own)
			}
		}
	})
}

// Behind NAT every host has the same address beside its own.
func TestSharedAddressIsNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("subnets/172.7.21.0-24", `{"PublicIP":"10.0.2.15","BackendType":"host-gw"}`, time.Hour)
		c := claim("10.4.7.22")
		c.Self.Addrs = []netip.Addr{netip.MustParseAddr("10.0.2.15"), c.Attrs.PublicIP}
		h := start(t, store, c)
		defer h.stop()
		settle()
		if own(h) == "172.7.21.0/24" {
			t.Error("took the lease of a living host")
		}
	})
}

// has says that a view shows a lease of p, be it only retained.
func has(v subnet.View, p netip.Prefix) bool {
	return slices.ContainsFunc(v.Leases, func(l subnet.Lease) bool { return l.Subnet == p })
}
