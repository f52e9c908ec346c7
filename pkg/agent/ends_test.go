package agent_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
	"flanneld/pkg/underlay"
	"flanneld/pkg/wgdevice"
)

const lease21 = "subnets/172.7.21.0-24"

// TestLeaseNamesAllEnds of a host that changes, and only as long as a peer may need them.
func TestLeaseNamesAllEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("vxlan"), 0)
		h := newTunnelHost(t, store, 21, false, nil).start()
		defer h.stop()
		settle(time.Second)
		mac, key := vtep(h), publicKey(h.key)
		says := func(moment, kind, data string) {
			t.Helper()
			want := fmt.Sprintf(`{"PublicIP":"10.4.7.21","BackendType":%q}`, kind)
			if data != "" {
				want = fmt.Sprintf(`{"PublicIP":"10.4.7.21","BackendType":%q,"BackendData":{%s}}`, kind, data)
			}
			if got := value(store, lease21); got != want {
				t.Errorf("%s: the lease is\n%s\nwant\n%s", moment, got, want)
			}
		}
		atVXLAN, atKey, atUDP := fmt.Sprintf(`"VtepMAC":"%v"`, mac), fmt.Sprintf(`"PublicKey":"%v"`, key), `"UDPPort":8285`
		says("at first", "vxlan", atVXLAN)
		store.Set("config", configOf("wireguard"), 0)
		settle(time.Second)
		says("before it follows", "vxlan", atVXLAN)
		settle(2 * time.Second)
		says("prepared", "wireguard", atKey+","+atVXLAN)
		settle(4 * time.Second)
		says("switched", "wireguard", atKey+","+atVXLAN)
		store.Set("config", configOf("udp"), 0)
		settle(3 * time.Second)
		says("with another one before the first has gone", "udp", atVXLAN+","+atKey)
		settle(time.Minute)
		says("in the end", "udp", "")
		// A peer that does not change keeps what it uses.
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.9.22","BackendType":"udp"}`, 0)
		store.Set("config", configOf("host-gw"), 0)
		settle(10 * time.Minute)
		says("for a peer that stays", "host-gw", atUDP)
		h.contains("ip route add 172.7.22.0/24 dev flannel0 proto 77")
		if list := h.wrong.List(); len(list) > 0 {
			t.Errorf("wrong are %v", list)
		}
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`, 0)
		settle(9 * time.Second)
		says("just after it has changed, too", "host-gw", atUDP)
		settle(2 * time.Second)
		says("ten seconds later", "host-gw", "")
		if names := tunnels(h); !slices.Equal(names, []string{"flannel0"}) {
			t.Errorf("for who has not heard there are %v", names)
		}
		settle(11 * time.Second)
		h.shows("ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
	})
}

// TestLeftStaysWhileTheLeaseNamesIt: a store that cannot be written goes on telling peers of what was left.
func TestLeftStaysWhileTheLeaseNamesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("udp"), 0)
		h := newTunnelHost(t, store, 21, false, nil).start()
		defer h.stop()
		settle(time.Second)
		store.Set("config", configOf("host-gw"), 0)
		settle(followed)
		h.client.Inject(subnettest.Refuse("Put"))
		settle(5 * time.Minute)
		if names := tunnels(h); !slices.Equal(names, []string{"flannel0"}) {
			t.Errorf("the lease is %s, and there are %v", value(store, lease21), names)
		}
		h.client.Inject(nil)
		settle(time.Minute)
		if names := tunnels(h); len(names) > 0 {
			t.Errorf("the lease is %s, and there are %v", value(store, lease21), names)
		}
	})
}

// TestHostMovesWhileAPeerStays: what was left is at the new address, too.
func TestHostMovesWhileAPeerStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("vxlan"), 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.9.22","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:16"}}`, 0)
		h := newTunnelHost(t, store, 21, false, nil).start()
		defer h.stop()
		settle(time.Second)
		before := vtep(h)
		store.Set("config", configOf("wireguard"), 0)
		settle(time.Minute)
		h.with(func(k *kerneltest.Kernel) { renumber(h, k) })
		settle(time.Minute)
		h.contains(fmt.Sprintf("ip link add flannel.1 address %v mtu 1450 type vxlan id 1 local 10.4.7.121 dev ens33 dstport 8472 nolearning alias flanneld up", before))
		h.contains("ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77")
		if got := value(store, lease21); !strings.Contains(got, `"10.4.7.121"`) || !strings.Contains(got, before.String()) {
			t.Errorf("the lease is %s", got)
		}
	})
}

// TestNewKeyIsThereFirst: peers hear of a key once it can be met, and nothing else is written.
func TestNewKeyIsThereFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("wireguard"), 0)
		h21, h22 := newTunnelHost(t, store, 21, true, nil).start(), newTunnelHost(t, store, 22, true, nil).start()
		defer h21.stop()
		defer h22.stop()
		settle(10 * time.Second)
		inUse := func() wgdevice.Secret {
			h21.mu.Lock()
			defer h21.mu.Unlock()
			return device(h21.kernel, "flannel-wg").Kind.(kernel.WireGuard).Private
		}
		rotate := func(to wgdevice.Secret) {
			h21.mu.Lock()
			h21.key = to
			h21.mu.Unlock()
			h21.keyEdits <- struct{}{}
		}
		second, third := wgdevice.Secret{1: 99}, wgdevice.Secret{1: 100}
		h21.client.Inject(func(op string) subnettest.Fault {
			if op == "Put" && inUse() != second {
				t.Error("the lease is written before the key is in use")
			}
			return subnettest.None
		})
		for _, h := range []*host{h21, h22} {
			h.mu.Lock()
			h.kernel.Ops = nil
			h.mu.Unlock()
		}
		rotate(second)
		settle(time.Second)
		for _, lost := range []string{carries(h21, h22), carries(h22, h21)} {
			if lost != "" {
				t.Error(lost)
			}
		}
		if !strings.Contains(value(store, lease21), publicKey(second).String()) {
			t.Errorf("the lease is %s", value(store, lease21))
		}
		for _, h := range []*host{h21, h22} {
			h.mu.Lock()
			for _, o := range h.kernel.Ops {
				if !strings.HasPrefix(o.String(), "wg set flannel-wg ") {
					t.Errorf("%v: %v", h.ip, o)
				}
			}
			h.mu.Unlock()
		}

		// Nobody would hear of it where etcd does not answer.
		h21.client.Inject(nil)
		h21.client.Partition(true)
		settle(time.Minute)
		rotate(third)
		settle(time.Minute)
		if inUse() != second {
			t.Error("a key is in use that no peer can have heard of")
		}
		h21.client.Partition(false)
		settle(10 * time.Second)
		if lost := carries(h22, h21); lost != "" || inUse() != third {
			t.Errorf("once etcd is back: %s", lost)
		}
	})
}

// TestKeyCannotBeRead is no matter of the config key: it is tried again.
func TestKeyCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("wireguard"), 0)
		h := newTunnelHost(t, store, 21, false, nil)
		h.keyErr = condition.Coded(condition.KeyUnusable, errors.New("read the private key: permission denied"))
		h.start()
		defer h.stop()
		settle(10 * time.Second)
		h.expectReason("read the private key: permission denied")
		if _, said := h.wrong.Find(condition.KeyUnusable, ""); !said {
			t.Errorf("the code is another: %v", h.wrong.List())
		}
		h.mu.Lock()
		h.keyErr = nil
		h.mu.Unlock()
		settle(3 * time.Second)
		h.expectReason("")
	})
}

// TestPeersAreLookedAt where the kernel tells nobody of their changes, or of the tunnel's end, and nowhere else.
func TestPeersAreLookedAt(t *testing.T) {
	for kind, most := range map[string]int64{"wireguard": 60, "udp": 60, "vxlan": 0} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", configOf(kind), 0)
			store.Set("subnets/172.7.22.0-24", fmt.Sprintf(`{"PublicIP":"10.4.9.22","BackendType":"wireguard","BackendData":{"PublicKey":"%v"}}`, publicKey(wgdevice.Secret{1: 22})), 0)
			h := newTunnelHost(t, store, 21, false, nil).start()
			defer h.stop()
			settle(time.Minute)
			if n := h.looked.Load(); n > most || n < most/2 {
				t.Errorf("%s: it was looked at %d times in a minute", kind, n)
			}
			if kind != "wireguard" {
				return
			}
			before := h.render()
			h.mu.Lock()
			for _, o := range h.kernel.Ops {
				if o.Kind() == "peer" {
					o.Action = kernel.Delete
					h.kernel.Do(o)
				}
			}
			changed := h.kernel.String()
			h.mu.Unlock()
			h.peersChanged.Store(true)
			settle(2 * time.Second)
			if now := h.render(); now != before || changed == before {
				t.Errorf("%s\nwas not repaired:\n%s", before, now)
			}
		})
	}
}

// TestOneRouteForAll leads to the whole network only where nothing that this host needs is reached there.
func TestOneRouteForAll(t *testing.T) {
	const one, each = "ip route add 172.7.0.0/16 dev flannel-wg proto 77", "ip route add 172.7.22.0/24 dev flannel-wg proto 77"
	for name, tt := range map[string]struct {
		before func(h *host)
		peer   string // its public IP
		whole  bool
	}{
		"nothing is in the way": {nil, "10.4.9.22", true},
		"etcd behind a gateway": {func(h *host) {
			h.needs.all = append(h.needs.all, underlay.Address(netip.MustParseAddr("172.7.99.1"), "etcd"))
		}, "10.4.9.22", false},
		"etcd in a network that the host is connected to": {func(h *host) {
			h.run("ip link add eth1 type dummy", "ip link set eth1 up", "ip addr add 172.7.99.5/24 dev eth1")
			h.needs.all = append(h.needs.all, underlay.Address(netip.MustParseAddr("172.7.99.1"), "etcd"))
		}, "10.4.9.22", true},
		"a network around it": {func(h *host) {
			h.run("ip link add eth1 type dummy", "ip link set eth1 up", "ip addr add 172.0.0.5/8 dev eth1")
		}, "10.4.9.22", false},
		"a peer's address": {nil, "172.7.200.22", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := subnettest.NewStore()
				store.Set("config", configOf("wireguard"), 0)
				store.Set("subnets/172.7.22.0-24", fmt.Sprintf(`{"PublicIP":%q,"BackendType":"wireguard","BackendData":{"PublicKey":"%v"}}`, tt.peer, publicKey(wgdevice.Secret{1: 22})), 0)
				h := newTunnelHost(t, store, 21, false, nil)
				h.changes = &changes{slot: make(chan struct{}, 1)}
				if tt.before != nil {
					tt.before(h)
				}
				h.start()
				defer h.stop()
				settle(time.Second)
				if got := strings.Contains(h.render(), one); got != tt.whole || got == strings.Contains(h.render(), each) {
					t.Errorf("the kernel has\n%s", h.render())
				}
				if s := h.ask(); len(s.Peers) != 1 || s.Peers[0].Kernel != "in place" || s.Peers[0].Dev != "flannel-wg" || s.Peers[0].Since.IsZero() {
					t.Errorf("the peers are %+v", s.Peers)
				}
				if len(h.peers) != 1 || h.peers[0].Subnet.String() != "172.7.22.0/24" || h.peers[0].Device != "flannel-wg" {
					t.Errorf("let in are %v", h.peers)
				}
			})
		})
	}
}

// TestOneRouteBecomesMany while packets travel, where etcd turns out to be in the network.
func TestOneRouteBecomesMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("udp"), 0)
		news := make(chan struct{}, 1)
		all := cluster{newTunnelHost(t, store, 21, true, news).start(), newTunnelHost(t, store, 22, true, news).start()}
		defer all.stop()
		settle(5 * time.Second)
		all[0].contains("ip route add 172.7.0.0/16 dev flannel0 proto 77")
		all[0].needs.is("172.7.99.1")
		if lost := all.watch(5 * time.Second); lost != "" {
			t.Error(lost)
		}
		if got := all[0].render(); strings.Contains(got, "172.7.0.0/16") || !strings.Contains(got, "ip route add 172.7.22.0/24 dev flannel0") {
			t.Errorf("the kernel has\n%s", got)
		}
	})
}

// TestExternal: where somebody else carries the packets, nothing is written and nothing is wrong.
func TestExternal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("vxlan"), 0)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.9.22","BackendType":"alloc"}`, 0)
		h := newTunnelHost(t, store, 21, false, nil).start()
		defer h.stop()
		settle(10 * time.Second)
		if _, told := h.wrong.Find(condition.PeerUnreachable, "172.7.22.0/24"); !told {
			t.Errorf("wrong are %v", h.wrong.List())
		}
		store.Set("config", configOf("alloc"), 0)
		settle(time.Minute)
		h.shows("")
		if list := h.wrong.List(); len(list) > 0 || len(h.ask().Peers) != 1 {
			t.Errorf("wrong are %v", list)
		}
		if want := "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"; h.env() != want {
			t.Errorf("subnet file:\n%s", h.env())
		}
	})
}

// TestTypesThatThereAreNot: what comes nearest is named.
func TestTypesThatThereAreNot(t *testing.T) {
	for kind, want := range map[string]string{
		"ipip":      `Backend.Type "ipip" is not supported: the types are alloc, host-gw, udp, vxlan, wireguard; vxlan carries packets behind routers as ipip does`,
		"IPsec":     "wireguard encrypts as ipsec does",
		"extension": "alloc leases subnets, and leaves the packets to what you run yourself",
		"aws-vpc":   "vxlan needs nothing of a cloud",
		"nonsense":  `Backend.Type "nonsense" is not supported: the types are alloc, host-gw, udp, vxlan, wireguard; put it right`,
	} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", configOf(kind), 0)
			h := newTunnelHost(t, store, 21, false, nil).start()
			defer h.stop()
			settle(time.Second)
			if c, _ := h.wrong.Find(condition.ConfigInvalid, ""); !strings.Contains(c.Message, want) {
				t.Errorf("%s: %s", kind, c.Message)
			}
		})
	}
}

// TestJoinWhileOneStaysBehind: a host that comes with the new backend alone is reached plainly by one on the
// same link that has the old one alone.
func TestJoinWhileOneStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", configOf("udp"), 0)
		news := make(chan struct{}, 1)
		var all cluster
		for n := 21; n < 24; n++ {
			all = append(all, newTunnelHost(t, store, n, false, news).start())
		}
		settle(5 * time.Second)
		all[0].stay(configOf("udp"))
		store.Set("config", configOf("wireguard"), 0)
		settle(time.Minute)
		all = append(all, newTunnelHost(t, store, 24, false, news).start())
		defer func() { all.stop() }()
		settle(5 * time.Second)
		if lost := all.watch(time.Minute); lost != "" {
			t.Fatalf("%s\n%s", lost, all.state(store))
		}
		all[0].stay("")
		if lost := all.watch(done); lost != "" {
			t.Fatalf("%s\n%s", lost, all.state(store))
		}
	})
}

// TestEndsOfBothFamilies: each family's data names its own.
func TestEndsOfBothFamilies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", both(`{"Type":"vxlan"}`), 0)
		h21, h22 := newDualHost(t, store, 21), newDualHost(t, store, 22)
		for _, h := range []*host{h21, h22} {
			h.backends = allBackends()
			h.start()
			defer h.stop()
		}
		settle(time.Second)
		four, six := vtep(h21), device(h21.kernel, "flannel-v6.1").MAC
		store.Set("config", both(`{"Type":"wireguard"}`), 0)
		settle(3 * time.Second)
		want := fmt.Sprintf(`{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"wireguard","BackendData":{"PublicKey":"%[1]v","VtepMAC":"%[2]v"},`+
			`"BackendV6Data":{"PublicKey":"%[1]v","VtepMAC":"%[3]v"}}`, publicKey(h21.key), four, six)
		if got := value(store, dual21); got != want {
			t.Errorf("the lease is\n%s\nwant\n%s", got, want)
		}
		settle(time.Minute)
		want = fmt.Sprintf(`{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"wireguard","BackendData":{"PublicKey":"%[1]v"},"BackendV6Data":{"PublicKey":"%[1]v"}}`, publicKey(h21.key))
		if got := value(store, dual21); got != want {
			t.Errorf("in the end the lease is\n%s\nwant\n%s", got, want)
		}
		h21.shows(fmt.Sprintf(`ip addr add 172.7.21.0/32 dev flannel-wg
			ip addr add fc00:7:0:21::/128 dev flannel-wg nodad
			ip link add flannel-wg mtu 1420 type wireguard alias flanneld up
			ip route add 172.7.0.0/16 dev flannel-wg proto 77
			ip route add fc00:7::/48 dev flannel-wg proto 77 metric 1024
			wg set flannel-wg peer %v endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24,fc00:7:0:22::/64`, publicKey(h22.key)))
	})
}
