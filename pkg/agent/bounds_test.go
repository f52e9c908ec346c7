package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet/subnettest"
)

// TestStoreFullOfGarbage has values of 1 MB and thousands of keys beside a peer's
// lease: they are told of, in few words, and the rest goes on.
func TestStoreFullOfGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		long := strings.Repeat("x", 1_000_000)
		store := subnettest.NewStore()
		for i := range 3000 {
			store.Set(fmt.Sprintf("subnets/garbage-%d", i), "x", 0)
		}
		for i := range 75 {
			store.Set(fmt.Sprintf("subnets/172.8.%d.0-24", i), long, 0)
		}
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, time.Hour)
		store.Set("config", long, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(2 * time.Second)
		const wrong = "config key is wrong: is 1000000 bytes long, more than the 16384 that are read; put it right"
		h.expectReason(wrong)
		store.Set("config", `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`, 0)
		settle(20 * time.Second)
		h.expectReason("")
		h.contains("ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
		s, ignored := h.ask(), 0
		for _, c := range s.Conditions {
			if c.Code == condition.LeaseIgnored {
				ignored += max(1, c.More)
			}
			if len(c.Text()) > 500 {
				t.Errorf("a condition of %d bytes", len(c.Text()))
			}
		}
		if ignored != 3075 || len(s.Conditions) > 60 {
			t.Errorf("%d keys are ignored, by %d conditions", ignored, len(s.Conditions))
		}
		store.Set("config", long, 0)
		settle(2 * time.Second)
		h.contains("ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77") // the former one stays in force
		if c, there := h.ask().Conditions.Find(condition.ConfigInvalid); !there || !strings.Contains(c.Message, wrong) {
			t.Errorf("condition %+v", c)
		}
	})
}
