package kernel_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// allRoutes are of every kind that ip-route(8) makes without further modules.
const allRoutes = `
	ip route add default via 10.4.7.254
	ip route add default via 10.4.7.253 metric 100
	ip route add 10.20.0.0/24 via 10.4.7.22
	ip route add 10.20.1.0/24 via 10.4.7.22 proto 77
	ip route add 10.20.2.0/24 via 10.20.2.0 dev ens33 onlink proto 77
	ip route add 10.20.3.0/24 via 10.4.7.22 metric 4000000000
	ip route add 10.20.4.0/24 dev ens33
	ip route add 10.20.5.0/24 dev ens33 scope global proto static
	ip route add 10.20.6.7 via 10.4.7.22
	ip route add 10.20.7.0/24 via 10.4.7.22
	ip route append 10.20.7.0/24 via 10.4.7.23
	ip route prepend 10.20.7.0/24 via 10.4.7.24
	ip route add blackhole 10.21.0.0/24 proto 77
	ip route add unreachable 10.21.1.0/24
	ip route add prohibit 10.21.2.0/24
	ip route add throw 10.21.3.0/24
	ip route add 10.22.0.0/24 via 10.4.7.22 mtu 1400
	ip route add 10.22.1.0/24 via 10.4.7.22 advmss 1000 window 10000 rtt 100ms initcwnd 10 initrwnd 10 quickack 1 hoplimit 9
	ip route add 10.22.2.0/24 via 10.4.7.22 congctl reno
	ip route add 10.22.3.0/24 via 10.4.7.22 src 10.4.7.21
	ip route add 10.22.4.0/24 via 10.4.7.22 realm 7
	ip route add 10.22.5.0/24 nexthop via 10.4.7.22 weight 1 nexthop via 10.4.7.23 weight 2
	ip route add 10.22.6.0/24 via 10.4.7.22 features ecn
	ip route add 10.23.0.0/24 via 10.4.7.22 tos 0x10
	ip route add 10.23.1.0/24 via 10.4.7.22 table 7
	ip route add 10.23.2.0/24 via 10.4.7.22 table 4711
	ip route add local 10.23.3.0/24 dev lo table local
	ip -6 route add fd00:7::/64 dev ens33`

// eachKernel runs a test on the kernel as it is, and as older ones answer.
func eachKernel(t *testing.T, test func(*testing.T, machine, *kernel.Netlink)) {
	for _, name := range []string{"strict", "lax"} {
		t.Run(name, func(t *testing.T) {
			m := linux(t)
			conn := m.Conn.(*kernel.Netlink)
			if name == "lax" {
				if err := conn.Lax(); err != nil {
					t.Fatal(err)
				}
			}
			test(t, m, conn)
		})
	}
}

// Routes are what the netlink library reads of them.
func TestRoutesAsTheLibraryReadsThem(t *testing.T) {
	eachKernel(t, func(t *testing.T, m machine, conn *kernel.Netlink) {
		m.sh(t, allRoutes)
		linkOf(t, m, "ens33")
		got, err := conn.Routes()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(routesByLibrary(t), got, cmp.Comparer(func(a, b kernel.FoundRoute) bool { return a == b })); diff != "" {
			t.Errorf("the library's (-), ours (+):\n%s", diff)
		}
		kinds := map[bool]int{}
		for _, r := range got {
			kinds[r.Special]++
		}
		if len(got) != 24 || kinds[true] != 13 {
			t.Errorf("%d routes, %d of them special:\n%v", len(got), kinds[true], got)
		}
		if ours, err := conn.Ours(nil); !ours || err != nil {
			t.Errorf("ours: %v, %v", ours, err)
		}
		m.sh(t, `ip route flush proto 77`)
		if ours, err := conn.Ours(nil); ours || err != nil {
			t.Errorf("ours, without a route of ours: %v, %v", ours, err)
		}
	})
}

// Of IPv6 the library overlooks too much to compare with it.
func TestRoutesOfIPv6(t *testing.T) {
	for _, lax := range []bool{false, true} {
		m := linuxOf(t, inet.IPv6)
		conn := m.Conn.(*kernel.Netlink)
		if lax {
			if err := conn.Lax(); err != nil {
				t.Fatal(err)
			}
		}
		m.sh(t, `ip addr add 10.4.7.21/24 dev ens33
			ip route add 10.20.0.0/24 via 10.4.7.22
			ip route add ::/0 via fe80::1 dev ens33 proto ra metric 100
			ip route add fc00:7:0:1::/64 via fd00:4::22 proto 77
			ip route add fc00:7:0:2::/64 via fc00:7:0:2:: dev ens33 onlink proto 77
			ip route add fc00:7:0:3::/64 dev ens33 proto static
			ip route add fc00:7:0:4::/64 via fd00:4::22 metric 4000000000
			ip route add fc00:7:0:5::5 via fd00:4::22
			ip route add fc00:7:0:6::/64 nexthop via fd00:4::22 nexthop via fd00:4::23
			ip route add blackhole fc00:7:0:7::/64 proto 77
			ip route add unreachable fc00:7:0:8::/64
			ip route add prohibit fc00:7:0:9::/64
			ip route add throw fc00:7:0:a::/64
			ip route add fc00:7:0:b::/64 via fd00:4::22 mtu 1400
			ip route add fc00:7:0:c::/64 via fd00:4::22 expires 1000
			ip route add fc00:7:0:d::/64 via fd00:4::22 pref high
			ip route add fc00:7:0:e::/64 via fd00:4::22 src fd00:4::21
			ip route add fc00:7:0:f::/64 via fd00:4::22 table 7
			ip nexthop add id 5 via fd00:4::22 dev ens33
			ip route add fc00:7:0:10::/64 nhid 5 proto 77
			ip -6 nexthop add id 6 blackhole
			ip route add fc00:7:0:11::/64 nhid 6`)
		linkOf(t, m, "ens33")
		routes, err := conn.Routes()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range routes {
			if r.Protocol == unix.RTPROT_KERNEL && r.Dst.Addr().IsLinkLocalUnicast() {
				continue
			}
			text := r.String()
			if r.Nexthop != 0 {
				text += fmt.Sprintf(" via %v dev %q", r.Via, r.Dev)
			}
			if r.Special {
				text += " special"
			}
			got = append(got, text)
		}
		slices.Sort(got)
		compare(t, "routes", strings.Join(got, "\n"), `
			::/0 via fe80::1 dev ens33 proto 9 metric 100
			fc00:7:0:10::/64 nhid 5 proto 77 metric 1024 via fd00:4::22 dev "ens33"
			fc00:7:0:11::/64 nhid 6 proto 3 metric 1024 via invalid IP dev "" special
			fc00:7:0:1::/64 via fd00:4::22 dev ens33 proto 77 metric 1024
			fc00:7:0:2::/64 via fc00:7:0:2:: dev ens33 onlink proto 77 metric 1024
			fc00:7:0:3::/64 dev ens33 proto 4 metric 1024
			fc00:7:0:4::/64 via fd00:4::22 dev ens33 proto 3 metric 4000000000
			fc00:7:0:5::5/128 via fd00:4::22 dev ens33 proto 3 metric 1024
			fc00:7:0:6::/64 proto 3 metric 1024 special
			fc00:7:0:7::/64 proto 77 metric 1024 special
			fc00:7:0:8::/64 proto 3 metric 1024 special
			fc00:7:0:9::/64 proto 3 metric 1024 special
			fc00:7:0:a::/64 proto 3 metric 1024 special
			fc00:7:0:b::/64 via fd00:4::22 dev ens33 proto 3 metric 1024 special
			fc00:7:0:c::/64 via fd00:4::22 dev ens33 proto 3 metric 1024 special
			fc00:7:0:d::/64 via fd00:4::22 dev ens33 proto 3 metric 1024 special
			fc00:7:0:e::/64 via fd00:4::22 dev ens33 proto 3 metric 1024 special
			fd00:4::/64 dev ens33 proto 2 metric 256`)
	}
}

// Where there was never an address, there is no main table yet.
func TestNoRoutesAtAll(t *testing.T) {
	linux(t)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	bare, err := kernel.Open(inet.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	if routes, err := bare.Routes(); err != nil || len(routes) > 0 {
		t.Errorf("%v, %v", routes, err)
	}
}

func routesByLibrary(t *testing.T) (out []kernel.FoundRoute) {
	t.Helper()
	all, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Tos != 0 {
			continue
		}
		f := kernel.FoundRoute{Protocol: int(r.Protocol), Metric: r.Priority}
		bits, _ := r.Dst.Mask.Size()
		f.Dst, f.Via, f.OnLink = netip.PrefixFrom(ipOfLibrary(r.Dst.IP), bits), ipOfLibrary(r.Gw), r.Flags&unix.RTNH_F_ONLINK != 0
		if r.LinkIndex != 0 {
			f.Dev = nameOf(t, r.LinkIndex)
		}
		numbers := r.Realm | r.MTU | r.AdvMSS | r.Window | r.Hoplimit | r.Rtt | r.InitCwnd | r.InitRwnd | r.QuickACK | r.Features
		f.Special = numbers != 0 || r.Congctl != "" || r.Type != unix.RTN_UNICAST || r.Scope != netlink.SCOPE_UNIVERSE || r.Src != nil || len(r.MultiPath) > 0
		out = append(out, f)
	}
	return out
}

func ipOfLibrary(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func nameOf(t *testing.T, index int) string {
	t.Helper()
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Name
}

// Next hops that the library overlooks, and then takes such a route for a plain one.
func TestRoutesOverOtherNextHops(t *testing.T) {
	m := linux(t)
	m.sh(t, `ip nexthop add id 5 via 10.4.7.22 dev ens33
		ip route add 10.20.0.0/24 nhid 5 proto 77
		ip route add 10.20.1.0/24 via inet6 fe80::22 dev ens33 proto 77`)
	linkOf(t, m, "ens33")
	routes, err := m.Routes()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Protocol == kernel.Protocol && !r.Special && (r.Nexthop != 5 || r.Via != ipOf(22)) {
			t.Errorf("%v counts as a plain route", r)
		}
	}
	if direct, err := isDirect(m, "10.20.1.1", "ens33"); direct || err != nil {
		t.Errorf("behind a gateway of IPv6's: direct %v, %v", direct, err)
	}
	m.sh(t, `ip route del 10.20.0.0/24`)
	result, err := kernel.NewSyncer(m).Apply(kernel.State{})
	if routes, _ := m.Routes(); err != nil || len(result.Ops) != 1 || len(routes) != 1 {
		t.Errorf("is to go: %s; error: %v; left: %v", texts(result.Ops), err, routes)
	}
}

// allEntries are neighbours in every state that ip-neighbour(8) sets, and
// forwarding entries with everything that bridge(8) knows; and others that do
// not belong to flannel.1.
const allEntries = formerDevice + `
	ip link add cali.9 address 0a:00:00:00:00:09 type vxlan id 9 local 10.4.7.21 dev ens33 dstport 8472 nolearning
	ip link set cali.9 up
	ip link add br0 type bridge
	ip link set flannel.1 master br0
	ip neigh add 172.7.1.0 lladdr 0a:00:00:00:01:00 dev flannel.1 nud permanent
	ip neigh add 172.7.2.0 lladdr 0a:00:00:00:02:00 dev flannel.1 nud reachable
	ip neigh add 172.7.3.0 lladdr 0a:00:00:00:03:00 dev flannel.1 nud stale
	ip neigh add 172.7.4.0 lladdr 0a:00:00:00:04:00 dev flannel.1 nud noarp
	ip neigh add 172.7.5.0 dev flannel.1 nud failed
	ip neigh add 172.7.6.0 lladdr 0a:00:00:00:06:00 dev flannel.1 nud permanent router
	ip neigh add proxy 172.7.7.0 dev flannel.1
	ip neigh add fd00:7::1 lladdr 0a:00:00:00:08:00 dev flannel.1 nud permanent
	ip neigh add 172.7.9.0 lladdr 0a:00:00:00:09:00 dev cali.9 nud permanent
	ip neigh add 10.4.7.22 lladdr 0a:00:00:00:0a:00 dev ens33 nud permanent
	bridge fdb add 0a:00:00:00:01:00 dev flannel.1 dst 10.4.7.22 self permanent
	bridge fdb add 0a:00:00:00:02:00 dev flannel.1 dst 10.4.7.22 self dynamic
	bridge fdb add 0a:00:00:00:03:00 dev flannel.1 dst 10.4.7.22 self static
	bridge fdb add 0a:00:00:00:04:00 dev flannel.1 dst 10.4.7.22 self permanent vni 7
	bridge fdb add 0a:00:00:00:05:00 dev flannel.1 dst 10.4.7.22 self permanent port 4789
	bridge fdb add 0a:00:00:00:06:00 dev flannel.1 dst 10.4.7.22 self permanent via ens33
	bridge fdb add 00:00:00:00:00:00 dev flannel.1 dst 10.4.7.22 self permanent
	bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 10.4.7.23 self permanent
	bridge fdb add 0a:00:00:00:07:00 dev flannel.1 master static
	bridge fdb add 0a:00:00:00:08:00 dev cali.9 dst 10.4.7.22 self permanent`

func TestEntriesAsTheLibraryReadsThem(t *testing.T) {
	eachKernel(t, testEntries)
}

func testEntries(t *testing.T, m machine, conn *kernel.Netlink) {
	m.sh(t, allEntries)
	dev := linkOf(t, m, "flannel.1")
	got, err := conn.Entries(dev)
	if err != nil {
		t.Fatal(err)
	}
	var want kernel.Entries
	for _, n := range neighboursByLibrary(t, dev, netlink.FAMILY_V4) {
		want.Neighbours = append(want.Neighbours, kernel.FoundNeighbour{
			Neighbour: kernel.Neighbour{Dev: dev.Name, Addr: ipOfLibrary(n.IP), MAC: macByLibrary(n)}, Permanent: n.State&unix.NUD_PERMANENT != 0,
		})
	}
	for _, n := range neighboursByLibrary(t, dev, unix.AF_BRIDGE) {
		if n.Flags&unix.NTF_SELF != 0 {
			want.FDB = append(want.FDB, kernel.FoundFDB{
				FDB: kernel.FDB{Dev: dev.Name, MAC: macByLibrary(n), Dst: ipOfLibrary(n.IP)}, Permanent: n.State&unix.NUD_PERMANENT != 0 && !elsewhere(n),
			})
		}
	}
	equal := cmp.Options{
		cmp.Comparer(func(a, b kernel.FoundNeighbour) bool { return a == b }), cmp.Comparer(func(a, b kernel.FoundFDB) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("the library's (-), ours (+):\n%s", diff)
	}
	compare(t, "which are there, and permanent", summary(got), `
		172.7.1.0 true
		172.7.2.0 false
		172.7.3.0 false
		172.7.4.0 false
		172.7.5.0 false
		172.7.6.0 true
		00:00:00:00:00:00 10.4.7.22 true
		00:00:00:00:00:00 10.4.7.23 true
		0a:00:00:00:01:00 10.4.7.22 true
		0a:00:00:00:02:00 10.4.7.22 false
		0a:00:00:00:03:00 10.4.7.22 false
		0a:00:00:00:04:00 10.4.7.22 false
		0a:00:00:00:05:00 10.4.7.22 false
		0a:00:00:00:06:00 10.4.7.22 false`)
}

func neighboursByLibrary(t *testing.T, dev kernel.Link, family int) []netlink.Neigh {
	t.Helper()
	all, err := netlink.NeighList(dev.Index, family)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func macByLibrary(n netlink.Neigh) (m kernel.MAC) {
	copy(m[:], n.HardwareAddr)
	return m
}

// elsewhere is about entries of allEntries; the library does not read an
// entry's port and interface.
func elsewhere(n netlink.Neigh) bool {
	return n.VNI != 0 || macByLibrary(n) == kernel.MAC{10, 0, 0, 0, 5} || macByLibrary(n) == kernel.MAC{10, 0, 0, 0, 6}
}

func summary(e kernel.Entries) string {
	var neighbours, fdb []string
	for _, n := range e.Neighbours {
		neighbours = append(neighbours, fmt.Sprintln(n.Addr, n.Permanent))
	}
	for _, f := range e.FDB {
		fdb = append(fdb, fmt.Sprintln(f.MAC, f.Dst, f.Permanent))
	}
	slices.Sort(neighbours)
	slices.Sort(fdb)
	return strings.Join(neighbours, "") + strings.Join(fdb, "")
}

// A device that has just gone has nothing on it.
func TestEntriesOfADeviceThatIsGone(t *testing.T) {
	m := linux(t)
	m.sh(t, formerDevice)
	dev := linkOf(t, m, "flannel.1")
	m.sh(t, `ip link del flannel.1`)
	if e, err := m.Entries(dev); err != nil || len(e.Neighbours)+len(e.FDB) > 0 {
		t.Errorf("%v, %v", e, err)
	}
}
