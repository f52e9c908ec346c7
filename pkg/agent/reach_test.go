package agent_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

// TestCanReach chooses the interface that leads to an address, waits where none does,
// and stays there when another route is nearer later.
func TestCanReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21)
		h.reach = netip.MustParseAddr("10.5.0.1")
		h.start()
		defer h.stop()
		settle(time.Second)
		if c, there := h.agent.Conditions.Find(condition.InterfaceMissing, ""); !there {
			t.Errorf("no route leads there, and it goes on: %+v", c)
		}
		link := func(name, addr string) func(*kerneltest.Kernel) {
			return func(k *kerneltest.Kernel) {
				k.AddLink(kernel.Link{
					Name: name, MTU: 1400, Up: true, Addrs: []kernel.Addr{{Prefix: netip.MustParsePrefix(addr)}},
				})
			}
		}
		shows := func(when string) {
			t.Helper()
			settle(2 * time.Minute)
			want := `{"PublicIP":"10.5.0.21","BackendType":"host-gw"}`
			if all := store.Entries(); len(all) != 2 || all[1].Value != want {
				t.Errorf("%s: %+v, want the lease %s", when, all, want)
			}
		}
		h.with(link("ens34", "10.5.0.21/24"))
		shows("a route")
		h.with(func(k *kerneltest.Kernel) {
			k.Change("ens34", func(l *kernel.Link) { l.Addrs[0].Prefix = netip.MustParsePrefix("10.5.0.21/32") })
		})
		h.with(link("ens35", "10.5.0.35/24"))
		shows("another one")
	})
}
