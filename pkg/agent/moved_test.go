package agent_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet/subnettest"
)

// TestAnotherAddress is a host that comes back with another address, and the subnet
// file of before: while its old lease lives it takes another subnet, and its own where
// somebody who knows has removed that lease. So says docs/compatibility.md.
func TestAnotherAddress(t *testing.T) {
	for _, released := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", hostGW, 0)
			store.Set("subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`, 24*time.Hour)
			if released {
				store.Remove("subnets/172.7.21.0-24")
			}
			h := newHost(t, store, 99)
			h.own = netip.MustParsePrefix("172.7.21.0/24")
			h.start()
			defer h.stop()
			settle(time.Minute)
			select {
			case l := <-h.ready:
				if got := l.Subnet == h.own; got != released {
					t.Errorf("released: %t, and it has %v", released, l.Subnet)
				}
			default:
				t.Errorf("released: %t, and it is not ready", released)
			}
		})
	}
}
