package agent_test

import (
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// A host that restarts while the store is empty keeps the routes that it finds
// in the kernel until every peer had time to come back.
func TestRestartOverAnEmptyStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, time.Hour)
		h := newHost(t, store, 21).start()
		settle(time.Second)
		const route = `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`
		h.shows(route)
		h.stop()
		store.Wipe()
		h.resumed = true
		h.start()
		defer func() { h.stop() }()
		settle(time.Minute)
		h.shows(route)
		store.Set("config", hostGW, 0)
		settle(time.Minute)
		h.shows(route)
		settle(subnet.RetainTime + time.Minute)
		h.shows(``)
	})
}

// A store that is wiped under a running host costs no route.
func TestWipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", vxLAN, 0)
		h21, h22 := newHost(t, store, 21).start(), newHost(t, store, 22).start()
		defer func() { h21.stop() }()
		settle(time.Second)
		h22.stop() // it does not come back
		store.Wipe()
		for range 60 {
			settle(time.Second)
			if lost := carries(h21, h22); lost != "" {
				t.Fatal(lost)
			}
		}
		settle(subnet.RetainTime + 2*time.Minute)
		if carries(h21, h22) == "" {
			t.Error("the route of a host that is gone stays")
		}
	})
}
