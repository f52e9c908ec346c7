package subnet

import (
	"net/netip"
	"testing"
	"time"
)

// benchConfig is a network of which snapshotOf's leases are a part.
func benchConfig(b *testing.B) Config {
	b.Helper()
	c, err := ParseConfig(`{"Network":"10.0.0.0/8","SubnetLen":24,"SubnetMin":"10.0.0.0","Backend":{"Type":"vxlan"}}`)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func leasesOf(b *testing.B, n int) (leases []Lease) {
	b.Helper()
	for _, e := range snapshotOf(n).Entries {
		l, err := parseLease(e, time.Now())
		if err != nil {
			b.Fatal(err)
		}
		leases = append(leases, l)
	}
	return leases
}

// BenchmarkFree looks for a subnet behind a thousand leases.
func BenchmarkFree(b *testing.B) {
	c := benchConfig(b)
	var taken []netip.Prefix
	for _, l := range leasesOf(b, 1000) {
		taken = append(taken, l.Subnet)
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(c.Free(taken, 100)) != 100 {
			b.Fatal("too few")
		}
	}
}

func BenchmarkPeers(b *testing.B) {
	c, leases := benchConfig(b), leasesOf(b, 1000)
	host := []netip.Addr{leases[0].PublicIP, netip.MustParseAddr("127.0.0.1")}
	b.ReportAllocs()
	for b.Loop() {
		if peers, _ := Peers(c, leases[0], leases[1:], host, nil); len(peers) != 999 {
			b.Fatal("too few")
		}
	}
}

func BenchmarkParseLease(b *testing.B) {
	e := snapshotOf(1).Entries[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseLease(e, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseConfig(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		benchConfig(b)
	}
}
