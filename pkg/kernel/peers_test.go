package kernel_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/wgdevice"
)

func TestNewDeviceWithPeers(t *testing.T) {
	play(t,
		step{want: guarded(22, 23), ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard, shows: `
			ip addr add 172.7.21.0/32 dev flannel-wg
			ip link add flannel-wg mtu 1420 type wireguard alias flanneld up
			ip route add 172.7.0.0/16 dev flannel-wg proto 77` + peerLines(setPeerLine, 22, 23)},
		step{want: kernel.State{}, ops: `
			ip route del 172.7.0.0/16 dev flannel-wg proto 77
			ip link del flannel-wg (not wanted any more)`, shows: `-`},
	)
	play4(t,
		step{want: carried(22, 23), ops: newCarrier + peerLines(carriedPeerLine, 22, 23) + wholeByCarrier, shows: `
			flannel0: add 172.7.22.0/24 to 10.4.7.22:8285
			flannel0: add 172.7.23.0/24 to 10.4.7.23:8285
			ip addr add 172.7.21.0/32 dev flannel0
			ip tuntap add dev flannel0 mode tun alias flanneld up
			ip route add 172.7.0.0/16 dev flannel0 proto 77`},
		step{want: kernel.State{}, ops: `
			ip route del 172.7.0.0/16 dev flannel0 proto 77
			ip link del flannel0 (not wanted any more)`, shows: `-`},
	)
}

// changed is a state after an edit of one peer.
func changed(s kernel.State, i int, edit func(*kernel.Peer)) kernel.State {
	return with(s, func(s *kernel.State) { edit(&s.Peers[i]) })
}

// The device learns of a peer before the kernel routes to it, and forgets it after.
func TestWireGuardPeersComeAndGo(t *testing.T) {
	byPeer := func(peers ...int) kernel.State {
		s := guarded(peers...)
		s.Routes = nil
		for _, n := range peers {
			s.Routes = append(s.Routes, kernel.Route{Dst: subnetOf(n), Dev: "flannel-wg", Peer: ipOf(n)})
		}
		return s
	}
	play(t,
		step{want: byPeer(22), ops: newGuard + peerLines(setPeerLine, 22) + `ip route add 172.7.22.0/24 dev flannel-wg proto 77`},
		step{want: byPeer(22, 23), ops: peerLines(setPeerLine, 23) + `ip route add 172.7.23.0/24 dev flannel-wg proto 77`},
		step{want: byPeer(23), ops: `ip route del 172.7.22.0/24 dev flannel-wg proto 77` + peerLines(removePeerLine, 22)},
		step{want: partial(byPeer()), ops: ``},
		step{want: byPeer(), ops: `ip route del 172.7.23.0/24 dev flannel-wg proto 77` + peerLines(removePeerLine, 23)},
	)
}

func TestWireGuardPeerChanges(t *testing.T) {
	edit := func(edit func(*kernel.Peer)) kernel.State { return changed(guarded(22, 23), 0, edit) }
	play(t,
		step{want: guarded(22, 23), ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard},
		step{
			want: edit(func(p *kernel.Peer) { p.Endpoint = endpointOf(122, 51999) }),
			ops:  keyed(22, `wg set flannel-wg peer {K} endpoint 10.4.7.122:51999 allowed-ips 172.7.22.0/24`),
		},
		step{
			want: edit(func(p *kernel.Peer) { p.Keepalive = 25 }),
			ops:  keyed(22, `wg set flannel-wg peer {K} endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24 persistent-keepalive 25`),
		},
		step{want: edit(func(p *kernel.Peer) { p.PSK = secretOf(7) }), ops: peerLines(setPeerLine, 22)},
		step{want: guarded(22, 23), ops: peerLines(setPeerLine, 22)},
		// A new key: the subnet moves when that is set, and the old one goes.
		step{
			want: edit(func(p *kernel.Peer) { p.Key = keyOf(122) }),
			ops: keyed(122, `wg set flannel-wg peer {K} endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24`) +
				peerLines(removePeerLine, 22),
		},
	)
}

// Two hosts change their subnets: each is at one peer at any time.
func TestSubnetsMoveBetweenPeers(t *testing.T) {
	swapped := with(guarded(22, 23), func(s *kernel.State) {
		s.Peers[0].Allowed, s.Peers[1].Allowed = s.Peers[1].Allowed, s.Peers[0].Allowed
	})
	moved := changed(guarded(24), 0, func(p *kernel.Peer) { p.Allowed = wgdevice.PrefixesOf(subnetOf(22)) })
	set := func(n, subnet int) string {
		return keyed(n, fmt.Sprintf("wg set flannel-wg peer {K} endpoint 10.4.7.%d:51820 allowed-ips 172.7.%d.0/24", n, subnet))
	}
	both := strings.Join(lines(sorted(set(22, 23)+"\n"+set(23, 22))), "\n")
	play(t,
		step{want: guarded(22, 23), ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard},
		step{want: swapped, ops: both},
		step{want: guarded(22, 23), ops: peerLines(setPeerLine, 22, 23)},
		step{want: moved, ops: set(24, 22) + peerLines(removePeerLine, 22, 23)},
	)
}

// Whoever is no peer is let in by nobody: not by hand, and not by an earlier run.
func TestStalePeersGo(t *testing.T) {
	const stranger = `wg set flannel-wg peer {K} endpoint 10.4.7.99:51820 allowed-ips 172.7.99.0/24`
	play(t,
		step{want: guarded(22), ops: newGuard + peerLines(setPeerLine, 22) + wholeByGuard},
		step{hand: keyed(99, stranger), want: partial(guarded(22))},
		step{want: guarded(22), ops: peerLines(removePeerLine, 99)},
		step{hand: keyed(99, stranger), want: guarded(22), ops: peerLines(removePeerLine, 99)},
	)
}

// Where the kernel has the devices, a restart finds the peers in place.
func TestStalePeersOfAnEarlierRunGo(t *testing.T) {
	m := fake(t)
	m.Conn.(*kerneltest.Kernel).NoWireGuard = false
	script(t, m, 1000, []step{
		{want: guarded(22, 23), ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard},
		{restart: true, want: partial(guarded(22))},
		{want: guarded(22), ops: peerLines(removePeerLine, 23)},
		{restart: true, want: guarded(22, 24), ops: peerLines(setPeerLine, 24)},
	})
}

// peerFaults are edits of a WireGuard device.
var peerFaults = []struct{ name, hand, ops string }{
	{"peer removed", removePeerLine, setPeerLine},
	{"endpoint", `wg set flannel-wg peer {K} endpoint 10.4.7.99:1`, setPeerLine},
	{"keepalive", `wg set flannel-wg peer {K} persistent-keepalive 7`, setPeerLine},
	{"PSK", `wg set flannel-wg peer {K} preshared-key {K}`, setPeerLine},
	{"allowed IPs narrowed", `wg set flannel-wg peer {K} allowed-ips 172.7.22.0/28`, setPeerLine},
	{"allowed IPs widened", `wg set flannel-wg peer {K} allowed-ips 172.7.22.0/24,172.7.96.0/20`, setPeerLine},
	{"no allowed IPs", `wg set flannel-wg peer {K} allowed-ips ""`, setPeerLine},
}

func TestEditedPeersAreRepaired(t *testing.T) {
	for _, fault := range peerFaults {
		t.Run(strings.ReplaceAll(fault.name, " ", "_"), func(t *testing.T) {
			play(t,
				step{want: guarded(22, 23), ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard},
				step{hand: keyed(22, fault.hand), want: guarded(22, 23), ops: "repair: " + strings.TrimSpace(peerLines(fault.ops, 22))},
			)
		})
	}
}

// A subnet that was led to another peer by hand is given back.
func TestSubnetTakenByHandIsGivenBack(t *testing.T) {
	play(t,
		step{want: guarded(22, 23), ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard},
		step{
			hand: keyed(23, `wg set flannel-wg peer {K} allowed-ips 172.7.22.0/24,172.7.23.0/24`), want: guarded(22, 23),
			ops: strings.ReplaceAll(peerLines("repair: "+setPeerLine, 22, 23), "\t", ""),
		},
	)
}

func TestEditedWireGuardDeviceIsRepaired(t *testing.T) {
	other := secretOf(77)
	const wg = "repair: wg set flannel-wg listen-port 51820 private-key (secret) "
	for _, c := range []struct{ name, hand, ops string }{
		{"port", `wg set flannel-wg listen-port 51999`, wg + `(its UDP port is 51999, not 51820)`},
		{"private key", `wg set flannel-wg private-key ` + text64(other), wg + `(its private key is another)`},
		{"MTU", `ip link set flannel-wg mtu 1300`, `repair: ip link set flannel-wg mtu 1420 (it was 1300)`},
		{"alias", `ip link set flannel-wg alias x`, `repair: ip link set flannel-wg alias flanneld`},
		{"deleted", `ip link del flannel-wg`, strings.NewReplacer("ip ", "repair: ip ").Replace(newGuard) +
			peerLines("repair: "+setPeerLine, 22) + "repair: ip route add 172.7.0.0/16 dev flannel-wg proto 77"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			play(t,
				step{want: guarded(22), ops: newGuard + peerLines(setPeerLine, 22) + wholeByGuard},
				step{hand: c.hand, want: guarded(22), ops: c.ops},
			)
		})
	}
	// Set down, a device keeps its peers; of IPv6 it loses its address.
	play4(t,
		step{want: guarded(22), ops: newGuard + peerLines(setPeerLine, 22) + wholeByGuard},
		step{hand: `ip link set flannel-wg down`, want: guarded(22), ops: `
			repair: ip link set flannel-wg up
			repair: ip route add 172.7.0.0/16 dev flannel-wg proto 77`},
	)
}

func TestNewSettingsOfADevice(t *testing.T) {
	play(t,
		step{want: guarded(22), ops: newGuard + peerLines(setPeerLine, 22) + wholeByGuard},
		step{
			want: with(guarded(22), func(s *kernel.State) { s.Devices[0].Kind = kernel.WireGuard{Private: secretOf(121), Port: 51999} }),
			ops:  `wg set flannel-wg listen-port 51999 private-key (secret) (its private key is another)`,
		},
	)
	play4(t,
		step{want: carried(22), ops: newCarrier + peerLines(carriedPeerLine, 22) + wholeByCarrier},
		step{
			want: with(carried(22), func(s *kernel.State) { s.Devices[0].Kind = kernel.UDP{Local: endpointOf(21, 8299)} }),
			ops:  `flannel0: carry packets by udp from 10.4.7.21:8299 (its address is 10.4.7.21:8285, not 10.4.7.21:8299)`,
		},
	)
}

func TestCarriedPeersComeAndGo(t *testing.T) {
	play4(t,
		step{want: carried(22, 23), ops: newCarrier + peerLines(carriedPeerLine, 22, 23) + wholeByCarrier},
		step{
			want: changed(carried(22, 23), 0, func(p *kernel.Peer) { p.Endpoint = endpointOf(122, 8285) }),
			ops:  `flannel0: replace 172.7.22.0/24 to 10.4.7.122:8285`,
		},
		step{want: carried(23), ops: `flannel0: del 172.7.22.0/24 to 10.4.7.122:8285`},
	)
}

func TestRepairOfACarryingDevice(t *testing.T) {
	anew := strings.NewReplacer("ip ", "repair: ip ").Replace(newCarrier) + peerLines("repair: "+carriedPeerLine, 22) +
		"repair: ip route add 172.7.0.0/16 dev flannel0 proto 77"
	for _, c := range []struct{ name, hand, ops string }{
		{"deleted", `ip link del flannel0`, anew},
		{"another's in its place", "ip link del flannel0\nip tuntap add dev flannel0 mode tun",
			"ip link del flannel0 (it is of kind \"tuntap\", not tun)\n" + anew},
		{"down", `ip link set flannel0 down`, `
			repair: ip link set flannel0 up
			repair: ip route add 172.7.0.0/16 dev flannel0 proto 77`},
		{"alias", `ip link set flannel0 alias x`, `repair: ip link set flannel0 alias flanneld`},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			play4(t,
				step{want: carried(22), ops: newCarrier + peerLines(carriedPeerLine, 22) + wholeByCarrier},
				step{hand: c.hand, want: carried(22), ops: c.ops},
			)
		})
	}
}

// A device of user space outlives the process that served it: the next one takes it up with
// all that is on it.
func TestRestartTakesUpDevicesOfUserspace(t *testing.T) {
	play4(t,
		step{want: carried(22, 23), ops: newCarrier + peerLines(carriedPeerLine, 22, 23) + wholeByCarrier},
		step{restart: true, want: partial(carried(22)), ops: `
			ip tuntap add dev flannel0 mode tun (no process carried its packets)` + peerLines(carriedPeerLine, 22)},
		step{restart: true, want: carried(22, 24), ops: `
			ip tuntap add dev flannel0 mode tun (no process carried its packets)` + peerLines(carriedPeerLine, 22, 24)},
		step{restart: true, want: with(carried(22), func(s *kernel.State) { s.Devices[0].MTU = 1400 }), ops: `
			ip tuntap add dev flannel0 mode tun (no process carried its packets)` + peerLines(carriedPeerLine, 22)},
		step{restart: true, want: kernel.State{}, ops: `
			ip route del 172.7.0.0/16 dev flannel0 proto 77
			ip link del flannel0 (not wanted any more)`},
	)
	if kernelHasWireGuard() {
		return // TestStalePeersOfAnEarlierRunGo tells what then is
	}
	play(t,
		step{want: guarded(22, 23), ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard},
		step{restart: true, want: guarded(22, 24), ops: `
			ip link add flannel-wg mtu 1420 type wireguard (no process carried its packets)` + peerLines(setPeerLine, 22, 24)},
		// From one kind to another and back, over a restart.
		step{restart: true, want: plain(22), ops: `
			ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route del 172.7.0.0/16 dev flannel-wg proto 77
			ip link del flannel-wg (not wanted any more)`},
	)
}

// A stranger's TUN device is not ours, though it has the name that is wanted, nor one that is
// not wanted.
func TestTUNDevicesOfOthers(t *testing.T) {
	play4(t,
		step{
			hand: "ip tuntap add dev flannel0 mode tun\nip tuntap add dev vpn0 mode tun", want: carried(22),
			ops: `ip link del flannel0 (it is of kind "tuntap", not tun)
				` + newCarrier + peerLines(carriedPeerLine, 22) + wholeByCarrier,
		},
		step{want: kernel.State{}, ops: `
			ip route del 172.7.0.0/16 dev flannel0 proto 77
			ip link del flannel0 (not wanted any more)`},
		step{hand: `ip link del vpn0`, want: kernel.State{}},
	)
	play(t, step{
		hand: `ip tuntap add dev flannel-wg mode tun`, want: guarded(22),
		ops: `ip link del flannel-wg (it is of kind "tuntap", not wireguard)
			` + newGuard + peerLines(setPeerLine, 22) + wholeByGuard,
	})
}

// One route leads to the whole network.
func TestRouteWithoutGateway(t *testing.T) {
	repaired := "repair: " + strings.TrimSpace(wholeByGuard)
	first := step{want: guarded(22), ops: newGuard + peerLines(setPeerLine, 22) + wholeByGuard}
	play(t, first,
		step{hand: `ip route del 172.7.0.0/16`, want: guarded(22), ops: repaired},
		step{
			hand: `ip route replace 172.7.0.0/16 via 10.4.7.99 dev ens33 proto static`, want: guarded(22),
			ops: `repair: ip route replace 172.7.0.0/16 dev flannel-wg proto 77 (was 172.7.0.0/16 via 10.4.7.99 dev ens33 proto 4)`,
		},
	)
	const former = `ip link add flannel-wg mtu 1420 type wireguard
		ip addr add 172.7.21.0/32 dev flannel-wg
		ip link set flannel-wg up
		`
	if kernelHasWireGuard() { // else an earlier flannel's device has ended with it
		const takeUp = `ip link set flannel-wg alias flanneld
			wg set flannel-wg listen-port 51820 private-key (secret) (it has no private key)`
		play4(t, step{
			hand: former + `ip route add 172.7.0.0/16 dev flannel-wg scope link`, want: guarded(22),
			ops: takeUp + peerLines(setPeerLine, 22) +
				`ip route replace 172.7.0.0/16 dev flannel-wg proto 77 (was 172.7.0.0/16 dev flannel-wg proto 3, not a plain one)`,
		})
	}
	play4(t, // an earlier one's over a device of user space
		step{want: carried(22), ops: newCarrier + peerLines(carriedPeerLine, 22) + wholeByCarrier},
		step{
			hand: "ip route del 172.7.0.0/16\nip route add 172.7.0.0/16 dev flannel0 scope link", restart: true, want: carried(22),
			ops: `ip tuntap add dev flannel0 mode tun (no process carried its packets)` + peerLines(carriedPeerLine, 22) +
				`ip route replace 172.7.0.0/16 dev flannel0 proto 77 (was 172.7.0.0/16 dev flannel0 proto 3, not a plain one)`,
		},
	)
	// An administrator's stays.
	for _, route := range []string{
		`172.7.0.0/16 via 10.4.7.99 dev ens33 proto 3`, `172.7.0.0/16 via 10.4.7.99 dev ens33 proto 4`, `172.7.0.0/16 dev ens33 proto 3`,
	} {
		play(t, step{
			hand: `ip route add ` + route, want: guarded(22), ops: newGuard + peerLines(setPeerLine, 22), conflicts: route,
		})
	}
}

// Next hop objects have a gateway.
func TestNoNexthopsForRoutesWithoutGateway(t *testing.T) {
	s := guarded(22, 23)
	for _, n := range []int{22, 23} {
		s.Routes = append(s.Routes, kernel.Route{Dst: subnetOf(n), Dev: "flannel-wg", Peer: ipOf(n)})
	}
	playFrom(t, 0,
		step{want: s, ops: newGuard + peerLines(setPeerLine, 22, 23) + wholeByGuard + `
			ip route add 172.7.22.0/24 dev flannel-wg proto 77
			ip route add 172.7.23.0/24 dev flannel-wg proto 77`},
		step{hand: `ip route del 172.7.22.0/24`, want: s, ops: `repair: ip route add 172.7.22.0/24 dev flannel-wg proto 77`},
	)
}

// A peer of both families is one.
func TestPeerOfBothFamilies(t *testing.T) {
	six := guarded(22, 23)
	six.Peers[0].Allowed = wgdevice.PrefixesOf(netip.MustParsePrefix("fd00:7:22::/64"))
	six.Peers[1].Key = keyOf(123)
	six.Peers[0].Endpoint = netip.AddrPort{}
	both := guarded(22).And(six)
	if len(both.Peers) != 2 || len(both.Devices) != 1 {
		t.Fatalf("%d peers on %d devices", len(both.Peers), len(both.Devices))
	}
	want := wgPeer(22)
	want.Allowed[1] = netip.MustParsePrefix("fd00:7:22::/64")
	if both.Peers[0] != want || both.Peers[1] != six.Peers[1] {
		t.Errorf("%v\nwant %v, %v", both.Peers, want, six.Peers[1])
	}
	if swapped := six.And(guarded(22)); swapped.Peers[0] != want {
		t.Errorf("the other way round %v", swapped.Peers)
	}
	if guarded(22).Peers[0] != wgPeer(22) || carried(22).And(carried(23)).Peers[1].Allowed[0] != subnetOf(23) {
		t.Error("other peers have changed")
	}
}
