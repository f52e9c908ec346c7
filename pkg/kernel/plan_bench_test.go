package kernel

import (
	"fmt"
	"net/netip"
	"testing"
)

// BenchmarkPlan subtracts what is in place from what is wanted, where both are
// the same.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{250, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			want, have := many(n)
			was := memoryOf(want)
			b.ReportAllocs()
			for b.Loop() {
				wanted := memoryOf(want)
				if ops, _, _ := plan(want, &wanted, have, &was); len(ops) > 0 {
					b.Fatal(ops[0])
				}
				was = was.after(wanted, false, nil, nil)
			}
		})
	}
}

func many(n int) (want State, have found) {
	d := Device{Name: "flannel.1", Kind: VXLAN{VNI: 1, Port: 8472}, MTU: 1450, MAC: MAC{2}}
	want.Devices = []Device{d}
	have.links = []Link{{Name: "lo"}, {Name: d.Name, Up: true, MTU: 1450, MAC: d.MAC, Alias: Alias, Kind: d.Kind}}
	var e Entries
	for i := range n {
		vtep := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		r := Route{Dst: netip.PrefixFrom(vtep, 24), Via: vtep, Dev: d.Name, OnLink: true}
		neighbour := Neighbour{d.Name, vtep, MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}}
		f := FDB{d.Name, neighbour.MAC, netip.AddrFrom4([4]byte{10, 4, byte(i >> 8), byte(i)})}
		want.Routes = append(want.Routes, r)
		want.Neighbours = append(want.Neighbours, neighbour)
		want.FDB = append(want.FDB, f)
		have.routes = append(have.routes, FoundRoute{Route: r, Protocol: Protocol})
		e.Neighbours = append(e.Neighbours, FoundNeighbour{neighbour, true})
		e.FDB = append(e.FDB, FoundFDB{f, true})
	}
	have.entries = map[string]Entries{d.Name: e}
	return want, have
}
