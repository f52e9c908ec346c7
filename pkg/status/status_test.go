package status

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

var now = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func full() Status {
	return Status{
		Time:    now,
		Daemon:  &Daemon{Version: "0.2.0", PID: 812, Started: now.Add(-26 * time.Hour), Ready: true, Changed: now.Add(-90 * time.Second), Change: "ip route add …"},
		Network: &Network{netip.MustParsePrefix("172.7.0.0/16"), 24, "vxlan", ""},
		Host:    &Host{"ens33", netip.MustParseAddr("10.4.7.21"), netip.MustParseAddr("192.0.2.21"), 1500},
		Lease:   &Lease{Subnet: netip.MustParsePrefix("172.7.21.0/24"), Backend: "vxlan", Expires: now.Add(23 * time.Hour), MTU: 1450},
		Device:  &Device{Name: "flannel.1", VNI: 1, Port: 8472, MTU: 1450},
		Etcd:    Etcd{Endpoints: []string{"http://a:1", "http://b:1"}, Member: "http://b:1", Current: true},
		Peers: []Peer{
			{Subnet: netip.MustParsePrefix("172.7.22.0/24"), PublicIP: netip.MustParseAddr("10.4.7.22"), Backend: "vxlan", Expires: now.Add(time.Hour),
				Mode: Tunnel, Dev: "flannel.1", Kernel: InPlace, Since: now.Add(-3 * time.Hour)},
			{Subnet: netip.MustParsePrefix("172.7.100.0/24"), PublicIP: netip.MustParseAddr("10.4.7.100"), Mode: Direct, Dev: "ens33", Kernel: "no route", Since: now},
			{Subnet: netip.MustParsePrefix("172.7.101.0/24"), PublicIP: netip.MustParseAddr("10.4.8.101"), Backend: "a\x1b[2J\tb", Mode: NoWay},
		},
	}
}

func text(t *testing.T, s Status, colour bool) string {
	t.Helper()
	var b strings.Builder
	if err := s.Print(&b, colour); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestLongTexts has one field of 1 MB in a table of 5,000 peers.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("x", 1_000_000)
	s := full()
	s.Daemon.Reason, s.Daemon.Ready, s.Peers[0].Backend = long, false, long
	s.Conditions = condition.List{{Code: condition.LeaseIgnored, Message: long, Cause: long}}
	for range 5000 {
		s.Peers = append(s.Peers, s.Peers[1])
	}
	for _, daemon := range []*Daemon{s.Daemon, nil} {
		s.Daemon = daemon
		if n := len(text(t, s, false)); n > 1_500_000 {
			t.Errorf("%d bytes", n)
		}
	}
}

func TestPrint(t *testing.T) {
	broken := full()
	broken.Daemon.Ready, broken.Daemon.Reason = false, "no lease yet"
	broken.Lease, broken.Network, broken.Host, broken.Device, broken.Peers = nil, nil, nil, nil, nil
	broken.Etcd.Current, broken.Etcd.Member = false, ""
	broken.Conditions = condition.List{
		{Code: condition.EtcdUnreadable, Message: "first"}, {Code: condition.NoLease, Message: "no lease yet"},
		{Code: condition.LeaseIgnored, Message: "sec\x07ond"}, {Code: condition.EtcdNotCurrent, Message: "follows from the first"},
	}
	store := full()
	store.Daemon, store.Lease, store.Host, store.Device = nil, nil, nil, nil
	store.Peers[1].Expires = now.Add(-time.Minute)
	for _, tt := range []struct {
		name string
		s    Status
		want string
	}{
		{"all is well here, not with all peers", full(), `
flanneld     0.2.0, pid 812, up 1d2h, ready
network      172.7.0.0/16 in subnets of /24, backend vxlan
subnet       172.7.21.0/24, lease until 2026-03-05 11:00:00 (23h0m)
MTU          1450 for containers
interface    ens33, 10.4.7.21, MTU 1500
public IP    192.0.2.21
device       flannel.1, VNI 1, UDP port 8472, MTU 1450
etcd         http://b:1, current
last change  1m30s ago: ip route add …

PEER            PUBLIC IP   BACKEND  REACHED               KERNEL    SINCE
172.7.22.0/24   10.4.7.22   vxlan    tunnel, by flannel.1  in place  3h0m
172.7.100.0/24  10.4.7.100  -        direct, by ens33      no route  0s
172.7.101.0/24  10.4.8.101  a?[2J?b  no way                -         -
`},
		{"not ready", broken, `
flanneld     0.2.0, pid 812, up 1d2h
not ready    no lease yet
etcd         http://a:1, http://b:1, cannot be read
last change  1m30s ago: ip route add …
problems
  first
  sec?ond

no other host has a lease
`},
		{"the store alone", store, `
network  172.7.0.0/16 in subnets of /24, backend vxlan
etcd     http://b:1, current

SUBNET          PUBLIC IP   BACKEND  LEASE
172.7.22.0/24   10.4.7.22   vxlan    lease until 2026-03-04 13:00:00 (1h0m)
172.7.100.0/24  10.4.7.100  -        lease ended 1m0s ago
172.7.101.0/24  10.4.8.101  a?[2J?b  reserved, without expiry
`},
	} {
		if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), text(t, tt.s, false)); diff != "" {
			t.Errorf("%s, -want +got:\n%s", tt.name, diff)
		}
		if strings.Contains(text(t, tt.s, false), "\x1b") {
			t.Errorf("%s: an escape without colour", tt.name)
		}
	}
	coloured := text(t, full(), true)
	for _, want := range []string{
		green + "flanneld     0.2.0, pid 812, up 1d2h, ready" + reset + "\n",
		"\n172.7.22.0/24   10.4.7.22",
		"\n" + red + "172.7.100.0/24  10.4.7.100", "no route  0s" + reset + "\n",
	} {
		if !strings.Contains(coloured, want) {
			t.Errorf("no %q in %q", want, coloured)
		}
	}
}

// dualStack is full with IPv6 beside.
func dualStack() Status {
	s := full()
	s.IPv6 = &Half{
		Network: &Network{netip.MustParsePrefix("fd00:7::/48"), 64, "vxlan", ""},
		Host:    &Host{"ens34", netip.MustParseAddr("fd00:4::21"), netip.MustParseAddr("fd00:4::21"), 1500},
		Lease:   &Lease{Subnet: netip.MustParsePrefix("fd00:7:0:21::/64"), Backend: "vxlan", Expires: s.Lease.Expires, MTU: 1430},
		Device:  &Device{Name: "flannel-v6.1", VNI: 1, Port: 8472, MTU: 1430},
	}
	s.Peers[0].Key = "subnets/172.7.22.0-24&fd00:7:0:22::-64"
	s.Peers = append(s.Peers,
		Peer{Subnet: netip.MustParsePrefix("fd00:7:0:22::/64"), PublicIP: netip.MustParseAddr("fd00:4::22"), Backend: "vxlan", Expires: s.Peers[0].Expires,
			Mode: Tunnel, Dev: "flannel-v6.1", Kernel: "no route", Since: now.Add(-time.Hour), Key: s.Peers[0].Key},
		Peer{Subnet: netip.MustParsePrefix("fd00:7:0:103::/64"), PublicIP: netip.MustParseAddr("fd00:4::103"), Mode: Direct, Dev: "ens34", Kernel: InPlace, Since: now})
	return s
}

// TestPrintDualStack: what there is of each family stands together, and so do the rows of a host.
func TestPrintDualStack(t *testing.T) {
	const want = `
flanneld     0.2.0, pid 812, up 1d2h, ready
network      172.7.0.0/16 in subnets of /24, backend vxlan
network      fd00:7::/48 in subnets of /64, backend vxlan
subnet       172.7.21.0/24, lease until 2026-03-05 11:00:00 (23h0m)
subnet       fd00:7:0:21::/64, lease until 2026-03-05 11:00:00 (23h0m)
MTU          1430 for containers
interface    ens33, 10.4.7.21, MTU 1500
interface    ens34, fd00:4::21, MTU 1500
public IP    192.0.2.21
public IP    fd00:4::21
device       flannel.1, VNI 1, UDP port 8472, MTU 1450
device       flannel-v6.1, VNI 1, UDP port 8472, MTU 1430
etcd         http://b:1, current
last change  1m30s ago: ip route add …

PEER               PUBLIC IP    BACKEND  REACHED                  KERNEL    SINCE
172.7.22.0/24      10.4.7.22    vxlan    tunnel, by flannel.1     in place  3h0m
fd00:7:0:22::/64   fd00:4::22   vxlan    tunnel, by flannel-v6.1  no route  1h0m
172.7.100.0/24     10.4.7.100   -        direct, by ens33         no route  0s
172.7.101.0/24     10.4.8.101   a?[2J?b  no way                   -         -
fd00:7:0:103::/64  fd00:4::103  -        direct, by ens34         in place  0s
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), text(t, dualStack(), false)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	alone := dualStack() // IPv6 takes the first place, as IPv4 does beside it
	alone.SetHalves(alone.Halves()[1:])
	alone.IPv6 = nil
	if got := text(t, alone, false); !strings.Contains(got, "\nnetwork      fd00:7::/48 in") || strings.Contains(got, "172.7.0.0/16") || alone.MTU() != 1430 {
		t.Error(got)
	}
}

// TestOf finds a host by any of its addresses and subnets.
func TestOf(t *testing.T) {
	s := dualStack()
	for ip, want := range map[string]string{
		"10.4.7.22": "172.7.22.0/24", "172.7.22.9": "172.7.22.0/24",
		"fd00:4::22": "fd00:7:0:22::/64", "fd00:7:0:22::9": "fd00:7:0:22::/64", "fd00:7:0:103::": "fd00:7:0:103::/64",
		"fd00:7:0:21::1": "", "fd00:4::21": "", "172.7.23.1": "",
	} {
		if p, found := s.Of(netip.MustParseAddr(ip)); found != (want != "") || found && p.Subnet.String() != want {
			t.Errorf("%s: %+v", ip, p)
		}
	}
}

// What is wrong on the way to a peer, in the order in which a packet meets it.
func TestKernelState(t *testing.T) {
	var (
		subnet = netip.MustParsePrefix("172.7.22.0/24")
		vtep   = subnet.Addr()
		peer   = netip.MustParseAddr("10.4.7.22")
		mac, _ = kernel.ParseMAC("0a:00:00:00:00:16")
		other  = netip.MustParseAddr("10.4.7.99")
	)
	tunnel := Peer{Subnet: subnet, PublicIP: peer, Mode: Tunnel, Via: vtep, Dev: "flannel.1", MAC: mac.String()}
	direct := Peer{Subnet: subnet, PublicIP: peer, Mode: Direct, Via: peer, Dev: "ens33"}
	route := func(via netip.Addr, dev string) []kernel.FoundRoute {
		return []kernel.FoundRoute{{Route: kernel.Route{Dst: subnet, Via: via, Dev: dev}, Protocol: kernel.Protocol}}
	}
	byNexthop := func(via netip.Addr) []kernel.FoundRoute {
		r := route(via, "ens33")
		r[0].Nexthop = 5
		return r
	}
	entries := func(m kernel.MAC, permanent bool, dst netip.Addr) kernel.Entries {
		return kernel.Entries{
			Neighbours: []kernel.FoundNeighbour{{Neighbour: kernel.Neighbour{Dev: "flannel.1", Addr: vtep, MAC: m}, Permanent: permanent}},
			FDB:        []kernel.FoundFDB{{FDB: kernel.FDB{Dev: "flannel.1", MAC: m, Dst: dst}, Permanent: true}},
		}
	}
	good := entries(mac, true, peer)
	for _, tt := range []struct {
		name    string
		peer    Peer
		routes  []kernel.FoundRoute
		entries kernel.Entries
		want    string
	}{
		{"direct", direct, route(peer, "ens33"), kernel.Entries{}, InPlace},
		{"direct without a route", direct, nil, kernel.Entries{}, "no route"},
		{"direct by another gateway", direct, route(other, "ens33"), kernel.Entries{}, "another route: 172.7.22.0/24 via 10.4.7.99 dev ens33 proto 77"},
		{"direct by a next hop object", direct, byNexthop(peer), kernel.Entries{}, InPlace},
		{"direct by an edited next hop object", direct, byNexthop(other), kernel.Entries{}, "another route: 172.7.22.0/24 nhid 5 proto 77, which leads via 10.4.7.99 dev ens33"},
		{"tunnel", tunnel, route(vtep, "flannel.1"), good, InPlace},
		{"the tunnel's peer by a direct route", tunnel, route(peer, "ens33"), good, "another route: 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77"},
		{"a route in front of ours", tunnel, append(route(other, "ens33"), route(vtep, "flannel.1")...), good, "another route: 172.7.22.0/24 via 10.4.7.99 dev ens33 proto 77"},
		{"no neighbour", tunnel, route(vtep, "flannel.1"), kernel.Entries{FDB: good.FDB}, "no neighbour entry for 172.7.22.0"},
		{"another MAC", tunnel, route(vtep, "flannel.1"), entries(kernel.MAC{2, 1}, true, peer), "the neighbour entry for 172.7.22.0 says 02:01:00:00:00:00"},
		{"a neighbour that ages", tunnel, route(vtep, "flannel.1"), entries(mac, false, peer), "the neighbour entry for 172.7.22.0 is not permanent"},
		{"no forwarding entry", tunnel, route(vtep, "flannel.1"), kernel.Entries{Neighbours: good.Neighbours}, "no forwarding entry for 0a:00:00:00:00:16"},
		{"a forwarding entry to another host", tunnel, route(vtep, "flannel.1"), entries(mac, true, other), "the forwarding entry for 0a:00:00:00:00:16 leads to 10.4.7.99"},
		{"no way", Peer{Subnet: subnet, Mode: NoWay}, nil, kernel.Entries{}, ""},
	} {
		if got := NewKernel(tt.routes, tt.entries).State(tt.peer); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestKernelStateOfBothFamilies: a host may have one MAC on the devices of both.
func TestKernelStateOfBothFamilies(t *testing.T) {
	mac, _ := kernel.ParseMAC("0a:00:00:00:00:16")
	var routes []kernel.FoundRoute
	var entries kernel.Entries
	var peers []Peer
	for dev, at := range map[string][2]string{"flannel.1": {"172.7.22.0/24", "10.4.7.22"}, "flannel-v6.1": {"fd00:7:0:22::/64", "fd00:4::22"}} {
		p := Peer{Subnet: netip.MustParsePrefix(at[0]), PublicIP: netip.MustParseAddr(at[1]), Mode: Tunnel, Dev: dev, MAC: mac.String()}
		p.Via = p.Subnet.Addr()
		peers = append(peers, p)
		routes = append(routes, kernel.FoundRoute{Route: kernel.Route{Dst: p.Subnet, Via: p.Via, Dev: dev}, Protocol: kernel.Protocol})
		entries.Neighbours = append(entries.Neighbours, kernel.FoundNeighbour{Neighbour: kernel.Neighbour{Dev: dev, Addr: p.Via, MAC: mac}, Permanent: true})
		entries.FDB = append(entries.FDB, kernel.FoundFDB{FDB: kernel.FDB{Dev: dev, MAC: mac, Dst: p.PublicIP}, Permanent: true})
	}
	for _, p := range peers {
		if got := NewKernel(routes, entries).State(p); got != InPlace {
			t.Errorf("%v: %s", p.Subnet, got)
		}
	}
}

func TestFromStore(t *testing.T) {
	read := func(entries ...subnet.Entry) Status {
		return FromStore(subnet.Snapshot{Entries: entries}.Read(now), Etcd{Prefix: "/coreos.com/network"}, now)
	}
	const config = `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`
	const lease = `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`
	s := read(subnet.Entry{Key: "config", Value: config, Modified: 1}, subnet.Entry{Key: "subnets/172.7.22.0-24", Value: lease, TTL: time.Hour, Modified: 2},
		subnet.Entry{Key: "subnets/10.1.1.0-24", Value: lease, Modified: 3}, subnet.Entry{Key: "subnets/x", Modified: 4})
	if s.Network == nil || s.Network.Backend != "host-gw" || len(s.Peers) != 2 || !s.Peers[0].Expires.IsZero() || !s.Peers[1].Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v", s)
	}
	want := []string{"the lease of 10.1.1.0/24 does not fit the config: its host keeps it until flanneld is restarted there", `the key "/coreos.com/network/subnets/x" is no lease: it must name an IPv4 subnet in the form subnets/172.7.21.0-24, or both in the form subnets/172.7.21.0-24&fd00:7:0:21::-64`}
	if diff := cmp.Diff(want, texts(s)); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		entries []subnet.Entry
		problem string
	}{
		{nil, "there is no config key yet"},
		{[]subnet.Entry{{Key: "config", Value: `{"Network":"nonsense"}`, Modified: 1}}, "config key is wrong: Network"},
	} {
		if s := read(tt.entries...); s.Network != nil || len(s.Conditions) != 1 || !strings.HasPrefix(texts(s)[0], tt.problem) {
			t.Errorf("%+v", s)
		}
	}
}
