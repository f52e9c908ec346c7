package agent_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet/subnettest"
)

// TestPeersHearOfPlacedRules has the firewall take its time while the mode changes.
func TestPeersHearOfPlacedRules(t *testing.T) {
	claims := func(store *subnettest.Store, backend string) bool {
		for _, e := range store.Entries() {
			if e.Key == "subnets/172.7.21.0-24" {
				return strings.Contains(e.Value, backend)
			}
		}
		return false
	}
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21)
		h.placed = make(chan struct{})
		h.start()
		settle(3 * time.Second)
		store.Set("config", vxLAN, 0)
		settle(500 * time.Millisecond)
		if claims(store, "vxlan") {
			t.Error("the lease says vxlan before the firewall lets it in")
		}
		close(h.placed)
		settle(100 * time.Millisecond)
		if !claims(store, "vxlan") {
			t.Error("the lease does not say vxlan although the firewall lets it in")
		}
		settle(3 * time.Second) // it has rested
		h.mu.Lock()
		h.placed = make(chan struct{})
		h.mu.Unlock()
		store.Set("config", hostGW, 0)
		settle(500 * time.Millisecond)
		began := time.Now()
		h.stop()
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it ends after %v", took)
		}
	})
}
