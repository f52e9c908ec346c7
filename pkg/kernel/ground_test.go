package kernel_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// own is a state of the host that holds 172.7.21.0/24.
func own(s kernel.State) kernel.State {
	s.Own = []netip.Prefix{subnetOf(21)}
	s.Networks = []netip.Prefix{netip.MustParsePrefix("172.7.0.0/16")}
	return s
}

const docker0 = `ip link add docker0 type bridge
	ip addr add 172.7.21.1/24 dev docker0
	ip link set docker0 up`

// A route into this host's own subnet keeps its containers from all packets. What an
// earlier flannel has left there goes, at every pass; what is somebody else's is told.
func TestRoutesIntoTheOwnSubnet(t *testing.T) {
	const why = ` (it led packets for this host's own containers away)`
	for name, c := range map[string]struct {
		hand, ops, conflicts string
		only4                bool // IPv6 has the like of it in another form
	}{
		"by another host, as host-gw wrote it": {hand: `ip route add 172.7.21.0/24 via 10.4.7.22 dev ens33`,
			ops: `ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 3` + why},
		"behind docker's own, until docker0 is made anew": {hand: docker0 + `
			ip route append 172.7.21.0/24 via 10.4.7.22 dev ens33`,
			ops: `ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 3` + why},
		"to a part, of an earlier SubnetLen": {hand: `ip route add 172.7.21.128/25 via 10.4.7.22 dev ens33`,
			ops: `ip route del 172.7.21.128/25 via 10.4.7.22 dev ens33 proto 3` + why},
		"of ours": {hand: `ip route add 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 77`,
			ops: `ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 77`},
		"through an earlier tunnel": {hand: strings.Replace(formerDevice, "172.7.21.0", "172.7.99.0", 1) + `
			ip route add 172.7.21.0/24 via 172.7.21.0 dev flannel.1 onlink`,
			ops: `ip route del 172.7.21.0/24 via 172.7.21.0 dev flannel.1 onlink proto 3` + why},

		"static": {hand: `ip route add 172.7.21.0/24 via 10.4.7.22 dev ens33 proto static`,
			conflicts: `in own: 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 4`, only4: true},
		"a blackhole": {hand: `ip route add blackhole 172.7.21.0/24`, conflicts: `in own: 172.7.21.0/24 proto 3`, only4: true},
		"by the default gateway": {hand: `ip route add default via 10.4.7.254 dev ens33
			ip route add 172.7.21.0/24 via 10.4.7.254 dev ens33`,
			conflicts: `in own: 172.7.21.0/24 via 10.4.7.254 dev ens33 proto 3`, only4: true},
		"one address": {hand: `ip route add 172.7.21.9/32 via 10.4.7.22 dev ens33`,
			conflicts: `in own: 172.7.21.9/32 via 10.4.7.22 dev ens33 proto 3`},

		"by the external interface itself": {hand: `ip route add default via 10.4.7.254 dev ens33
			ip route add 172.7.21.0/24 dev ens33`,
			conflicts: `in own: 172.7.21.0/24 dev ens33 proto 3`, only4: true},
		"by a gateway of IPv6": {hand: `ip route add 172.7.21.0/24 via inet6 fe80::22 dev ens33`,
			conflicts: `in own: 172.7.21.0/24 via inet6 fe80::22 dev ens33 proto 3`, only4: true},
		"by a virtual machine": {hand: `ip link add virbr0 type bridge
			ip addr add 192.168.122.1/24 dev virbr0
			ip tuntap add vnet0 mode tap
			ip link set vnet0 master virbr0
			ip link set virbr0 up
			ip route add 172.7.21.128/25 via 192.168.122.10 dev virbr0`,
			conflicts: `in own: 172.7.21.128/25 via 192.168.122.10 dev virbr0 proto 3`},
		"in the place of docker's own": {hand: docker0 + `
			ip route replace 172.7.21.0/24 via 10.4.7.22 dev ens33 proto static`,
			conflicts: `in own: 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 4` + "\n" + `in own: in own: in own: 172.7.21.0/24 dev docker0 proto 2`, only4: true},
		"docker's own is gone": {hand: docker0 + `
			ip route del 172.7.21.0/24 dev docker0`,
			conflicts: `in own: in own: in own: 172.7.21.0/24 dev docker0 proto 2`},

		"static, a part": {hand: `ip route add 172.7.21.128/25 via 10.4.7.22 dev ens33 proto static`,
			conflicts: `in own: 172.7.21.128/25 via 10.4.7.22 dev ens33 proto 4`},

		"docker's":            {hand: docker0},
		"docker's, down":      {hand: docker0 + "\n" + `ip link set docker0 down`},
		"behind docker's own": {hand: docker0 + "\n" + `ip route append blackhole 172.7.21.0/24`},
		"of a worse metric":   {hand: `ip route add blackhole 172.7.21.0/24 metric 4000000`},
		"to one container": {hand: `ip link add veth9 type veth peer name inside9
			ip link set veth9 up
			ip route add 172.7.21.9/32 dev veth9 scope link`},
		"behind a container, by hand": {hand: docker0 + "\n" + `ip route add 172.7.21.128/26 via 172.7.21.5 dev docker0`},
		"behind a container, static":  {hand: docker0 + "\n" + `ip route add 172.7.21.128/26 via 172.7.21.5 dev docker0 proto static`},
		"around it":                   {hand: `ip route add 172.7.0.0/16 via 10.4.7.22 dev ens33`},
	} {
		t.Run(name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, l tongue, m machine) {
				if l.family == inet.IPv6 && c.only4 {
					return
				}
				m.sh(t, c.hand)
				c.ops, c.conflicts = l.ops(c.ops), l.found(c.conflicts)
				for _, again := range []bool{false, true} {
					nothing := kernel.State{Partial: again, Harmful: func(netip.Prefix) bool { return false }}
					result, err := kernel.NewSyncer(m).Apply(l.state(own(nothing)))
					if err != nil {
						t.Fatal(err)
					}
					if ops := texts(result.Ops); again && ops != "" || !again && ops != c.ops {
						t.Errorf("again: %t, ops:\n%s\nwant\n%s", again, ops, c.ops)
					}
					var conflicts []string
					for _, x := range result.Conflicts {
						conflicts = append(conflicts, strings.Repeat("in own: ", int(x.Place))+x.Found.String())
					}
					if got := strings.Join(conflicts, "\n"); got != c.conflicts {
						t.Errorf("conflicts:\n%s\nwant\n%s", got, c.conflicts)
					}
					for _, x := range result.Conflicts { // what its text says to type does it
						if again {
							m.sh(t, x.Command())
						}
					}
					if left, err := kernel.NewSyncer(m).Apply(l.state(own(nothing))); again && (err != nil || len(left.Conflicts) > 0) {
						t.Errorf("left: %v, %v", left.Conflicts, err)
					}
				}
			})
		})
	}
}

// TestOwnSubnetIsClearedWhereThingsAreInDoubt: nothing else is removed then.
func TestOwnSubnetIsClearedWhereThingsAreInDoubt(t *testing.T) {
	play(t, step{
		hand: `ip route add 172.7.21.0/24 via 10.4.7.99 dev ens33
			ip route add 172.7.96.0/24 via 10.4.7.96 dev ens33 proto 77`,
		want: own(partial(plain(22))),
		ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route del 172.7.21.0/24 via 10.4.7.99 dev ens33 proto 3 (it led packets for this host's own containers away)`,
	})
}

// A route to a peer by a container here is no flannel's.
func TestRouteByAContainerStays(t *testing.T) {
	play(t, step{
		hand: docker0 + "\n" + `ip route add 172.7.22.0/24 via 172.7.21.5 dev docker0`,
		want: own(plain(22)), conflicts: `172.7.22.0/24 via 172.7.21.5 dev docker0 proto 3`,
	})
}

// An address that is a container's of a peer keeps that container's packets here, whatever the routes.
func TestAddressOfAPeersContainer(t *testing.T) {
	eachFamily(t, addressOfAPeersContainer)
}

func addressOfAPeersContainer(t *testing.T, l tongue, m machine) {
	m.sh(t, `ip link add lvs type bridge
		ip link set lvs up
		ip addr add 172.7.22.2/32 dev lvs
		ip addr add 172.7.21.9/32 dev lvs
		ip addr add 172.7.23.9/32 dev lvs`)
	s := kernel.NewSyncer(m)
	result, err := s.Apply(l.state(own(plain(22))))
	if err != nil || len(result.Conflicts) != 1 {
		t.Fatal(result.Conflicts, err)
	}
	m.sh(t, result.Conflicts[0].Command())
	if left := onePass(t, s, l.state(own(plain(22)))).Conflicts; len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	want := l.hand("packets for 172.7.22.2, of the peer with 172.7.22.0/24, stay on this host, as lvs has that address: " +
		"to give it back, type: ip addr del 172.7.22.2/32 dev lvs")
	if c := result.Conflicts[0]; c.String() != want || c.Place != kernel.InPart {
		t.Errorf("place %v: %v", c.Place, c)
	}
}

// What others put on our device stays, and is told. What flannel put there is neither.
func TestForeignConfiguration(t *testing.T) {
	play(t,
		step{want: own(tunnel(22)), ops: newDevice + newPeer22, foreign: "-"},
		step{
			hand: `ip addr add 10.4.7.125/25 dev flannel.1
				ip route add 0.0.0.0/0 via 10.4.7.126 dev flannel.1`,
			want: own(tunnel(22)),
			foreign: `route 0.0.0.0/0 via 10.4.7.126 dev flannel.1 proto 3
				address 10.4.7.125/25 on flannel.1`,
		},
		step{
			restart: true,
			hand: `ip route del 0.0.0.0/0
				ip addr del 10.4.7.125/25 dev flannel.1
				ip addr add 172.7.99.0/32 dev flannel.1
				ip route add 172.7.50.0/24 via 172.7.50.0 dev flannel.1 onlink`,
			want: own(partial(tunnel(22))), foreign: "-",
		},
		step{
			want: own(tunnel(22)),
			ops: `ip addr del 172.7.99.0/32 dev flannel.1
				ip route del 172.7.50.0/24 via 172.7.50.0 dev flannel.1 onlink proto 3`,
		},
		step{
			hand: `ip addr add 169.254.8.9/16 dev flannel.1
				ip route add 192.168.5.0/24 via 172.7.22.0 dev flannel.1 onlink proto static`,
			want: own(tunnel(22)),
			foreign: `route 192.168.5.0/24 via 172.7.22.0 dev flannel.1 onlink proto 4
				address 169.254.8.9/16 on flannel.1`,
		},
		step{ // before etcd is read, by the device's alias alone
			restart: true,
			want:    kernel.State{Partial: true, Networks: own(kernel.State{}).Networks, Harmful: func(netip.Prefix) bool { return false }},
			foreign: `route 192.168.5.0/24 via 172.7.22.0 dev flannel.1 onlink proto 4
				address 169.254.8.9/16 on flannel.1`,
		},
	)
}

// flannel up to 0.7 gave its device an address with the length of the network.
func TestAddressOfFlannel07(t *testing.T) {
	play4(t, step{
		hand: `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
			ip addr add 172.7.21.0/16 dev flannel.1
			ip link set flannel.1 up`,
		want: own(tunnel()),
		ops: `ip link set flannel.1 alias flanneld
			ip addr add 172.7.21.0/32 dev flannel.1
			ip addr del 172.7.21.0/16 dev flannel.1`,
		shows: `ip addr add 172.7.21.0/32 dev flannel.1
			ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up`,
	})
}

// Each command that takes something foreign away does, and each has an author.
func TestForeignTellsTheWayOut(t *testing.T) {
	m := linux(t)
	s := kernel.NewSyncer(m)
	onePass(t, s, own(tunnel()))
	m.sh(t, `ip addr add 10.4.7.125/25 dev flannel.1
		ip addr add 169.254.8.9/16 dev flannel.1
		ip addr add 2001:db8::1/64 dev flannel.1
		ip route add 0.0.0.0/0 via 10.4.7.126 dev flannel.1
		ip route add 192.168.5.0/24 via 10.4.7.126 dev flannel.1 proto static
		ip route add 192.168.6.0/24 dev flannel.1 proto dhcp metric 100
		ip route add 192.168.7.0/24 dev flannel.1 proto bird`)
	found := onePass(t, s, own(tunnel())).Foreign
	if len(found) != 6 { // of IPv4, which it was opened for
		t.Errorf("found %v", found)
	}
	for _, f := range found {
		if !strings.Contains(f.Describe(), ", but of ") {
			t.Errorf("%v has no author", f)
		}
		m.sh(t, f.Command())
	}
	odd := kernel.Foreign{Dev: "a;reboot", Addr: prefix32("10.4.7.1")}
	if got := odd.Command(); got != "ip addr del 10.4.7.1/32 dev 'a;reboot'" {
		t.Error(got)
	}
	if left := onePass(t, s, own(tunnel())).Foreign; len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// The texts say whose the packets are.
func TestConflictTexts(t *testing.T) {
	route := kernel.FoundRoute{Route: kernel.Route{Dst: subnetOf(22), Via: ipOf(99), Dev: "ens33"}, Protocol: 4}
	network := kernel.FoundRoute{Route: kernel.Route{Dst: subnetOf(22), Dev: "docker0"}, Protocol: 2}
	odd := route
	odd.Dev = "a;reboot"
	for want, c := range map[string]kernel.Conflict{
		"ip route del 172.7.22.0/24 via 10.4.7.99 dev 'a;reboot' proto 4":                                      {Found: odd, Dst: subnetOf(22)},
		"to leave 172.7.22.0/24 to flanneld, type: ip route del 172.7.22.0/24 via 10.4.7.99 dev ens33 proto 4": {Found: route, Dst: subnetOf(22)},
		"for the containers of this host, 172.7.22.0/24":                                                       {Place: kernel.InOwn, Found: route, Dst: subnetOf(22)},
		"some of what is for the peer with 172.7.0.0/16":                                                       {Place: kernel.InPart, Found: route, Dst: netip.MustParsePrefix("172.7.0.0/16")},
		"as docker0 has the network 172.7.22.0/24":                                                             {Found: network, Dst: subnetOf(22)},
	} {
		if got := fmt.Sprint(c); !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}
