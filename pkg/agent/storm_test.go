package agent_test

import (
	"fmt"
	"slices"
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

// TestConfigStorm changes the VNI ten times a second, and now and then leaves it for long enough to be followed: few
// devices are left behind, what is undone meanwhile is repaired, and the last config is the one at work.
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
			settle(100 * time.Millisecond)
			if vni%10 == 9 {
				settle(followed)
			}
			h.with(func(k *kerneltest.Kernel) {
				k.EditRoutes(func(r []kernel.FoundRoute) []kernel.FoundRoute { return nil })
			})
			settle(300 * time.Millisecond)
			all := tunnels(h)
			most = max(most, len(all))
			if vni < 10 && !slices.Contains(all, "flannel.1") {
				t.Fatalf("after change %d the devices are %v", vni+1, all)
			}
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

// TestStormIsFollowedByAllAlike: hosts that hear of a storm's changes at different moments follow the same config, or
// they would not reach each other.
func TestStormIsFollowedByAllAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		config := func(vni int) {
			store.Set("config", fmt.Sprintf(`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":%d}}`, vni), 0)
		}
		config(1)
		hosts := []*host{newHost(t, store, 21).start(), newHost(t, store, 22).start()}
		for _, h := range hosts {
			defer func() { h.stop() }()
		}
		settle(time.Second)
		for i := range 60 {
			config(100 + i)
			for _, h := range hosts {
				settle(time.Duration(20+30*(i%3)) * time.Millisecond)
				if got := tunnels(h); len(got) != 1 || got[0] != "flannel.1" {
					t.Fatalf("in the storm %v has %v", h.ip, got)
				}
			}
		}
		settle(20 * time.Second)
		for _, h := range hosts {
			if got := tunnels(h); len(got) != 1 || got[0] != "flannel.159" {
				t.Errorf("%v has %v in the end", h.ip, got)
			}
		}
	})
}
