package agent_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

func tunnels(h *host) (names []string) {
	links, _ := h.Links()
	for _, l := range links {
		if l.Kind != nil {
			names = append(names, l.Name)
		}
	}
	return names
}

// TestConfigStorm changes the VNI every 0.6 s, which is time to switch each time: few devices are left behind,
// what is undone meanwhile is repaired, and the last config is the one at work.
func TestConfigStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		config := func(vni int) {
			store.Set("config", fmt.Sprintf(`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":%d}}`, vni), 0)
		}
		config(1)
		store.Set("subnets/172.7.24.0-24", `{"PublicIP":"10.4.7.24","BackendType":"host-gw"}`, 0)
		h := newHost(t, store, 21).start()
		defer func() { h.stop() }()
		settle(time.Second)
		most := 0
		for vni := range 100 {
			config(vni + 2)
			settle(300 * time.Millisecond)
			h.with(func(k *kerneltest.Kernel) {
				k.EditRoutes(func(r []kernel.FoundRoute) []kernel.FoundRoute { return nil })
			})
			settle(300 * time.Millisecond)
			most = max(most, len(tunnels(h)))
			if vni < 25 && !strings.Contains(h.render(), "ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77") {
				t.Fatalf("after change %d the route is not repaired", vni+1)
			}
		}
		if most > 6 { // the current one, the next one and four that were left
			t.Errorf("%d devices", most)
		}
		settle(time.Minute)
		if got := tunnels(h); len(got) != 1 || got[0] != "flannel.101" {
			t.Errorf("devices %v in the end", got)
		}
	})
}
