package agent_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

// Where the kernel does not say whether a peer is on the link, its path stays as
// it is: the direct one is not replaced by the tunnel, also not by a daemon that
// has just started.
func TestUnknownIsNotActedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", direct, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:16"}}`, 0)
		h := newHost(t, store, 21).start()
		defer func() { h.stop() }()
		settle(time.Second)
		before := h.render()
		h.contains(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)

		h.silent.Store(true)
		h.with(func(*kerneltest.Kernel) {}) // the routing has changed: what was known may be so no more
		settle(20 * time.Second)
		if now := h.render(); now != before {
			t.Errorf("without an answer from the kernel, this\n%s\nbecame\n%s", before, now)
		}
		if err := h.agent.Unready(t.Context()); err == nil {
			t.Error("ready, though the kernel does not answer")
		}
		if s, _ := h.agent.Status(t.Context()); len(s.Peers) != 1 || s.Peers[0].Mode != "direct" {
			t.Errorf("status says %+v", s.Peers)
		}

		h.stop()
		h.resumed = true
		h.start()
		settle(20 * time.Second)
		if now := h.render(); now != before {
			t.Errorf("after a restart without an answer from the kernel, this\n%s\nbecame\n%s", before, now)
		}

		h.silent.Store(false)
		settle(2 * time.Minute)
		if now := h.render(); now != before {
			t.Errorf("once the kernel answers, this\n%s\nbecame\n%s", before, now)
		}
		if err := h.agent.Unready(t.Context()); err != nil {
			t.Error(err)
		}
		// The link shrinks.
		h.with(func(k *kerneltest.Kernel) {
			if err := errors.Join(k.Run(`ip addr del 10.4.7.21/24 dev ens33`), k.Run(`ip addr add 10.4.7.21/32 dev ens33`)); err != nil {
				t.Error(err)
			}
		})
		settle(2 * time.Second)
		h.contains(`ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77`)
	})
}
