package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/inet"
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
				apply(b, s, want, cold(n))
				b.StopTimer()
				if _, err := s.Apply(kernel.State{}); err != nil {
					b.Fatal(err)
				}
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
			apply(b, s, want, cold(n))
			b.ReportAllocs()
			for b.Loop() {
				apply(b, s, want, 0)
			}
		})
	}
}

// cold is how many writes put cluster's state of n peers into an empty kernel.
func cold(n int) int {
	if n < 1000 {
		return 4 + 3*n
	}
	return 4 + 4*n // with next hop objects
}

func apply(b testing.TB, s *kernel.Syncer, want kernel.State, writes int) {
	b.Helper()
	result, err := s.Apply(want)
	if err != nil || len(result.Ops) != writes {
		b.Fatalf("%d writes, not %d; error: %v", len(result.Ops), writes, err)
	}
}

// BenchmarkNexthops compares, for one device, ip -batch of plain routes, of next hop
// objects and routes, and Apply: a run of Apply's time is "x-batch" times that of ip's.
func BenchmarkNexthops(b *testing.B) {
	for _, n := range []int{1000, 4000, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := linux(b)
			m.sh(b, `ip addr add 10.4.0.1/8 dev ens33`)
			want := onLink(n)
			var batch strings.Builder
			for i, r := range want.Routes {
				fmt.Fprintf(&batch, "nexthop add id %d via %v dev ens33 proto 77\nroute add %v nhid %d proto 77\n", i+1, r.Via, r.Dst, i+1)
			}
			file := filepath.Join(b.TempDir(), "batch")
			if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			reset := func() { m.sh(b, "ip link set ens33 down\nip link set ens33 up") }
			var byBatch, byApply time.Duration
			for b.Loop() {
				start := time.Now()
				m.sh(b, "ip -batch "+file)
				byBatch += time.Since(start)
				reset()
				start = time.Now()
				apply(b, kernel.NewSyncerFrom(m, 0), want, 2*n)
				byApply += time.Since(start)
				reset()
			}
			b.ReportMetric(float64(byBatch.Microseconds())/float64(b.N)/1000, "batch-ms")
			b.ReportMetric(float64(byApply.Microseconds())/float64(b.N)/1000, "apply-ms")
			b.ReportMetric(float64(byApply)/float64(byBatch), "x-batch")
		})
	}
}

// BenchmarkNexthopsWarm finds everything in place, in either form.
func BenchmarkNexthopsWarm(b *testing.B) {
	for _, n := range []int{1000, 4000} {
		for _, from := range []int{0, n + 1} {
			b.Run(fmt.Sprintf("%d/%s", n, map[bool]string{true: "nexthops", false: "plain"}[from == 0]), func(b *testing.B) {
				m := linux(b)
				m.sh(b, `ip addr add 10.4.0.1/8 dev ens33`)
				want := onLink(n)
				s := kernel.NewSyncerFrom(m, from)
				if _, err := s.Apply(want); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					apply(b, s, want, 0)
				}
			})
		}
	}
}

// BenchmarkThreshold puts routes over one device into an empty kernel in either form.
func BenchmarkThreshold(b *testing.B) {
	for _, f := range inet.Families() {
		for _, n := range []int{100, 250, 500, 1000, 2000, 4000} {
			for _, from := range []int{0, n + 1} {
				b.Run(fmt.Sprintf("%v/%d/%s", f, n, map[bool]string{true: "nexthops", false: "plain"}[from == 0]), func(b *testing.B) {
					m := linuxOf(b, f)
					address := "ip addr add 10.4.0.1/8 dev ens33"
					want := onLink(n)
					if f == inet.IPv6 {
						address, want = "ip addr add fd01::1/16 dev ens33 nodad", onLink6(n)
					}
					m.sh(b, address)
					for b.Loop() {
						if _, err := kernel.NewSyncerFrom(m, from).Apply(want); err != nil {
							b.Fatal(err)
						}
						b.StopTimer()
						m.sh(b, "ip link set ens33 down\nip link set ens33 up")
						if f == inet.IPv6 {
							m.sh(b, address)
						}
						b.StartTimer()
					}
				})
			}
		}
	}
}

// onLink6 is onLink in IPv6.
func onLink6(n int) kernel.State {
	s := onLink(n)
	for i := range s.Routes {
		r, bytes := &s.Routes[i], [16]byte{0xfc, 7, 6: byte(i >> 8), 7: byte(i)}
		r.Dst = netip.PrefixFrom(netip.AddrFrom16(bytes), 64)
		bytes = [16]byte{0xfd, 1, 14: byte(i >> 8), 15: byte(i) | 2}
		r.Via = netip.AddrFrom16(bytes)
	}
	return s
}

// onLink is a state with routes to n peers on the link.
func onLink(n int) (s kernel.State) {
	for i := range n {
		s.Routes = append(s.Routes, kernel.Route{
			Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + i>>12), byte(i >> 4), byte(i << 4)}), 28),
			Via: netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), Dev: "ens33",
		})
	}
	return s
}
