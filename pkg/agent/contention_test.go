package agent_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

// TestContentionIsOfOneObject has one route undone again and again: the others are
// repaired at once all along, and the condition names that one.
func TestContentionIsOfOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.7.23","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		remove := func(subnets ...string) {
			h.with(func(k *kerneltest.Kernel) {
				k.EditRoutes(func(r []kernel.FoundRoute) []kernel.FoundRoute {
					return slices.DeleteFunc(r, func(r kernel.FoundRoute) bool { return slices.Contains(subnets, r.Dst.String()) })
				})
			})
		}
		for range 3000 { // five minutes
			remove("172.7.22.0/24")
			settle(100 * time.Millisecond)
		}
		for range 3 {
			remove("172.7.22.0/24", "172.7.23.0/24")
			settle(100 * time.Millisecond)
			h.shows(`ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
			settle(10 * time.Second)
			remove("172.7.22.0/24")
		}
		said := strings.Join(h.problems(), "\n")
		if !strings.Contains(said, "again and again") || !strings.Contains(said, "172.7.22.0/24") || strings.Contains(said, "172.7.23.0/24") {
			t.Errorf("problems %s", said)
		}
		settle(3 * time.Minute) // peace
		h.shows("ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77\nip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77")
		if said := h.problems(); len(said) != 0 {
			t.Errorf("problems after the end: %q", said)
		}
	})
}

// TestLeftoverAgainAndAgain has a program write a former flannel's route into this host's own
// subnet again and again: it is removed ever later, and the condition names it.
func TestLeftoverAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		store.Set("subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`, time.Hour)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		left := kernel.FoundRoute{Route: kernel.Route{Dst: netip.MustParsePrefix("172.7.21.0/24"), Via: netip.MustParseAddr("10.4.7.22"), Dev: "ens33"}, Protocol: 3}
		removed := 0
		for range 3000 { // five minutes
			h.with(func(k *kerneltest.Kernel) {
				k.EditRoutes(func(r []kernel.FoundRoute) []kernel.FoundRoute {
					if slices.Contains(r, left) {
						return r
					}
					removed++
					return append(r, left)
				})
			})
			settle(100 * time.Millisecond)
		}
		if removed < 31 || removed > 50 {
			t.Errorf("removed %d times", removed)
		}
		if said := strings.Join(h.problems(), "\n"); !strings.Contains(said, "again and again") || !strings.Contains(said, "ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 3") {
			t.Errorf("problems %s", said)
		}
		settle(3 * time.Minute) // peace
		h.shows("")
		if said := h.problems(); len(said) != 0 {
			t.Errorf("problems after the end: %q", said)
		}
	})
}
