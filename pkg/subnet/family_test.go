package subnet

import (
	"net/netip"
	"slices"
	"testing"

	"flanneld/pkg/inet"
)

// TestFamilies looks at what was read, which is IPv4 so far.
func TestFamilies(t *testing.T) {
	c, err := ParseConfig(`{"Network":"172.7.0.0/16"}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Families(); !slices.Equal(got, []inet.Family{inet.IPv4}) || (Config{}).Families() != nil {
		t.Errorf("families %v", got)
	}
	if _, ok := c.For(inet.IPv6); ok {
		t.Error("the config has IPv6")
	}
	l := Lease{Subnet: netip.MustParsePrefix("172.7.21.0/24")}
	if got, ok := l.For(inet.IPv4); !ok || got != l {
		t.Errorf("%+v, %v", got, ok)
	}
	if _, ok := l.For(inet.IPv6); ok {
		t.Error("the lease has IPv6")
	}
}

// TestBehindTheParsers does with IPv6 what no parser lets through so far.
func TestBehindTheParsers(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	c := Config{Network: prefix("fd00::/48"), SubnetLen: 64}
	if err := c.setRange("", "fd00:0:0:4::"); err != nil || c.SubnetMin != addr("fd00:0:0:1::") {
		t.Fatalf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"172.7.1.0": `SubnetMin "172.7.1.0" is not an IPv6 address such as "fd00:0:0:1::"`,
		"fd01::":    `SubnetMin "fd01::" is outside of Network fd00::/48`,
		"fd00::1":   `SubnetMin "fd00::1" is not the start of a /64: the nearest is fd00::`,
	} {
		if err := c.setRange(text, ""); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	c.SubnetMin, c.SubnetMax = addr("fd00:0:0:1::"), addr("fd00:0:0:4::")
	free := c.Free([]netip.Prefix{prefix("fd00:0:0:2::/64")}, 10)
	if want := []netip.Prefix{prefix("fd00:0:0:1::/64"), prefix("fd00:0:0:3::/64"), prefix("fd00:0:0:4::/64")}; !slices.Equal(free, want) {
		t.Errorf("free are %v", free)
	}
	if c.Fits(prefix("fd00:0:0:5::/64")) || !c.Fits(free[0]) || c.Fits(prefix("172.7.1.0/24")) {
		t.Error("Fits")
	}
	lease := func(subnet, ip string) Lease {
		return Lease{Subnet: prefix(subnet), Attrs: Attrs{PublicIP: addr(ip)}}
	}
	own := lease("fd00:0:0:1::/64", "2001:db8::1")
	peers, rejected := Peers(c, own, []Lease{
		own, lease("fd00:0:0:2::/64", "2001:db8::2"), lease("172.7.22.0/24", "10.4.7.22"), lease("fd00:0:0:3::/64", "2001:db8::1"),
	}, nil, nil)
	if len(peers) != 1 || peers[0].PublicIP != addr("2001:db8::2") || len(rejected) != 1 {
		t.Errorf("%+v, %v", peers, rejected)
	}
}
