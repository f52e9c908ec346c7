package agent_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet/subnettest"
	"flanneld/pkg/underlay"
)

// lookup is the protocol of the route that the kernel takes to an address, the
// worst where several are as good.
func (h *host) lookup(to netip.Addr) (protocol int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	routes, _ := h.kernel.Routes()
	longest := -1
	for _, r := range routes {
		switch {
		case !r.Dst.Contains(to) || r.Dst.Bits() < longest:
		case r.Dst.Bits() > longest || r.Protocol == kernel.Protocol:
			longest, protocol = r.Dst.Bits(), r.Protocol
		}
	}
	return protocol
}

// TestNothingNeededIsLedAway throws leases, routes and places of etcd at random into
// a network over the hosts' own addresses, also such as an earlier run has made routes
// of: no packet to what the host needs leaves by a route of ours.
func TestNothingNeededIsLedAway(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				draw := rand.New(rand.NewPCG(seed, 7))
				length := 22 + draw.IntN(6)
				address := func() netip.Addr {
					return netip.AddrFrom4([4]byte{10, 4, byte(4 + draw.IntN(8)), byte(1 + draw.IntN(254))})
				}
				store := subnettest.NewStore()
				store.Set("config", fmt.Sprintf(`{"Network":"10.4.0.0/16","SubnetLen":%d,"Backend":{"Type":"host-gw"}}`, length), 0)
				h := newHost(t, store, 21)
				needed := []netip.Addr{netip.MustParseAddr("10.4.7.254")}
				for range 1 + draw.IntN(3) {
					a := address()
					needed = append(needed, a)
					h.needs.all = append(h.needs.all, underlay.Address(a, "etcd"))
				}
				for range 30 {
					needed = append(needed, netip.AddrFrom4([4]byte{10, 4, 7, byte(1 + draw.IntN(254))}))
				}
				if err := h.kernel.Run("ip route add 0.0.0.0/0 via 10.4.7.254 dev ens33 proto boot"); err != nil {
					t.Fatal(err)
				}
				for range draw.IntN(3) {
					p, _ := address().Prefix(20 + draw.IntN(13))
					_ = h.kernel.Run(fmt.Sprintf("ip route add %v via 10.4.7.254 dev ens33 proto static", p))
				}
				for range 25 {
					p, _ := address().Prefix(length)
					peer := 22 + draw.IntN(200)
					if draw.IntN(2) == 0 {
						_ = h.kernel.Run(fmt.Sprintf("ip route add %v via 10.4.7.%d dev ens33 proto 77", p, peer))
					}
					store.Set(fmt.Sprintf("subnets/%v-%d", p.Addr(), length), fmt.Sprintf(`{"PublicIP":"10.4.7.%d","BackendType":"host-gw"}`, peer), 0)
				}
				h.resumed = draw.IntN(2) == 0
				h.start()
				defer h.stop()
				settle(10 * time.Second)
				for _, a := range needed {
					if h.lookup(a) == kernel.Protocol {
						t.Errorf("%v is led into the network:\n%s", a, h.render())
					}
				}
			})
		})
	}
}
