package agent_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

// changed are the texts that a host has noted since the last call, oldest first.
func (h *host) changed() (out []string) {
	all := h.history.List()
	slices.Reverse(all)
	for _, c := range all {
		if c.Time.After(h.told) {
			out = append(out, c.Text)
		}
	}
	h.told = time.Now()
	time.Sleep(time.Millisecond)
	return out
}

// TestChangesAreNoted follows a host through what it tells of, each in a line, however many
// peers it is of; that nothing happens is no change.
func TestChangesAreNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		// Its watch tells a second later: what is written at once comes in one message, and so in one pass.
		h.client.Inject(func(op string) subnettest.Fault {
			if op == "Watch" {
				time.Sleep(time.Second)
			}
			return subnettest.None
		})
		peer := func(n int, link string) {
			store.Set(fmt.Sprintf("subnets/172.7.%d.0-24", n), fmt.Sprintf(`{"PublicIP":"10.4.%s.%d","BackendType":"host-gw"}`, link, n), 0)
		}
		for _, step := range []struct {
			name string
			do   func()
			want []string
		}{
			{"it starts", func() {}, []string{
				"external interface ens33, 10.4.7.21", "the config key asks for subnets of /24 in 172.7.0.0/16, backend host-gw", "ready",
			}},
			{"nothing happens for an hour", func() { time.Sleep(time.Hour) }, nil},
			{"a peer comes", func() { peer(22, "7") }, []string{"peer reached: 172.7.22.0/24 directly by ens33"}},
			{"many come", func() {
				for n := 100; n < 140; n++ {
					peer(n, "7")
				}
			}, []string{"40 peers reached: 172.7.100.0/24 directly by ens33, 172.7.101.0/24 directly by ens33, 172.7.102.0/24 directly by ens33 and 37 more"}},
			{"many go", func() {
				for n := 100; n < 140; n++ {
					store.Remove(fmt.Sprintf("subnets/172.7.%d.0-24", n))
				}
			}, []string{"40 peers gone: 172.7.100.0/24, 172.7.101.0/24, 172.7.102.0/24 and 37 more"}},
			{"a peer moves out of reach", func() { peer(22, "8") }, []string{"no way to 172.7.22.0/24 by ens33: *"}},
			{"and back", func() { peer(22, "7") }, []string{"peer reached: 172.7.22.0/24 directly by ens33 (2 times)", "over: no way to 172.7.22.0/24 by ens33: *"}},
			{"somebody deletes its route", func() {
				h.with(func(k *kerneltest.Kernel) { k.EditRoutes(func([]kernel.FoundRoute) []kernel.FoundRoute { return nil }) })
			}, []string{"put right: ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77"}},
			{"the config key is spoilt", func() { store.Set("config", "{", 0) }, []string{"config key is wrong: *"}},
			{"and put right with another backend", func() { store.Set("config", vxLAN, 0); settle(followed) }, []string{
				"over: config key is wrong: *", "the config key asks for subnets of /24 in 172.7.0.0/16, backend vxlan", "switched from host-gw to vxlan",
			}},
			{"the cable is pulled", func() {
				h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Up = false }) })
			}, []string{
				"external interface ens33 is down: waiting for it", "not ready: external interface ens33 is down: waiting for it",
			}},
		} {
			step.do()
			settle(7 * time.Second)
			_ = h.ask()
			matches := func(want, got string) bool {
				begin, open := strings.CutSuffix(want, "*")
				return want == got || open && strings.HasPrefix(got, begin)
			}
			if got := h.changed(); !slices.EqualFunc(step.want, got, matches) {
				t.Errorf("%s: %s", step.name, cmp.Diff(step.want, got))
			}
		}
	})
}
