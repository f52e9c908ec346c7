package kernel_test

import (
	"net/netip"
	"os"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// both has the device with an address of each family, and a peer's routes and
// entries in both.
func both() kernel.State {
	prefix, vtep := netip.MustParsePrefix("fd00:7:22::/64"), netip.MustParseAddr("fd00:7:22::")
	six := kernel.State{
		Devices:    []kernel.Device{device()},
		Routes:     []kernel.Route{{Dst: prefix, Via: vtep, Dev: "flannel.1", OnLink: true, Peer: ipOf(22)}},
		Neighbours: []kernel.Neighbour{{Dev: "flannel.1", Addr: vtep, MAC: macOf(22)}},
		FDB:        []kernel.FDB{{Dev: "flannel.1", MAC: macOf(22), Dst: ipOf(22)}},
	}
	six.Devices[0].Addrs = kernel.AddrsOf(kernel.DeviceAddr{
		Prefix: netip.MustParsePrefix("fd00:7:21::/128"), Network: netip.MustParsePrefix("fd00:7::/32"), SubnetLen: 48,
	})
	return tunnel(22).And(six)
}

// A state of both families is brought about, found in place, and put right.
func TestBothFamilies(t *testing.T) {
	kinds := map[string]func(testing.TB) machine{"fake": fake, "linux": func(t testing.TB) machine {
		m := linux(t)
		if os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("0"), 0) != nil {
			t.Skip("this kernel has no IPv6")
		}
		conn, err := kernel.Open(inet.IPv4, inet.IPv6)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		m.Conn = conn
		return m
	}}
	for kind, m := range kinds {
		t.Run(kind, func(t *testing.T) {
			m := m(t)
			s := kernel.NewSyncer(m)
			const peer = `
				bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
				ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				ip neigh replace fd00:7:22:: lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
				ip route add fd00:7:22::/64 via fd00:7:22:: dev flannel.1 onlink proto 77`
			for _, c := range []struct{ hand, ops string }{
				{``, `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
					ip link set flannel.1 alias flanneld
					ip addr add 172.7.21.0/32 dev flannel.1
					ip addr add fd00:7:21::/128 dev flannel.1 nodad
					ip link set flannel.1 up` + peer},
				{`ip route del fd00:7:22::/64`, `repair: ip route add fd00:7:22::/64 via fd00:7:22:: dev flannel.1 onlink proto 77`},
				{`ip neigh del fd00:7:22:: dev flannel.1`, `repair: ip neigh replace fd00:7:22:: lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent`},
				{`ip addr del fd00:7:21::/128 dev flannel.1
					ip addr add fd00:7:21::/64 dev flannel.1 nodad`, `ip addr del fd00:7:21::/64 dev flannel.1 (its length is wrong)
					repair: ip addr add fd00:7:21::/128 dev flannel.1 nodad`},
				{`ip addr add fd00:7:99::/128 dev flannel.1`, `ip addr del fd00:7:99::/128 dev flannel.1`},
				{`ip addr add fd00:9:99::/128 dev flannel.1`, ``},
			} {
				m.sh(t, c.hand)
				compare(t, "ops after "+c.hand, texts(onePass(t, s, both()).Ops), c.ops)
				compare(t, "second pass", texts(onePass(t, s, both()).Ops), ``)
			}
			compare(t, "ops of a restart", texts(onePass(t, kernel.NewSyncer(m), both()).Ops), ``)
			compare(t, "without IPv6", texts(onePass(t, s, tunnel(22)).Ops), `
				ip addr del fd00:7:21::/128 dev flannel.1
				ip route del fd00:7:22::/64 via fd00:7:22:: dev flannel.1 onlink proto 77 metric 1024
				ip neigh del fd00:7:22:: lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent`)
		})
	}
}
