package subnet_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// TestDeniedLeaseBecomesOurs: a lease whose holder has answered that it lives may be the copy's
// later, by whatever way. Then the copy holds it, and nothing of the answer is left.
func TestDeniedLeaseBecomesOurs(t *testing.T) {
	const key, at66 = "subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.66"}`
	gone := func(original *host) { original.stop(); original.stop = func() {} }
	for name, becomes := range map[string]func(store *subnettest.Store, original, clone *host){
		"its holder is gone, and it is released": func(store *subnettest.Store, original, _ *host) {
			gone(original)
			store.Remove(key)
		},
		"its holder is gone, and it expires": func(_ *subnettest.Store, original, _ *host) {
			gone(original)
			time.Sleep(25 * time.Hour)
		},
		"it is reserved for the copy": func(store *subnettest.Store, _, _ *host) { store.Set(key, at66, 0) },
		"it is reserved for the copy, of a holder that is gone": func(store *subnettest.Store, original, _ *host) {
			gone(original)
			store.Set(key, at66, 0)
		},
		"the copy gets its holder's address": func(_ *subnettest.Store, original, clone *host) {
			gone(original)
			clone.Claim(subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", "0a:00:00:00:00:66")})
		},
	} {
		for denied, late := range map[string]bool{"asked": false, "taken back": true} {
			t.Run(name+", "+denied, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := subnettest.NewStore()
					original := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
					defer func() { original.stop() }()
					settle()
					original.client.Partition(late)
					clone := copyOf21(t, store)
					defer clone.stop()
					time.Sleep(10 * time.Second)
					original.client.Partition(false)
					time.Sleep(20 * time.Second)
					synctest.Wait()
					if living := clone.View().Living; own(clone) != "none" || !living[key] {
						t.Fatalf("the copy holds %s; living: %v", own(clone), living)
					}
					becomes(store, original, clone)
					lives := name == "it is reserved for the copy"
					time.Sleep(20 * time.Second)
					synctest.Wait()
					has := func(h *host) bool { return h.View().Own.Key == key && h.View().Stored }
					// A holder that hears of the copy's write before the operator's takes its lease back,
					// as their MACs are the same.
					if lives && has(original) && !has(clone) {
						return
					}
					if living := clone.View().Living; !has(clone) || lives && has(original) || len(living) != 0 {
						t.Errorf("the copy holds %s, the original %s; living: %v; store: %v", own(clone), own(original), living, store.Entries())
					}
				})
			})
		}
	}
}

// TestDeniedLeaseOfAnother: the answer was one holder's. Another, which has the lease since, is asked anew.
func TestDeniedLeaseOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		original := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
		settle()
		clone := copyOf21(t, store)
		defer clone.stop()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		original.stop()
		store.Set("subnets/172.7.21.0-24", vxlanAt("10.4.7.77", mac21).Marshal(), time.Hour) // who does not live
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if living := clone.View().Living; own(clone) != "172.7.21.0/24" || len(living) != 0 {
			t.Errorf("it holds %s; living: %v", own(clone), living)
		}
	})
}

// TestAnsweredQuestion: a host whose copy is started answers, and nothing is wrong with it. Two hosts
// of one address are told, though what they write is the same.
func TestAnsweredQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		original := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)}, previous("172.7.21.0/24"))
		defer original.stop()
		settle()
		for range 3 {
			clone := copyOf21(t, store)
			for range 70 {
				time.Sleep(time.Second)
				synctest.Wait()
				if cause := original.cause(condition.LeaseContested); cause != "" {
					t.Fatal(cause)
				}
			}
			if !clone.View().Living["subnets/172.7.21.0-24"] {
				t.Error("the copy got no answer")
			}
			clone.stop()
		}
		twin := start(t, store, &subnet.Claim{Config: hostGW, Attrs: vxlanAt("10.4.7.21", mac21)})
		defer twin.stop()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, h := range []*host{original, twin} {
			if h.cause(condition.LeaseContested) == "" {
				t.Error("two hosts have one address, and one does not say so")
			}
		}
	})
}

// TestAwaits: a reservation is awaited exactly if a start takes it.
func TestAwaits(t *testing.T) {
	const mine = `{"PublicIP":"10.4.7.21"}`
	type leases map[string]string
	for name, tt := range map[string]struct {
		reservations leases
		others       leases
		reserved     []string
		want         string // the key; empty: none
	}{
		"none":                         {},
		"one":                          {reservations: leases{"subnets/172.7.90.0-24": mine}, want: "subnets/172.7.90.0-24"},
		"two":                          {reservations: leases{"subnets/172.7.91.0-24": mine, "subnets/172.7.90.0-24": mine}, want: "subnets/172.7.90.0-24"},
		"outside of the network":       {reservations: leases{"subnets/172.8.90.0-24": mine}},
		"another host's":               {reservations: leases{"subnets/172.7.90.0-24": `{"PublicIP":"10.4.7.22"}`}},
		"it holds a gateway":           {reservations: leases{"subnets/172.7.90.0-24": mine}, reserved: []string{"172.7.90.1/32"}},
		"that, and one that is fit":    {reservations: leases{"subnets/172.7.90.0-24": mine, "subnets/172.7.91.0-24": mine}, reserved: []string{"172.7.90.1/32"}, want: "subnets/172.7.91.0-24"},
		"a network around it":          {reservations: leases{"subnets/172.7.90.0-24": mine}, reserved: []string{"172.7.88.0/21"}, want: "subnets/172.7.90.0-24"},
		"an older lease overlaps":      {reservations: leases{"subnets/172.7.90.0-24": mine}, others: leases{"subnets/172.7.90.128-25": `{"PublicIP":"10.4.7.22"}`}},
		"our own key is a reservation": {reservations: leases{"subnets/172.7.21.0-24": mine, "subnets/172.7.90.0-24": mine}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				c := claim("10.4.7.21")
				for _, r := range tt.reserved {
					c.Reserved = append(c.Reserved, netip.MustParsePrefix(r))
				}
				h := start(t, store, c, previous("172.7.21.0/24"))
				defer func() { h.stop() }()
				settle()
				before := own(h)
				for _, all := range []leases{tt.others, tt.reservations} {
					for key, value := range all {
						store.Set(key, value, 0)
					}
				}
				settle()
				got := h.View().Awaits
				if got != tt.want || own(h) != before {
					t.Errorf("it awaits %q, want %q; it holds %s", got, tt.want, own(h))
				}
				h.stop()
				h = start(t, store, c, previous(before))
				settle()
				moved := ""
				if own(h) != before {
					moved = h.View().Own.Key
				}
				if moved != tt.want || h.View().Awaits != "" {
					t.Errorf("a start moved it to %q, want %q; then it awaits %q", moved, tt.want, h.View().Awaits)
				}
			})
		})
	}
}
