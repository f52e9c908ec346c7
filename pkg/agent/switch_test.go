package agent_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

// carries follows a packet from one host's container to another's by both
// hosts' kernel state, as Linux would; "" if it arrives.
func carries(from, to *host) string {
	from.mu.Lock()
	defer from.mu.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	r, has := from.routeTo(to)
	switch {
	case !has:
		return "no route"
	case !slices.ContainsFunc(to.peers, func(p rules.Peer) bool { return p.Subnet == from.own && p.Device == r.Dev }):
		return "the firewall does not expect it by " + r.Dev
	case r.Dev != "ens33":
		return carriesTunnel(from, to, r)
	case r.Via != to.ip || inet.Subnet(from.ip, 24) != inet.Subnet(to.ip, 24):
		return fmt.Sprintf("route leads to %v", r.Via)
	}
	return ""
}

// routeTo is the route that a packet to a peer takes. The caller holds h.mu.
func (h *host) routeTo(peer *host) (to kernel.FoundRoute, has bool) {
	routes, _ := h.kernel.Routes()
	for _, r := range routes {
		leads := r.Dst.Contains(peer.own.Addr()) && r.Dst.Bits() <= peer.own.Bits()
		if leads && (!has || r.Dst.Bits() > to.Dst.Bits()) {
			to, has = r, true
		}
	}
	return to, has
}

func carriesTunnel(from, to *host, r kernel.FoundRoute) string {
	sender, receiver := device(from.kernel, r.Dev), device(to.kernel, r.Dev)
	if sender == nil || receiver == nil || !receiver.Up || sender.Kind.Encapsulation().ID != receiver.Kind.Encapsulation().ID {
		return "no device " + r.Dev + " at one end"
	}
	if sender.Kind.Type() != "vxlan" {
		return carriesPeer(from, to, sender, receiver)
	}
	entries, _ := from.kernel.Entries(*sender)
	for _, n := range entries.Neighbours {
		for _, f := range entries.FDB {
			if n.Addr == r.Via && f.MAC == n.MAC {
				if f.Dst != to.ip || n.MAC != receiver.MAC {
					return fmt.Sprintf("tunnel leads to %v at %v", n.MAC, f.Dst)
				}
				return ""
			}
		}
	}
	return "no neighbour or forwarding entry for " + r.Via.String()
}

func device(k *kerneltest.Kernel, name string) *kernel.Link {
	links, _ := k.Links()
	for _, l := range links {
		if l.Name == name {
			return &l
		}
	}
	return nil
}

// While the config key changes, packets between all hosts arrive at every
// moment, however long each host's way to the store is.
func TestSwitchLosesNothing(t *testing.T) {
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			store := subnettest.NewStore()
			store.Set("config", hostGW, 0)
			var hosts []*host
			for n := 21; n < 24; n++ {
				h := newHost(t, store, n)
				latency := time.Duration(random.IntN(100)) * time.Millisecond
				h.client.Inject(func(string) subnettest.Fault { time.Sleep(latency); return subnettest.None })
				hosts = append(hosts, h.start())
				defer func() { h.stop() }()
			}
			settle(3 * time.Second)
			watch := func(moment string, d time.Duration) {
				for end := time.Now().Add(d); time.Now().Before(end); settle(time.Millisecond) {
					for _, a := range hosts {
						for _, b := range hosts {
							if a == b {
								continue
							}
							if lost := carries(a, b); lost != "" {
								t.Fatalf("seed %d, %s: packet from %v to %v is lost: %s", seed, moment, a.ip, b.ip, lost)
							}
						}
					}
				}
			}
			watch("before", 10*time.Millisecond)
			for _, config := range []string{vxLAN, direct, hostGW, vxLAN, hostGW, direct, vxLAN, ""} {
				if config == "" {
					store.Remove("config")
				} else {
					store.Set("config", config, 0)
				}
				watch("switch to "+config, followed)
			}
			// One host restarts into another mode.
			hosts[0].stop()
			store.Set("config", hostGW, 0)
			watch("one is down while the config changes", followed)
			hosts[0].start()
			watch("it comes back", time.Second)
			settle(time.Minute)
			for _, h := range hosts {
				if d := device(h.kernel, "flannel.1"); d != nil {
					t.Errorf("seed %d: %v keeps %s under host-gw", seed, h.ip, d.Name)
				}
			}
		})
	}
}

func TestVXLAN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := subnettest.NewStore()
		store.Set("config", vxLAN, 0)
		store.Set("subnets/172.7.21.0-24", `{"PublicIP":"10.4.7.21","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:21"}}`, time.Hour)
		store.Set("subnets/172.7.22.0-24", `{"PublicIP":"10.4.7.22","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:22"}}`, time.Hour)
		store.Set("subnets/172.7.23.0-24", `{"PublicIP":"10.4.8.23","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:23"}}`, time.Hour)
		store.Set("subnets/172.7.24.0-24", `{"PublicIP":"10.4.7.24","BackendType":"host-gw"}`, time.Hour)
		h := newHost(t, store, 21).start()
		settle(time.Second)
		const device = `bridge fdb add 0a:39:13:5c:8e:23 dev flannel.1 dst 10.4.8.23 self permanent
			ip addr add 172.7.21.0/32 dev flannel.1
			ip link add flannel.1 address 0a:39:13:5c:8e:21 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up
			ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:23 dev flannel.1 nud permanent
			`
		const tunnel = `bridge fdb add 0a:39:13:5c:8e:22 dev flannel.1 dst 10.4.7.22 self permanent
			` + `bridge fdb add 0a:39:13:5c:8e:23 dev flannel.1 dst 10.4.8.23 self permanent
			ip addr add 172.7.21.0/32 dev flannel.1
			ip link add flannel.1 address 0a:39:13:5c:8e:21 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up
			ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:22 dev flannel.1 nud permanent
			ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:23 dev flannel.1 nud permanent
			ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77
			ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`
		h.shows(tunnel)
		store.Set("config", direct, 0)
		settle(followed)
		h.shows(device + `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77
			ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`)
		store.Set("config", vxLAN, 0)
		settle(followed)
		h.shows(tunnel)

		// A restart writes nothing, and one of the peers has gone meanwhile.
		h.stop()
		h.kernel.Ops = nil
		h.start()
		defer func() { h.stop() }()
		settle(time.Second)
		if len(h.kernel.Ops) != 0 {
			t.Errorf("a restart writes %v", h.kernel.Ops)
		}
		h.stop()
		store.Remove("subnets/172.7.22.0-24")
		h.start()
		settle(time.Second)
		h.shows(device + `ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77
			ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`)

		// The network and the VNI change: the device follows, and the address stays.
		store.Set("config", `{"Network":"10.9.0.0/16","Backend":{"Type":"vxlan","VNI":7}}`, 0)
		settle(time.Minute)
		links, _ := h.Links()
		for _, l := range links {
			if l.Kind != nil && (l.Name != "flannel.7" || l.Addrs[0].String() != "172.7.21.0/32") {
				t.Errorf("device %s with %v", l.Name, l.Addrs)
			}
		}
	})
}
