package agent_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/agent"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet/subnettest"
)

// ask is a host's own view; it must not take longer than a pass and its rest.
func (h *host) ask() status.Status {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := h.agent.Status(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	err = h.agent.Unready(ctx)
	if reason := s.Daemon.Reason; s.Daemon.Ready != (err == nil) || err != nil && err.Error() != reason {
		h.t.Errorf("readiness is %v, the status says %q", err, reason)
	}
	return s
}

// expectReason compares why a host is not ready; "": it is.
func (h *host) expectReason(want string) {
	h.t.Helper()
	if got := h.ask().Daemon.Reason; (got == "") != (want == "") || !strings.Contains(got, want) {
		h.t.Errorf("not ready because %q, want %q", got, want)
	}
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		h := newHost(t, store, 21)
		h.client.Partition(true)
		h.start()
		defer h.stop()
		settle(time.Second)
		h.expectReason("etcd has not been read yet: injected: the store cannot be reached")
		h.client.Partition(false)
		settle(2 * time.Second)
		h.expectReason("no lease: there is no config key yet")
		store.Set("config", `{"Network":"nonsense"}`, 0)
		settle(time.Second)
		h.expectReason(`no lease: config key is wrong: Network "nonsense" is not an IPv4 network`)
		refused := func(op string) func(string) subnettest.Fault {
			return func(o string) subnettest.Fault {
				if o == op {
					return subnettest.Refused
				}
				return subnettest.None
			}
		}
		h.client.Inject(refused("Put"))
		store.Set("config", hostGW, 0)
		settle(time.Second)
		h.expectReason("no lease: cannot write this host's lease to etcd: injected")
		h.client.Inject(nil)
		settle(2 * time.Second)
		h.expectReason("")

		h.client.Partition(true)
		settle(2 * time.Second)
		h.expectReason("the list of peers may be old: injected")
		h.client.Partition(false)
		settle(2 * time.Second)
		h.expectReason("")

		h.with(func(k *kerneltest.Kernel) {
			k.Fail = func(call string) error {
				if call == "list routes" {
					return context.DeadlineExceeded
				}
				return nil
			}
		})
		settle(time.Second)
		h.expectReason("cannot apply kernel state: list routes: context deadline exceeded")
		h.with(func(k *kerneltest.Kernel) { k.Fail = nil })
		settle(2 * time.Minute)
		h.expectReason("")

		h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Up = false }) })
		settle(time.Second)
		h.expectReason("external interface ens33 is down")
		h.with(func(k *kerneltest.Kernel) { k.Change("ens33", func(l *kernel.Link) { l.Up = true }) })
		settle(time.Second)
		h.expectReason("")
	})
}

// A lease that nobody could renew is over, whatever else is in order.
func TestExpiredIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		store.Set("subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`, 10*time.Second)
		h := newHost(t, store, 21)
		h.client.Inject(subnettest.Refuse("Put", "Refresh"))
		h.start()
		defer h.stop()
		settle(2 * time.Second)
		h.expectReason("")
		h.client.Partition(true)
		settle(10 * time.Second)
		h.expectReason("the lease of 172.7.21.0/24 has expired")
	})
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", direct, 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:00:00:00:00:16"}}`, 24*time.Hour)
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.8.23","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:00:00:00:00:17"}}`, 0)
		store.Set("subnets/172.7.24.0-24", `{"PublicIP":"10.4.8.24","BackendType":"host-gw"}`, 0)
		store.Set("subnets/172.7.25.0-24", `{`, 0)
		h := newHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		began := time.Now()
		settle(time.Hour)
		s := h.ask()
		ip := netip.MustParseAddr
		if s.Network.Backend != "vxlan" || s.Network.SubnetLen != 24 || *s.Host != (status.Host{Interface: "ens33", Address: h.ip, PublicIP: h.ip, MTU: 1500}) ||
			s.Lease.Subnet != h.own || s.Lease.MTU != 1450 || s.Lease.Expires.IsZero() || s.Device.Name != "flannel.1" || s.Device.Port != 8472 {
			t.Errorf("%+v\n%+v\n%+v\n%+v", s.Network, s.Host, s.Lease, s.Device)
		}
		since := s.Peers[0].Since
		if since.IsZero() || since.After(began) {
			t.Errorf("since %v, began %v", since, began)
		}
		want := []status.Peer{
			{Subnet: netip.MustParsePrefix("172.7.22.0/24"), PublicIP: ip("10.4.7.22"), Backend: "vxlan", Mode: status.Direct, Via: ip("10.4.7.22"), Dev: "ens33"},
			{Subnet: netip.MustParsePrefix("172.7.23.0/24"), PublicIP: ip("10.4.8.23"), Backend: "vxlan", Mode: status.Tunnel, Via: ip("172.7.23.0"), Dev: "flannel.1", MAC: "0a:00:00:00:00:17"},
			{Subnet: netip.MustParsePrefix("172.7.24.0/24"), PublicIP: ip("10.4.8.24"), Backend: "host-gw", Mode: status.NoWay},
		}
		for i, w := range want {
			got := s.Peers[i]
			got.Expires = time.Time{}
			if w.Mode != status.NoWay {
				w.Kernel, w.Since = status.InPlace, since
			}
			if got != w {
				t.Errorf("%+v\nwant\n%+v", got, w)
			}
		}
		if said := h.problems(); len(said) != 2 || !strings.Contains(said[0], "no way to 172.7.24.0/24") || !strings.Contains(said[1], `ignoring the key "subnets/172.7.25.0-24"`) {
			t.Errorf("problems %q", said)
		}
		if s.Daemon.Change == "" || s.Daemon.Changed.After(began) || s.Daemon.Applied.Before(s.Daemon.Changed) {
			t.Errorf("%+v", s.Daemon)
		}

		// A route that goes is missing until it is back; a way that changes is new.
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.7.23","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:00:00:00:00:17"}}`, 0)
		store.Remove("subnets/172.7.24.0-24")
		settle(6 * time.Second) // and the one that was removed counts no more
		s = h.ask()
		for _, p := range s.Peers {
			if p.PublicIP == ip("10.4.7.23") && (p.Mode != status.Direct || !p.Since.After(since) || p.Kernel != status.InPlace) {
				t.Errorf("after its host moved: %+v", p)
			}
		}
		h.with(func(k *kerneltest.Kernel) {
			k.Fail = func(call string) error {
				if strings.HasPrefix(call, "ip route") {
					return context.DeadlineExceeded
				}
				return nil
			}
			k.EditRoutes(func([]kernel.FoundRoute) []kernel.FoundRoute { return nil })
		})
		settle(time.Second)
		if s = h.ask(); s.Peers[0].Kernel != "no route" || s.Daemon.Ready || len(s.Conditions) != 2 {
			t.Errorf("%+v %+v", s.Peers, s.Conditions)
		}
	})
}

func TestNobodyAnswersOnceItHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := agent.New(agent.Options{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Status(ctx); err == nil {
			t.Error("an answer from an agent that does not run")
		}
		if err := a.Unready(ctx); err == nil {
			t.Error("ready, though it does not run")
		}
	})
}
