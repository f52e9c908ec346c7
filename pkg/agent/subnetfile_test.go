package agent_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/subnet/subnettest"
)

type fileEdits chan struct{}

func (e fileEdits) Changed() <-chan struct{} { return e }

// edit changes the subnet file as another program does.
func (h *host) edit(f func(path string) error) {
	h.t.Helper()
	if err := f(h.file); err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	select {
	case h.edits <- struct{}{}:
	default:
	}
}

func writing(content string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(content), 0o600) }
}

// TestSubnetFileIsPutRight: deleted or edited, it is back at once; what others wrote
// stays, also when the MTU changes.
func TestSubnetFileIsPutRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		ours := h.env()
		const docker = "DOCKER_NETWORK_OPTIONS=\" --bip=172.7.21.1/24\"\n"
		for _, tt := range []struct {
			name string
			do   func(string) error
			want string
		}{
			{"deleted", os.Remove, ours},
			{"edited", writing(strings.Replace(ours, "1500", "9000", 1)), ours},
			{"docker's options in its place", writing(docker), docker + ours},
			{"docker's options beside", writing(ours + docker), ours + docker},
		} {
			h.edit(tt.do)
			settle(time.Second)
			if h.env() != tt.want {
				t.Errorf("%s: %q, want %q", tt.name, h.env(), tt.want)
			}
		}
		store.Set("config", vxLAN, 0)
		settle(5 * time.Second)
		if want := strings.Replace(ours, "1500", "1450", 1) + docker; h.env() != want {
			t.Errorf("another MTU: %q, want %q", h.env(), want)
		}
		status, err := h.agent.Status(t.Context())
		if err != nil || status.Conditions.Has(condition.SubnetFileContested) {
			t.Errorf("%+v, %v", status.Conditions, err)
		}
	})
}

// TestSubnetFileFight: a program that keeps deleting it is answered ever more rarely, and
// told of; when it ends, all is well again.
func TestSubnetFileFight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		ours := h.env()
		contested := func() bool {
			s, err := h.agent.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return s.Conditions.Has(condition.SubnetFileContested)
		}
		writes := 0
		for range 6000 { // ten minutes
			if h.env() == ours {
				writes++
			}
			h.edit(os.Remove)
			settle(100 * time.Millisecond)
		}
		if writes < 12 || writes > 40 {
			t.Errorf("%d repairs in ten minutes", writes)
		}
		if !contested() {
			t.Error("the fight is not told of")
		}
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		settle(time.Second)
		h.contains(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
		settle(3 * time.Minute)
		if contested() || h.env() != ours {
			t.Errorf("in peace: contested %t, %q", contested(), h.env())
		}
		h.edit(os.Remove)
		settle(time.Second)
		if h.env() != ours {
			t.Errorf("after peace: %q", h.env())
		}
	})
}
