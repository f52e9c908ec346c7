package kerneltest_test

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/wgdevice"
)

var (
	vtep = kernel.Device{
		Name: "flannel.1", MAC: kernel.MAC{10, 1}, MTU: 1450,
		Kind: kernel.VXLAN{VNI: 1, Port: 8472, Parent: "ens33", Local: netip.MustParseAddr("10.4.7.21")},
	}
	peer    = netip.MustParseAddr("172.7.22.0")
	onward  = kernel.Route{Dst: netip.MustParsePrefix("172.7.22.0/24"), Via: peer, Dev: "flannel.1", OnLink: true}
	onward6 = kernel.Route{Dst: netip.MustParsePrefix("fc00:7:0:22::/64"), Via: netip.MustParseAddr("fc00:7:0:22::"), Dev: "flannel.1", OnLink: true}
	hop     = kernel.Nexthop{ID: 7, Hop: kernel.Hop{Via: netip.MustParseAddr("10.4.7.24"), Dev: "ens33"}}
	byHop   = kernel.Route{Dst: netip.MustParsePrefix("172.7.24.0/24"), Nexthop: 7}
	plain   = kernel.Route{Dst: netip.MustParsePrefix("172.7.23.0/24"), Via: netip.MustParseAddr("10.4.7.23"), Dev: "ens33"}
)

// TestOpsAreCommands carries each Op out on one kernel, and the command that it
// prints on another: they stay alike.
func TestOpsAreCommands(t *testing.T) {
	k, typed := kerneltest.New("ens33", 1500, "10.4.7.21/24"), kerneltest.New("ens33", 1500, "10.4.7.21/24")
	var states []string
	for _, o := range []kernel.Op{
		{Action: kernel.Add, Object: vtep},
		{Action: kernel.Set, Object: kernel.Setting{Dev: "flannel.1", Alias: "flanneld"}},
		{Action: kernel.Set, Object: kernel.Setting{Dev: "flannel.1", MTU: 1400}},
		{Action: kernel.Set, Object: kernel.Setting{Dev: "flannel.1", MAC: kernel.MAC{10, 2}}},
		{Action: kernel.Set, Object: kernel.Setting{Dev: "flannel.1", Up: true}},
		{Action: kernel.Add, Object: kernel.Address{Dev: "flannel.1", Prefix: netip.MustParsePrefix("172.7.21.0/32")}},
		{Action: kernel.Replace, Object: kernel.FDB{Dev: "flannel.1", MAC: kernel.MAC{10, 3}, Dst: netip.MustParseAddr("10.4.7.22")}},
		{Action: kernel.Replace, Object: kernel.Neighbour{Dev: "flannel.1", Addr: peer, MAC: kernel.MAC{10, 3}}},
		{Action: kernel.Add, Object: onward},
		{Action: kernel.Add, Object: plain},
		{Action: kernel.Replace, Object: kernel.Route{Dst: plain.Dst, Via: netip.MustParseAddr("10.4.7.99"), Dev: "ens33"}},
		{Action: kernel.Add, Object: hop},
		{Action: kernel.Replace, Object: kernel.Nexthop{ID: 7, Hop: kernel.Hop{Via: netip.MustParseAddr("10.9.9.9"), Dev: "ens33", OnLink: true}}},
		{Action: kernel.Add, Object: byHop},
		{Action: kernel.Delete, Object: kernel.FoundRoute{Route: byHop, Protocol: kernel.Protocol}},
		{Action: kernel.Delete, Object: hop},
		{Action: kernel.Delete, Object: kernel.FoundRoute{Route: onward, Protocol: kernel.Protocol}},
		{Action: kernel.Delete, Object: kernel.Neighbour{Dev: "flannel.1", Addr: peer, MAC: kernel.MAC{10, 3}}},
		{Action: kernel.Delete, Object: kernel.FDB{Dev: "flannel.1", MAC: kernel.MAC{10, 3}, Dst: netip.MustParseAddr("10.4.7.22")}},
		{Action: kernel.Delete, Object: kernel.Address{Dev: "flannel.1", Prefix: netip.MustParsePrefix("172.7.21.0/32")}},
		{Action: kernel.Add, Object: kernel.Address{Dev: "flannel.1", Prefix: netip.MustParsePrefix("fc00:7:0:21::/128")}},
		{Action: kernel.Replace, Object: kernel.Neighbour{Dev: "flannel.1", Addr: onward6.Via, MAC: kernel.MAC{10, 3}}},
		{Action: kernel.Add, Object: onward6},
		{Action: kernel.Add, Object: kernel.Route{Dst: netip.MustParsePrefix("fc00:7:0:22::/128"), Dev: "flannel.1"}},
		{Action: kernel.Delete, Object: kernel.FoundRoute{Route: onward6, Protocol: kernel.Protocol, Metric: 1024}},
		{Action: kernel.Delete, Object: kernel.Address{Dev: "flannel.1", Prefix: netip.MustParsePrefix("fc00:7:0:21::/128")}},
		{Action: kernel.Delete, Object: vtep},
		{Action: kernel.Add, Object: kernel.Device{Name: "flannel-wg", MTU: 1420, Kind: kernel.WireGuard{}}},
		{Action: kernel.Replace, Object: guard(1, "172.7.22.0/24")},
		{Action: kernel.Replace, Object: guard(2, "172.7.22.0/24", "fc00:7:0:22::/64")},
		{Action: kernel.Replace, Object: guard(1, "172.7.23.0/24")},
		{Action: kernel.Delete, Object: guard(2)},
	} {
		before := k.String()
		if err := errors.Join(k.Do(o)...); err != nil {
			t.Fatalf("%s: %v", o, err)
		}
		if err := typed.Run(o.String()); err != nil {
			t.Fatal(err)
		}
		if k.String() != typed.String() || k.String() == before {
			t.Errorf("after %s there is\n%s\nand by hand\n%s", o, k, typed)
		}
		states = append(states, o.String())
	}
	var did []string
	for _, o := range k.Ops {
		did = append(did, o.String())
	}
	if got, want := strings.Join(did, "\n"), strings.Join(states, "\n"); got != want {
		t.Errorf("it has done\n%s\nwant\n%s", got, want)
	}
}

// guard is a peer with a public key of n's.
func guard(n byte, subnets ...string) kernel.Peer {
	p := kernel.Peer{Dev: "flannel-wg", Peer: wgdevice.Peer{
		Key: wgdevice.Key{n}, Endpoint: netip.MustParseAddrPort("10.4.7.22:51820"), Keepalive: 25,
	}}
	for i, s := range subnets {
		p.Allowed[i] = netip.MustParsePrefix(s)
	}
	return p
}

// tunnel is a kernel with a tunnel, a peer behind it, and one on the link.
func tunnel(t *testing.T) *kerneltest.Kernel {
	t.Helper()
	k := kerneltest.New("ens33", 1500, "10.4.7.21/24")
	if err := errors.Join(k.Do(
		kernel.Op{Action: kernel.Add, Object: vtep},
		kernel.Op{Action: kernel.Set, Object: kernel.Setting{Dev: "flannel.1", Up: true}},
		kernel.Op{Action: kernel.Add, Object: kernel.Address{Dev: "flannel.1", Prefix: netip.MustParsePrefix("172.7.21.0/32")}},
		kernel.Op{Action: kernel.Replace, Object: kernel.Neighbour{Dev: "flannel.1", Addr: peer, MAC: kernel.MAC{10, 3}}},
		kernel.Op{Action: kernel.Add, Object: onward}, kernel.Op{Action: kernel.Add, Object: plain},
	)...); err != nil {
		t.Fatal(err)
	}
	return k
}

// TestWhatGoesWithIt takes away what other things hang on.
func TestWhatGoesWithIt(t *testing.T) {
	const onward, plain, neighbour, device = "ip route add 172.7.22.0/24", "ip route add 172.7.23.0/24", "ip neigh add 172.7.22.0", "ip link add flannel.1"
	for command, gone := range map[string][]string{
		"ip link set flannel.1 down":                      {onward, neighbour},
		"ip addr flush dev flannel.1":                     {onward, neighbour},
		"ip link set flannel.1 address 0a:00:00:00:00:09": {neighbour},
		"ip link del flannel.1":                           {onward, neighbour, device},
		"ip link set ens33 down":                          {plain},
		"ip link del ens33":                               {onward, plain, neighbour, device},
	} {
		k := tunnel(t)
		run(t, k, command)
		for _, what := range []string{onward, plain, neighbour, device} {
			wanted := true
			for _, g := range gone {
				wanted = wanted && g != what
			}
			if strings.Contains(k.String(), what) != wanted {
				t.Errorf("after %s (%q there: %v)\n%s", command, what, !wanted, k)
			}
		}
	}
}

// TestRefusedOps does what Linux refuses, and what it takes for done.
func TestRefusedOps(t *testing.T) {
	elsewhere := kernel.Neighbour{Dev: "flannel.9", Addr: peer, MAC: kernel.MAC{10, 3}}
	second := vtep
	second.Name = "flannel.2"
	for _, tt := range []struct {
		op   kernel.Op
		want error
	}{
		{kernel.Op{Action: kernel.Add, Object: vtep}, syscall.EEXIST},
		{kernel.Op{Action: kernel.Add, Object: second}, syscall.EEXIST}, // the same VNI and port
		{kernel.Op{Action: kernel.Add, Object: kernel.Device{Name: "flannel.9", Kind: kernel.VXLAN{VNI: 9, Parent: "ens99"}}}, syscall.ENODEV},
		{kernel.Op{Action: kernel.Replace, Object: elsewhere}, syscall.ENODEV},
		{kernel.Op{Action: kernel.Delete, Object: elsewhere}, nil},
		{kernel.Op{Action: kernel.Add, Object: byHop}, syscall.EINVAL}, // there is no such object
		{kernel.Op{Action: kernel.Delete, Object: hop}, nil},
		{kernel.Op{Action: kernel.Add, Object: kernel.Nexthop{ID: 8, Hop: kernel.Hop{Via: netip.MustParseAddr("192.168.1.1"), Dev: "ens33"}}}, syscall.ENETUNREACH},
		{kernel.Op{Action: kernel.Add, Object: plain}, nil}, // by whomever
		{kernel.Op{Action: kernel.Add, Object: kernel.Route{Dst: plain.Dst, Via: netip.MustParseAddr("192.168.1.1"), Dev: "ens33"}}, syscall.ENETUNREACH},
	} {
		k := tunnel(t)
		before := k.String()
		if err := k.Do(tt.op)[0]; !errors.Is(err, tt.want) || k.String() != before {
			t.Errorf("%s: %v, want %v\n%s", tt.op, err, tt.want, k)
		}
	}
}

// TestFailOnDemand lets one call of each kind fail.
func TestFailOnDemand(t *testing.T) {
	k := tunnel(t)
	before, done := k.String(), len(k.Ops)
	remove := []kernel.Op{{Action: kernel.Delete, Object: vtep}, {Action: kernel.Delete, Object: kernel.FoundRoute{Route: plain, Protocol: kernel.Protocol}}}
	k.Fail = func(call string) error {
		if call == "list links" || call == remove[0].String() {
			return syscall.ENOBUFS
		}
		return nil
	}
	if _, err := k.Links(); !errors.Is(err, syscall.ENOBUFS) {
		t.Errorf("Links: %v", err)
	}
	if _, err := k.Routes(); err != nil {
		t.Errorf("Routes: %v", err)
	}
	errs := k.Do(remove...)
	if !errors.Is(errs[0], syscall.ENOBUFS) || errs[1] != nil || len(k.Ops) != done+1 || !strings.Contains(k.String(), "flannel.1") || k.String() == before {
		t.Errorf("%v with %v\n%s", errs, k.Ops[done:], k)
	}
}

// TestLeave ends the process that serves devices of user space.
func TestLeave(t *testing.T) {
	k := kerneltest.New("ens33", 1500, "10.4.7.21/24")
	k.NoWireGuard = true
	udp := kernel.Device{Name: "flannel0", MTU: 1472, Kind: kernel.UDP{Local: netip.MustParseAddrPort("10.4.7.21:8285")}}
	carried := kernel.Peer{Dev: "flannel0", Peer: wgdevice.Peer{
		Endpoint: netip.MustParseAddrPort("10.4.7.22:8285"), Allowed: wgdevice.PrefixesOf(netip.MustParsePrefix("172.7.22.0/24")),
	}}
	add := func(o kernel.Object) kernel.Op { return kernel.Op{Action: kernel.Add, Object: o} }
	ours := kernel.Op{Action: kernel.Set, Object: kernel.Setting{Dev: "flannel0", Alias: kernel.Alias}}
	guarded := kernel.Device{Name: "flannel-wg", MTU: 1420, Kind: kernel.WireGuard{Port: 51820}}
	if err := errors.Join(k.Do(add(udp), ours, add(carried), add(guarded), add(guard(1)))...); err != nil {
		t.Fatal(err)
	}
	run(t, k, "ip route add 172.7.0.0/16 dev ens33")
	k.Leave()
	links, err := k.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == "flannel0" && (!l.Unserved || l.Kind == nil) || l.Name == "flannel-wg" && (l.Unserved || l.Kind != nil) {
			t.Errorf("%+v", l)
		}
	}
	if got := k.String(); strings.Contains(got, "flannel0: ") || strings.Contains(got, "peer") {
		t.Errorf("there are peers left:\n%s", got)
	}
	if err := errors.Join(k.Do(add(udp), add(carried))...); err != nil || !strings.Contains(k.String(), "flannel0: add 172.7.22.0/24") {
		t.Errorf("taken up: %v\n%s", err, k)
	}
}
