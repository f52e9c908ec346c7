package kernel_test

import (
	"errors"
	"strings"
	"testing"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

const (
	newPeer22 = `
		bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
		ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77`
	peer23Gone = `
		ip route del 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77
		ip neigh del 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud permanent
		bridge fdb del 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self permanent`
	// strangers are an administrator's own.
	strangers = `
		ip neigh add 172.7.90.1 lladdr 0a:39:13:5c:8e:5a dev flannel.1 nud permanent
		bridge fdb add 0a:39:13:5c:8e:5a dev flannel.1 dst 10.4.7.90 self permanent
		bridge fdb add 0a:39:13:5c:8e:5b dev flannel.1 dst 10.4.7.91 self permanent
		ip route add 172.7.90.0/24 via 172.7.90.1 dev flannel.1 onlink proto static`
	strangersAsShown = `
		bridge fdb add 0a:39:13:5c:8e:5a dev flannel.1 dst 10.4.7.90 self permanent
		bridge fdb add 0a:39:13:5c:8e:5b dev flannel.1 dst 10.4.7.91 self permanent
		ip neigh add 172.7.90.1 lladdr 0a:39:13:5c:8e:5a dev flannel.1 nud permanent
		ip route add 172.7.90.0/24 via 172.7.90.1 dev flannel.1 onlink proto 4`
)

func TestPeersComeAndGo(t *testing.T) {
	play(t,
		step{want: tunnel(23, 22), ops: newDevice + `
			bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
			bridge fdb replace 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self permanent
			ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
			ip neigh replace 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud permanent
			ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77`},
		step{hand: strangers, want: tunnel(22, 23)},
		step{want: tunnel(22), ops: peer23Gone},
		step{want: tunnel(), ops: `
			ip route del 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
			ip neigh del 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
			bridge fdb del 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent`,
			shows: strangersAsShown + `
			ip addr add 172.7.21.0/32 dev flannel.1
			ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up`},
	)
}

// A host that left while the daemon was down is found by following our route
// to it; what no route of ours leads to stays.
func TestPeerThatLeftDuringARestart(t *testing.T) {
	play(t,
		step{want: tunnel(22, 23), ops: newDevice + newPeers},
		step{hand: strangers, restart: true, want: partial(tunnel(22))},
		step{want: tunnel(22), ops: peer23Gone, shows: withPeer22 + strangersAsShown},
	)
}

// Of such a host there may be a neighbour alone.
func TestPeerThatLeftHalf(t *testing.T) {
	play(t,
		step{want: tunnel(22, 23), ops: newDevice + newPeers},
		step{hand: `bridge fdb del 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self`, restart: true, want: tunnel(22), ops: `
			ip route del 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77
			ip neigh del 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud permanent`},
	)
}

// A former flannel that was at work while the device was not wanted leaves as
// much behind as one before us.
func TestLeftoversOfAnInterlude(t *testing.T) {
	play(t,
		step{want: tunnel(), ops: newDevice},
		step{want: kernel.State{}, ops: `ip link del flannel.1 (not wanted any more)`},
		step{hand: formerDevice + `
			bridge fdb add 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self permanent
			ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud permanent
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink`,
			want: tunnel(), ops: `ip link set flannel.1 alias flanneld` + strings.ReplaceAll(peer23Gone, "proto 77", "proto 3")},
	)
}

// A pass over nothing but devices, which makes a VTEP before the host's lease
// tells of it, reads no tables; what it has not seen, a later one recognizes.
func TestPeerThatLeftAndAPassOverDevicesAlone(t *testing.T) {
	play(t,
		step{want: tunnel(22, 23), ops: newDevice + newPeers},
		step{hand: strangers, restart: true, want: partial(tunnel())},
		step{want: tunnel(22), ops: peer23Gone, shows: withPeer22 + strangersAsShown},
	)
	k := kerneltest.New("ens33", 1500, "10.4.7.21/24")
	k.Fail = func(call string) error {
		if strings.HasPrefix(call, "list routes") || strings.HasPrefix(call, "list entries") {
			return errors.New("not needed")
		}
		return nil
	}
	if _, err := kernel.NewSyncer(k).Apply(partial(tunnel())); err != nil {
		t.Error(err)
	}
}

func TestLeftoversOfAFormerFlannel(t *testing.T) {
	play(t, step{
		hand: formerDevice + `
			bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
			bridge fdb add 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self permanent
			ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
			ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud permanent
			ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink` + strangers,
		want: tunnel(22),
		ops: `ip link set flannel.1 alias flanneld
			ip route replace 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77 (was 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 3)
			ip route del 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 3
			ip neigh del 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud permanent
			bridge fdb del 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self permanent`,
		shows: withPeer22 + strangersAsShown,
	})
}

const (
	newPeers = `
		bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
		bridge fdb replace 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self permanent
		ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
		ip neigh replace 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud permanent
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
		ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77`
	withPeer22 = `
		bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
		ip addr add 172.7.21.0/32 dev flannel.1
		ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning alias flanneld up
		ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77`
)

// A peer's new MAC: the frames' way first, then their address, then the old
// way goes. It is found the same where the peer changed during a restart.
func TestPeerChanges(t *testing.T) {
	newMAC := with(tunnel(22), func(s *kernel.State) { s.Neighbours[0].MAC, s.FDB[0].MAC = macOf(122), macOf(122) })
	newIP := with(tunnel(22), func(s *kernel.State) { s.FDB[0].Dst = ipOf(122) })
	for _, restart := range []bool{false, true} {
		play(t,
			step{want: tunnel(22), ops: newDevice + newPeer22},
			step{restart: restart, want: newMAC, ops: `
				bridge fdb replace 0a:39:13:5c:8e:7a dev flannel.1 dst 10.4.7.22 self permanent
				ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:7a dev flannel.1 nud permanent
				bridge fdb del 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent`},
			step{restart: restart, want: tunnel(22), ops: `
				bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
				ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				bridge fdb del 0a:39:13:5c:8e:7a dev flannel.1 dst 10.4.7.22 self permanent`},
			step{restart: restart, want: newIP, ops: `bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.122 self permanent`},
			// DirectRouting comes and goes.
			step{restart: restart, want: join(tunnel(), plain(22)), ops: `
				ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 (was 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77)
				ip neigh del 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				bridge fdb del 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.122 self permanent`},
			step{restart: restart, want: tunnel(22), ops: `
				bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
				ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				ip route replace 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77 (was 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77)`},
		)
	}
}

// An administrator points a neighbour of ours at an entry of his own: ours
// is put right, his stays.
func TestEditedNeighbourDoesNotMakeItsEntryOurs(t *testing.T) {
	play(t,
		step{want: tunnel(22), ops: newDevice + newPeer22},
		step{
			hand: strangers + `
				ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:5a dev flannel.1 nud permanent`,
			want:  tunnel(22),
			ops:   `repair: ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent`,
			shows: withPeer22 + strangersAsShown,
		},
	)
}

// Neighbours and forwarding entries that the kernel learned by itself are not
// permanent: in our place they are replaced, elsewhere they are let be.
func TestEntriesThatAreNotPermanent(t *testing.T) {
	play(t, step{
		hand: formerDevice + `
			ip link set flannel.1 alias flanneld
			ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud reachable
			ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud reachable
			ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77
			bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self dynamic
			bridge fdb add 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self dynamic`,
		want: tunnel(22),
		ops: newPeer22 + `
			ip route del 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 77`,
		shows: withPeer22 + `
			bridge fdb add 0a:39:13:5c:8e:17 dev flannel.1 dst 10.4.7.23 self dynamic
			ip neigh add 172.7.23.0 lladdr 0a:39:13:5c:8e:17 dev flannel.1 nud reachable`,
	})
}
