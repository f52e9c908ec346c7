package kernel_test

import (
	"fmt"
	"net/netip"
	"testing"

	"flanneld/pkg/kernel"
)

var sizes = []int{250, 1000, 4000}

// cluster is a state with n peers behind the tunnel.
func cluster(n int) kernel.State {
	s := tunnel()
	for i := range n {
		vtep, mac := netip.AddrFrom4([4]byte{11, byte(i >> 8), byte(i), 0}), kernel.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}
		host := netip.AddrFrom4([4]byte{10, 5, byte(i >> 8), byte(i)})
		s.FDB = append(s.FDB, kernel.FDB{Dev: "flannel.1", MAC: mac, Dst: host})
		s.Neighbours = append(s.Neighbours, kernel.Neighbour{Dev: "flannel.1", Addr: vtep, MAC: mac})
		s.Routes = append(s.Routes, kernel.Route{Dst: netip.PrefixFrom(vtep, 24), Via: vtep, Dev: "flannel.1", OnLink: true, Peer: host})
	}
	return s
}

// BenchmarkApplyCold puts everything into an empty kernel.
func BenchmarkApplyCold(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := linux(b)
			want := cluster(n)
			b.ReportAllocs()
			for b.Loop() {
				s := kernel.NewSyncer(m)
				apply(b, s, want, 4+3*n)
				b.StopTimer()
				apply(b, s, kernel.State{}, n+1)
				b.StartTimer()
			}
		})
	}
}

// BenchmarkApplyWarm finds everything in place.
func BenchmarkApplyWarm(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := linux(b)
			want := cluster(n)
			s := kernel.NewSyncer(m)
			apply(b, s, want, 4+3*n)
			b.ReportAllocs()
			for b.Loop() {
				apply(b, s, want, 0)
			}
		})
	}
}

func apply(b testing.TB, s *kernel.Syncer, want kernel.State, writes int) {
	b.Helper()
	result, err := s.Apply(want)
	if err != nil || len(result.Ops) != writes {
		b.Fatalf("%d writes, not %d; error: %v", len(result.Ops), writes, err)
	}
}
