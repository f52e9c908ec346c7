package agent_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// both is a config key that enables IPv6 beside IPv4.
func both(backend string) string {
	return `{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:7::/48","Backend":` + backend + `}`
}

// newDualHost has an address of each family, and the subnets 172.7.N.0/24 and fc00:7:0:N::/64 at first.
func newDualHost(t testing.TB, store *subnettest.Store, n int) *host {
	h := newHost(t, store, n)
	h.addresses(fmt.Sprintf("10.4.7.%d/24", n), fmt.Sprintf("fd00:4::%d/64", n))
	h.own6 = netip.MustParsePrefix(fmt.Sprintf("fc00:7:0:%d::/64", n))
	return h
}

// addresses gives the external interface these.
func (h *host) addresses(all ...string) { h.kernel = kerneltest.New("ens33", 1500, all...) }

func TestDualStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"host-gw"}`), 0)
		h21, h22 := newDualHost(t, store, 21).start(), newDualHost(t, store, 22).start()
		defer h21.stop()
		defer h22.stop()
		settle(time.Second)
		if len(h21.ready) != 1 {
			t.Fatal("not ready within a second")
		}
		h21.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 metric 1024`)
		if want := "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_IPV6_NETWORK=fc00:7::/48\n" +
			"FLANNEL_IPV6_SUBNET=fc00:7:0:21::1/64\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"; h21.env() != want {
			t.Errorf("subnet file:\n%s", h21.env())
		}
		if want := `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`; leaseValue(store, dual21) != want {
			t.Errorf("lease %s; store %v", leaseValue(store, dual21), store.Entries())
		}
		if len(h21.wrong.List()) > 0 {
			t.Errorf("wrong are %v", h21.wrong.List())
		}
	})
}

const dual21 = "subnets/172.7.21.0-24&fc00:7:0:21::-64"

// leaseValue is that of a key; "": there is no such key.
func leaseValue(s *subnettest.Store, key string) string {
	for _, e := range s.Entries() {
		if e.Key == key {
			return e.Value
		}
	}
	return ""
}

// TestDualStackTunnel has a device of each family, and a peer's lease says where each ends.
func TestDualStackTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"vxlan"}`), 0)
		h := newDualHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		store.Set("subnets/172.7.22.0-24&fc00:7:0:9::-64", `{"PublicIP":"10.4.7.22","PublicIPv6":"fd00:4::22","BackendType":"vxlan",`+
			`"BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:22"},"BackendV6Data":{"VNI":1,"VtepMAC":"0a:00:00:00:06:22"}}`, 0)
		settle(time.Second)
		for _, line := range []string{
			"bridge fdb add 0a:00:00:00:00:22 dev flannel.1 dst 10.4.7.22 self permanent",
			"ip neigh add 172.7.22.0 lladdr 0a:00:00:00:00:22 dev flannel.1 nud permanent",
			"ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77",
			"bridge fdb add 0a:00:00:00:06:22 dev flannel-v6.1 dst fd00:4::22 self permanent",
			"ip route add fc00:7:0:9::/64 via fc00:7:0:9:: dev flannel-v6.1 onlink proto 77",
		} {
			if got := h.render(); !strings.Contains(got, line) {
				t.Errorf("the kernel lacks %s:\n%s", line, got)
			}
		}
		if env := h.env(); !strings.Contains(env, "FLANNEL_MTU=1430\n") {
			t.Errorf("not what both families' tunnels carry:\n%s", env)
		}
		s, err := h.agent.Status(t.Context())
		if err != nil || s.IPv6 == nil || s.Device.Name != "flannel.1" || s.IPv6.Device.Name != "flannel-v6.1" || s.Lease.MTU != 1450 || s.IPv6.Lease.MTU != 1430 || len(s.Peers) != 2 {
			t.Errorf("status %+v and %+v, %v", s, s.IPv6, err)
		}
		for _, p := range s.Peers {
			if p.Kernel != "in place" {
				t.Errorf("%v is %s", p.Subnet, p.Kernel)
			}
		}
	})
}

// TestFamilyComesAndGoes while the hosts work: nothing of IPv4 is ever written, no subnet changes, and
// IPv6 leaves nothing behind.
func TestFamilyComesAndGoes(t *testing.T) {
	for _, backend := range []string{`{"Type":"host-gw"}`, `{"Type":"vxlan"}`} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			four := `{"Network":"172.7.0.0/16","Backend":` + backend + `}`
			store.Set("config", four, 0)
			h21, h22 := newDualHost(t, store, 21).start(), newDualHost(t, store, 22).start()
			defer h21.stop()
			defer h22.stop()
			settle(time.Second)
			before := h21.render()
			h21.mu.Lock()
			written := len(h21.kernel.Ops)
			h21.mu.Unlock()
			for range 2 {
				store.Set("config", both(backend), 0)
				settle(2 * followed)
				if got := h21.render(); !strings.Contains(got, "ip route add fc00:7:0:22::/64 via ") {
					t.Fatalf("%s: with IPv6 the kernel has\n%s\nstore %v", backend, got, store.Entries())
				}
				if env := h21.env(); !strings.Contains(env, "FLANNEL_SUBNET=172.7.21.1/24\n") || !strings.Contains(env, "FLANNEL_IPV6_SUBNET=fc00:7:0:21::1/64\n") {
					t.Errorf("%s: with IPv6 the subnet file is\n%s", backend, env)
				}
				store.Set("config", four, 0)
				settle(30 * time.Second)
				if after := h21.render(); after != before {
					t.Errorf("%s: without IPv6 again the kernel has\n%s\nin place of\n%s", backend, after, before)
				}
				if env := h21.env(); strings.Contains(env, "IPV6") {
					t.Errorf("%s: without IPv6 again the subnet file is\n%s", backend, env)
				}
			}
			h21.mu.Lock()
			defer h21.mu.Unlock()
			for _, o := range h21.kernel.Ops[written:] {
				if text := o.String(); strings.Contains(text, "172.7.") || strings.Contains(text, "10.4.7.") {
					t.Errorf("%s: IPv4 was not left alone: %s", backend, text)
				}
			}
		})
	}
}

// TestHostWithoutIPv6 works with IPv4 in a cluster of both, and takes IPv6 up once it has an address. One
// that loses its address keeps its lease.
func TestHostWithoutIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"host-gw"}`), 0)
		h21, h22 := newHost(t, store, 21).start(), newDualHost(t, store, 22).start()
		defer h21.stop()
		defer h22.stop()
		settle(5 * time.Second)
		if len(h21.ready) != 0 {
			t.Fatal("an address that may come was not waited for")
		}
		settle(6 * time.Second)
		if len(h21.ready) != 1 {
			t.Fatal("not ready without IPv6")
		}
		if _, told := h21.wrong.Find(condition.FamilyMissing, "IPv6"); !told {
			t.Errorf("wrong are %v", h21.wrong.List())
		}
		h21.mu.Lock()
		if !slices.Contains(h21.looks, inet.IPv6) {
			t.Error("it would not hear of an address that comes")
		}
		h21.mu.Unlock()
		h21.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
		h22.shows(`ip route add 172.7.21.0/24 via 10.4.7.21 dev ens33 proto 77`)
		h21.run("ip addr add fd00:4::21/64 dev ens33")
		settle(2 * followed)
		both := `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 metric 1024`
		h21.shows(both)
		if list := h21.wrong.List(); len(list) > 0 {
			t.Errorf("wrong are %v", list)
		}
		h21.run("ip addr del fd00:4::21/64 dev ens33")
		settle(time.Minute)
		h21.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
		if _, told := h21.wrong.Find(condition.FamilyMissing, "IPv6"); !told || !strings.Contains(h21.env(), "FLANNEL_IPV6_SUBNET=fc00:7:0:") {
			t.Errorf("wrong are %v; subnet file:\n%s", h21.wrong.List(), h21.env())
		}
		h21.run("ip addr add fd00:4::21/64 dev ens33")
		settle(time.Second)
		h21.shows(both)
	})
}

// TestFamilyTakenBack: IPv6 is taken away together with a change of the backend, and put back before
// that is followed to its end. Nothing false is said on the way, and nothing waits for a restart.
func TestFamilyTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"vxlan"}`), 0)
		h21, h22 := newDualHost(t, store, 21).start(), newDualHost(t, store, 22).start()
		defer h21.stop()
		defer h22.stop()
		settle(time.Second)
		for _, back := range []time.Duration{time.Second, 3 * time.Second, 4 * time.Second, 30 * time.Second} {
			store.Set("config", hostGW, 0)
			for end := time.Now().Add(back); time.Now().Before(end); {
				settle(100 * time.Millisecond)
				if list := h21.wrong.List(); len(list) > 0 {
					t.Fatalf("wrong are %v", list)
				}
			}
			store.Set("config", both(`{"Type":"vxlan"}`), 0)
			settle(time.Minute)
			if list := h21.wrong.List(); len(list) > 0 {
				t.Fatalf("back after %v: wrong are %v", back, list)
			}
			if got := h21.render(); !strings.Contains(got, "ip route add fc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1") {
				t.Fatalf("back after %v the kernel has\n%s", back, got)
			}
		}
	})
}

// TestDuplicateAddress: an address that another host has is none of this host's. A peer that has it is routed
// to, and a host that used it uses another one that it has.
func TestDuplicateAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"host-gw"}`), 0)
		h21, h22 := newDualHost(t, store, 21).start(), newDualHost(t, store, 22).start()
		defer h21.stop()
		defer h22.stop()
		settle(time.Second)
		before := h21.render()
		duplicate := func(ip string) {
			h21.run("ip addr add " + ip + "/64 dev ens33")
			h21.with(func(k *kerneltest.Kernel) {
				k.Change("ens33", func(l *kernel.Link) { l.Addrs[len(l.Addrs)-1].Duplicate = true })
			})
		}
		duplicate("fd00:4::22")
		settle(time.Minute)
		if list := h21.wrong.List(); len(list) > 0 || h21.render() != before {
			t.Errorf("wrong are %v; the kernel has\n%s", list, h21.render())
		}
		h21.run("ip addr del fd00:4::21/64 dev ens33", "ip addr add fd00:4::99/64 dev ens33")
		duplicate("fd00:4::21")
		settle(time.Minute)
		if got := leaseValue(store, dual21); !strings.Contains(got, `"PublicIPv6":"fd00:4::99"`) {
			t.Errorf("the lease is %s", got)
		}
	})
}

// TestIPv6Alone needs no address of IPv4.
func TestIPv6Alone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00:7::/48","Backend":{"Type":"host-gw"}}`, 0)
		var all []*host
		for n := 21; n < 24; n++ { // at once
			h := newDualHost(t, store, n)
			h.addresses(fmt.Sprintf("fd00:4::%d/64", n))
			h.own = netip.Prefix{}
			all = append(all, h.start())
		}
		settle(time.Second)
		for _, h := range all {
			defer h.stop()
			if len(h.ready) != 1 {
				t.Fatalf("%v is not ready; wrong are %v; store %v", h.own6, h.wrong.List(), store.Entries())
			}
		}
		all[0].shows(`ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 metric 1024
			ip route add fc00:7:0:23::/64 via fd00:4::23 dev ens33 proto 77 metric 1024`)
		if want := "FLANNEL_IPV6_NETWORK=fc00:7::/48\nFLANNEL_IPV6_SUBNET=fc00:7:0:21::1/64\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"; all[0].env() != want {
			t.Errorf("subnet file:\n%s", all[0].env())
		}
		if want := `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`; leaseValue(store, "subnets/0.0.0.0-0&fc00:7:0:21::-64") != want {
			t.Errorf("store %v", store.Entries())
		}
	})
}

// TestFirewallOfEachFamily: each is made for the family's own addresses, and one that is not used is told of.
func TestFirewallOfEachFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"host-gw"}`), 0)
		h21, h22 := newDualHost(t, store, 21).start(), newDualHost(t, store, 22).start()
		defer h21.stop()
		defer h22.stop()
		settle(time.Second)
		set := func() (out []string) {
			h21.mu.Lock()
			defer h21.mu.Unlock()
			for _, f := range inet.Families() {
				if r, used := h21.rules[f]; used {
					out = append(out, fmt.Sprint(r.network, " ", r.own, " ", r.peers))
				}
			}
			return out
		}
		if got, want := set(), []string{
			"172.7.0.0/16 172.7.21.0/24 [{172.7.22.0/24 ens33 10.4.7.22}]", "fc00:7::/48 fc00:7:0:21::/64 [{fc00:7:0:22::/64 ens33 fd00:4::22}]",
		}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		store.Set("config", hostGW, 0)
		settle(30 * time.Second)
		if got := set(); len(got) != 1 || !strings.HasPrefix(got[0], "172.7.0.0/16 ") {
			t.Errorf("without IPv6: %q", got)
		}
	})
}

// TestMACOfEachFamily: the device that comes with IPv6 has a MAC of its own.
func TestMACOfEachFamily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", `{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"}}`, 0)
		h := newDualHost(t, store, 21).start()
		defer h.stop()
		settle(time.Second)
		store.Set("config", both(`{"Type":"vxlan"}`), 0)
		settle(2 * followed)
		_, value, _ := strings.Cut(leaseValue(store, dual21), `"VtepMAC":"`)
		_, second, _ := strings.Cut(value, `"VtepMAC":"`)
		if len(second) < 17 || value[:17] == second[:17] {
			t.Errorf("lease %s", leaseValue(store, dual21))
		}
	})
}

// TestRestartWithoutAFreeSubnetOfIPv6: a host that has its IPv4 subnet, and finds none of IPv6, works with
// IPv4 as before it was started anew.
func TestRestartWithoutAFreeSubnetOfIPv6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", hostGW, 0)
		h := newDualHost(t, store, 21)
		h.own6 = netip.Prefix{}
		h.start()
		settle(time.Second)
		store.Set("subnets/172.7.22.0-24&fc00:7:0:1::-64", `{"PublicIP":"10.4.7.22","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}`, 0)
		store.Set("config", `{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:7::/48","IPv6SubnetMin":"fc00:7:0:1::","IPv6SubnetMax":"fc00:7:0:1::","Backend":{"Type":"host-gw"}}`, 0)
		settle(time.Minute)
		h.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
		h.stop()
		h.start()
		defer h.stop()
		settle(time.Second)
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.7.23","BackendType":"host-gw"}`, 0)
		settle(time.Minute)
		h.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
		if len(h.ready) != 1 {
			t.Errorf("not ready; wrong are %v", h.wrong.List())
		}
	})
}

// TestIPv6InterfaceIsDown: each family has an interface of its own. IPv4 goes on where IPv6's is down.
func TestIPv6InterfaceIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"host-gw"}`), 0)
		h := newHost(t, store, 21)
		h.own6 = netip.MustParsePrefix("fc00:7:0:21::/64")
		for _, c := range []string{"ip link add eth1 type dummy", "ip link set eth1 up", "ip addr add fd00:4::21/64 dev eth1"} {
			if err := h.kernel.Run(c); err != nil {
				t.Fatal(err)
			}
		}
		h.start()
		defer h.stop()
		settle(time.Minute)
		h.run("ip route add ::/0 dev eth1")
		store.Set("subnets/172.7.23.0-24&fc00:7:0:23::-64", `{"PublicIP":"10.4.7.23","PublicIPv6":"fd00:4::23","BackendType":"host-gw"}`, 0)
		settle(time.Minute)
		h.run("ip link set eth1 down")
		settle(time.Minute)
		store.Set("subnets/172.7.22.0-24&fc00:7:0:22::-64", `{"PublicIP":"10.4.7.22","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}`, 0)
		settle(time.Minute)
		h.shows(`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`)
	})
}

// TestFamilyComesOverTheHostsNetwork: what a host needs of a family is known before it leases the first
// subnet of that.
func TestFamilyComesOverTheHostsNetwork(t *testing.T) {
	for range 8 {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", hostGW, 0)
			h := newDualHost(t, store, 21)
			h.own6 = netip.Prefix{}
			h.start()
			defer h.stop()
			settle(5 * time.Second)
			store.Set("config", `{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:4::/62","IPv6SubnetMin":"fd00:4::",`+
				`"IPv6SubnetMax":"fd00:4:0:1::","Backend":{"Type":"host-gw"}}`, 0)
			settle(2 * followed)
			if env := h.env(); !strings.Contains(env, "FLANNEL_IPV6_SUBNET=fd00:4:0:1::1/64\n") {
				t.Errorf("subnet file:\n%s", env)
			}
		})
	}
}

// TestRestartWhileAFamilyGoes: the device that was still to stay for a moment goes then.
func TestRestartWhileAFamilyGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"vxlan"}`), 0)
		h := newDualHost(t, store, 21).start()
		settle(5 * time.Second)
		store.Set("config", `{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"}}`, 0)
		settle(8 * time.Second)
		if !strings.Contains(h.render(), "flannel-v6.1") || strings.Contains(h.env(), "IPV6") {
			t.Fatalf("the moment is over, or has not come:\n%s\n%s", h.render(), h.env())
		}
		h.stop()
		var err error
		if h.former, err = subnet.ReadEnv(h.file); err != nil {
			t.Fatal(err)
		}
		h.resumed = true
		h.start()
		defer h.stop()
		settle(30 * time.Second)
		if got := h.render(); strings.Contains(got, "flannel-v6.1") || !strings.Contains(got, "flannel.1") {
			t.Errorf("the kernel has\n%s", got)
		}
	})
}
