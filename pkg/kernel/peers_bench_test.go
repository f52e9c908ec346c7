package kernel_test

import (
	"fmt"
	"net/netip"
	"testing"

	"flanneld/pkg/kernel"
	"flanneld/pkg/wgdevice"
)

// manyGuarded is a state with n peers behind flannel-wg, and a route for all.
func manyGuarded(n int) kernel.State {
	s := guarded()
	s.Routes[0].Dst = netip.MustParsePrefix("11.0.0.0/8")
	for i := range n {
		s.Peers = append(s.Peers, kernel.Peer{Dev: "flannel-wg", Peer: wgdevice.Peer{
			Key:      wgdevice.Secret{0: 8, 1: byte(i), 2: byte(i >> 8), 3: 1, 31: 64}.Public(),
			Endpoint: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 4, byte(i >> 8), byte(i)}), wgPort),
			Allowed:  wgdevice.PrefixesOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), 24)),
		}})
	}
	return s
}

// manyCarried is the same behind flannel0.
func manyCarried(n int) kernel.State {
	s := carried()
	s.Routes[0].Dst = netip.MustParsePrefix("11.0.0.0/8")
	for _, p := range manyGuarded(n).Peers {
		p.Dev, p.Key = "flannel0", wgdevice.Key{}
		s.Peers = append(s.Peers, p)
	}
	return s
}

var manyPeers = map[string]func(int) kernel.State{"wireguard": manyGuarded, "udp": manyCarried}

// BenchmarkPeersCold makes a device with its peers.
func BenchmarkPeersCold(b *testing.B) {
	eachManyPeers(b, func(b *testing.B, m machine, want kernel.State) {
		b.ReportAllocs()
		for b.Loop() {
			s := kernel.NewSyncer(m)
			apply(b, s, want, 5+len(want.Peers))
			b.StopTimer()
			if _, err := s.Apply(kernel.State{}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// BenchmarkPeersWarm finds everything in place.
func BenchmarkPeersWarm(b *testing.B) {
	eachManyPeers(b, func(b *testing.B, m machine, want kernel.State) {
		s := kernel.NewSyncer(m)
		apply(b, s, want, 5+len(want.Peers))
		b.ReportAllocs()
		for b.Loop() {
			apply(b, s, want, 0)
		}
	})
}

// BenchmarkPeersChanged asks whether somebody has edited a device.
func BenchmarkPeersChanged(b *testing.B) {
	eachManyPeers(b, func(b *testing.B, m machine, want kernel.State) {
		apply(b, kernel.NewSyncer(m), want, 5+len(want.Peers))
		b.ReportAllocs()
		for b.Loop() {
			asks(b, m)
		}
	})
}

func eachManyPeers(b *testing.B, bench func(*testing.B, machine, kernel.State)) {
	for kind, of := range manyPeers {
		for _, n := range []int{1000, 4000} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				m := linux(b)
				want := of(n)
				bench(b, m, want)
			})
		}
	}
}
