package agent_test

import (
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet/subnettest"
)

// TestRestartLeavesNoRouteInFront: routes to single peers by the former backend, which nobody serves any more,
// are not in front of one to all while what was found stays.
func TestRestartLeavesNoRouteInFront(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("wireguard"), 0)
		var all cluster
		for n := 21; n < 24; n++ {
			all = append(all, newTunnelHost(t, store, n, false, nil).start())
		}
		defer func() { all.stop() }()
		settle(10 * time.Second)
		store.Set("config", configOf("udp"), 0)
		settle(4 * time.Second) // all have prepared for it, and none sends by it yet
		all[0].stop()
		all[0].start()
		settle(5 * time.Second)
		for _, peer := range all[1:] {
			for _, r := range routesTo(all[0], peer) {
				if r != "flannel0" {
					t.Errorf("a route to %v leads by %s:\n%s", peer.own, r, all[0].render())
				}
			}
		}
		if lost := all.watch(time.Second); lost != "" {
			t.Error(lost)
		}
	})
}

// routesTo are the devices of a host's routes that hold another's subnet.
func routesTo(from, to *host) (devices []string) {
	from.mu.Lock()
	defer from.mu.Unlock()
	routes, _ := from.kernel.Routes()
	for _, r := range routes {
		if r.Dst.Overlaps(to.own) {
			devices = append(devices, r.Dev)
		}
	}
	return devices
}
