package subnet

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flanneld/pkg/inet"
)

// TestOverlappingPeers: of leases that overlap, those are routed whose routes take
// nothing away from one that came first.
func TestOverlappingPeers(t *testing.T) {
	c, err := ParseConfig(`{"Network":"172.7.0.0/16"}`)
	if err != nil {
		t.Fatal(err)
	}
	const six = "&fc00:7:0:40::-64"
	type lease struct {
		key, ip  string
		created  uint64
		data     string
		modified uint64
	}
	for _, tt := range []struct {
		name     string
		leases   []lease
		routed   []string
		rejected map[string]string
	}{
		{"other lengths that overlap nothing",
			[]lease{{"172.7.22.0-24", "10.4.7.22", 1, "", 1}, {"172.7.40.0-25", "10.4.7.23", 2, "", 2}, {"172.7.64.0-20", "10.4.7.24", 3, "", 3}},
			[]string{"172.7.22.0-24", "172.7.40.0-25", "172.7.64.0-20"}, nil},
		{"a dual-stack key is as good as another",
			[]lease{{"172.7.40.0-24" + six, "10.4.7.22", 1, "", 1}}, []string{"172.7.40.0-24" + six}, nil},
		{"two keys of one subnet: the older is the holder's",
			[]lease{{"172.7.40.0-24", "10.4.7.22", 7, "", 7}, {"172.7.40.0-24" + six, "10.4.7.23", 5, "", 9}},
			[]string{"172.7.40.0-24" + six}, map[string]string{"172.7.40.0-24": `takes addresses from 172.7.40.0/24, which 10.4.7.23 has leased before as "172.7.40.0-24&fc00:7:0:40::-64"`}},
		{"of a host's own two keys the one that it wrote last",
			[]lease{{"172.7.40.0-24", "10.4.7.22", 5, "", 5}, {"172.7.40.0-24" + six, "10.4.7.22", 7, "", 7}},
			[]string{"172.7.40.0-24" + six}, nil},
		{"a later /25 within somebody's /24 takes half of it",
			[]lease{{"172.7.40.0-24", "10.4.7.22", 1, "", 1}, {"172.7.40.128-25", "10.4.7.23", 2, "", 2}},
			[]string{"172.7.40.0-24"}, map[string]string{"172.7.40.128-25": "takes addresses from 172.7.40.0/24"}},
		{"a later /24 around somebody's /25 takes nothing from it",
			[]lease{{"172.7.40.0-24", "10.4.7.22", 2, "", 2}, {"172.7.40.128-25", "10.4.7.23", 1, "", 1}},
			[]string{"172.7.40.0-24", "172.7.40.128-25"}, nil},
		{"a later /24 that begins where somebody's /25 does has the same tunnel's end",
			[]lease{{"172.7.40.0-24", "10.4.7.22", 2, "", 2}, {"172.7.40.0-25", "10.4.7.23", 1, "", 1}},
			[]string{"172.7.40.0-25"}, map[string]string{"172.7.40.0-24": "begins at the same address as 172.7.40.0/25"}},
		{"a host's own two lengths",
			[]lease{{"172.7.40.0-24", "10.4.7.22", 1, "", 1}, {"172.7.40.0-25", "10.4.7.22", 2, "", 2}},
			[]string{"172.7.40.0-24", "172.7.40.0-25"}, nil},
		{"a host's own two lengths with two tunnel ends",
			[]lease{{"172.7.40.0-24", "10.4.7.22", 1, "old", 1}, {"172.7.40.0-25", "10.4.7.22", 2, "new", 2}},
			[]string{"172.7.40.0-24"}, map[string]string{"172.7.40.0-25": "says something else of 10.4.7.22"}},
		{"the wide one is out, and what is in it is judged by what is left",
			[]lease{{"172.7.32.0-20", "10.4.7.22", 1, "", 1}, {"172.7.40.0-24", "10.4.7.23", 2, "", 2}, {"172.7.40.128-25", "10.4.7.22", 3, "", 3}, {"172.7.48.0-24", "10.4.7.24", 4, "", 4}},
			[]string{"172.7.32.0-20", "172.7.40.128-25", "172.7.48.0-24"}, map[string]string{"172.7.40.0-24": "takes addresses from 172.7.32.0/20"}},
		{"one of ours, by another key", []lease{{"172.7.21.0-24" + six, "10.4.7.22", 1, "", 1}}, nil,
			map[string]string{"172.7.21.0-24" + six: "overlaps this host's subnet"}},
		{"this host's own second key", []lease{{"172.7.21.0-24" + six, "10.4.7.21", 1, "", 1}}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var all []Lease
			for _, l := range tt.leases {
				p, err := ParseKey("subnets/" + l.key)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, Lease{
					Attrs: Attrs{PublicIP: netip.MustParseAddr(l.ip), BackendData: l.data},
					Key:   "subnets/" + l.key, Subnet: p.Of(inet.IPv4), IPv6Subnet: p.Of(inet.IPv6), Created: l.created, Modified: l.modified,
				})
			}
			sortLeases(all)
			own := Lease{Attrs: Attrs{PublicIP: netip.MustParseAddr("10.4.7.21")}, Key: "subnets/172.7.21.0-24", Subnet: netip.MustParsePrefix("172.7.21.0/24")}
			peers, rejected := Peers(c, own, all, nil, nil)
			var routed []string
			for _, p := range peers {
				routed = append(routed, strings.TrimPrefix(p.Key, "subnets/"))
			}
			if strings.Join(routed, " ") != strings.Join(tt.routed, " ") {
				t.Errorf("routed %v, want %v; rejected %v", routed, tt.routed, rejected)
			}
			for key, says := range tt.rejected {
				if !strings.Contains(rejected["subnets/"+key], says) {
					t.Errorf("%s: %q, want %q", key, rejected["subnets/"+key], says)
				}
			}
			if len(rejected) != len(tt.rejected) {
				t.Errorf("rejected %v", rejected)
			}
		})
	}
}

// TestNobodyLosesByAnIntruder: whatever leases there are, an address that the oldest of
// those with it may be routed to is routed there, or to a lease of the same host.
func TestNobodyLosesByAnIntruder(t *testing.T) {
	c, err := ParseConfig(`{"Network":"172.7.0.0/16"}`)
	if err != nil {
		t.Fatal(err)
	}
	own := Lease{Attrs: Attrs{PublicIP: netip.MustParseAddr("10.4.7.21")}, Key: "subnets/172.7.200.0-24", Subnet: netip.MustParsePrefix("172.7.200.0/24")}
	rapid.Check(t, func(t *rapid.T) {
		var all []Lease
		seen := map[string]bool{}
		for i := range rapid.IntRange(0, 7).Draw(t, "leases") {
			addr := netip.AddrFrom4([4]byte{172, 7, byte(rapid.IntRange(0, 3).Draw(t, "third")), byte(rapid.IntRange(0, 1).Draw(t, "half")) << 7})
			p := netip.PrefixFrom(addr, rapid.SampledFrom([]int{22, 23, 24, 24, 25}).Draw(t, "bits")).Masked()
			key := Key(p) + rapid.SampledFrom([]string{"", "&fc00:7::-64"}).Draw(t, "kind")
			if seen[key] {
				continue
			}
			seen[key] = true
			ip := netip.AddrFrom4([4]byte{10, 4, 7, byte(rapid.IntRange(22, 24).Draw(t, "host"))})
			all = append(all, Lease{Attrs: Attrs{PublicIP: ip}, Key: key, Subnet: p, Created: uint64(i + 1), Modified: uint64(i + 1)})
		}
		sortLeases(all)
		peers, _ := Peers(c, own, append([]Lease{}, all...), nil, nil)
		ends := map[netip.Addr]Attrs{}
		for i, p := range peers {
			if i > 0 && peers[i-1].Subnet == p.Subnet {
				t.Fatalf("two routes to %v among %v", p.Subnet, peers)
			}
			if a, there := ends[p.Subnet.Addr()]; there && a != p.Attrs {
				t.Fatalf("two tunnel ends at %v among %v", p.Subnet.Addr(), peers)
			}
			ends[p.Subnet.Addr()] = p.Attrs
		}
		for _, l := range all {
			oldest := true
			for _, m := range all {
				oldest = oldest && (m.Key == l.Key || !m.Subnet.Overlaps(l.Subnet) || older(&l, &m) || m.PublicIP == l.PublicIP)
			}
			if !oldest {
				continue
			}
			for at := l.Subnet.Addr(); l.Subnet.Contains(at); at = netip.AddrFrom4([4]byte{at.As4()[0], at.As4()[1], at.As4()[2] + at.As4()[3]>>7, at.As4()[3] + 128}) {
				var best Lease
				for _, p := range peers {
					if p.Subnet.Contains(at) && p.Subnet.Bits() >= best.Subnet.Bits() {
						best = p
					}
				}
				if best.PublicIP != l.PublicIP {
					t.Fatalf("%v of %v goes to %v of %v; leases %v", at, l.Key, best.Key, best.PublicIP, all)
				}
			}
		}
	})
}
