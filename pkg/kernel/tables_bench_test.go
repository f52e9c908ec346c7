package kernel_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"flanneld/pkg/kernel"
)

// BenchmarkRead lists what a pass compares with.
func BenchmarkRead(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := linux(b)
			apply(b, kernel.NewSyncer(m), cluster(n), cold(n))
			dev := linkOf(b, m, "flannel.1")
			b.ReportAllocs()
			for b.Loop() {
				entries, err := m.Entries(dev)
				if err != nil || len(entries.Neighbours) < n || len(entries.FDB) < n {
					b.Fatal(len(entries.Neighbours), len(entries.FDB), err)
				}
				if routes, err := m.Routes(); err != nil || len(routes) < n {
					b.Fatal(len(routes), err)
				}
			}
		})
	}
}

// BenchmarkDirect asks the kernel for the ways to 1,000 hosts.
func BenchmarkDirect(b *testing.B) {
	m := linux(b)
	apply(b, kernel.NewSyncer(m), cluster(1000), cold(1000))
	conn := m.Conn.(*kernel.Netlink)
	linkOf(b, m, "ens33")
	hosts := slices.Repeat([]netip.Addr{ipOf(22)}, 1000)
	b.ReportAllocs()
	for b.Loop() {
		if direct, errs := conn.Direct(hosts, "ens33"); slices.Contains(direct, false) || errors.Join(errs...) != nil {
			b.Fatal(direct, errs)
		}
	}
}
