package agent_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
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
		settle(2500 * time.Millisecond)
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

// TestReadyIsNotRestedFor: a pass over a large cluster is rested after for longer than the
// rules take.
func TestReadyIsNotRestedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21)
		h.placed, h.slow = make(chan struct{}), 500*time.Millisecond
		h.start()
		settle(600 * time.Millisecond) // the first pass with a lease is over
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, time.Hour)
		settle(100 * time.Millisecond) // which is rested before
		if len(h.ready) != 0 {
			t.Error("it is ready without its rules")
		}
		close(h.placed)
		settle(100 * time.Millisecond)
		if len(h.ready) != 1 {
			t.Error("it has its rules, and does not say that it is ready")
		}
		if unready, is := h.ask().Conditions.Unready(); is {
			t.Errorf("what keeps it from being ready is %v", unready)
		}
		h.stop()
	})
}

// TestReadyWaitsForTheRules, but not for ever: dockerd is started after it.
func TestReadyWaitsForTheRules(t *testing.T) {
	for _, come := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", hostGW, 0)
			h := newHost(t, store, 21)
			h.placed = make(chan struct{})
			h.start()
			settle(3 * time.Second)
			if len(h.ready) != 0 {
				t.Error("it is ready without its rules")
			}
			unready, _ := h.ask().Conditions.Unready()
			if unready.Code != condition.Starting {
				t.Errorf("what keeps it from being ready is %v", unready)
			}
			if come {
				close(h.placed)
				settle(100 * time.Millisecond)
			} else {
				settle(3 * time.Second)
			}
			if len(h.ready) != 1 {
				t.Error("it does not say that it is ready")
			}
			if still, is := h.ask().Conditions.Unready(); is == come || is && still.Message != "the firewall rules are not in place yet" {
				t.Errorf("rules come: %v; what keeps it from being ready: %v", come, still)
			}
			h.stop()
		})
	}
}
