package subnet

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flanneld/pkg/inet"
)

// TestFamilies looks at configs and leases as each family sees them.
func TestFamilies(t *testing.T) {
	const both = `"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fc00:7::/48"`
	v4, v6 := netip.MustParsePrefix("172.7.0.0/16"), netip.MustParsePrefix("fc00:7::/48")
	for _, tt := range []struct {
		text string
		want map[inet.Family]netip.Prefix
	}{
		{`{"Network":"172.7.0.0/16"}`, map[inet.Family]netip.Prefix{inet.IPv4: v4}},
		{`{"EnableIPv4":true,"Network":"172.7.0.0/16","IPv6Network":"fc00:7::/48"}`, map[inet.Family]netip.Prefix{inet.IPv4: v4}},
		{`{` + both + `}`, map[inet.Family]netip.Prefix{inet.IPv4: v4, inet.IPv6: v6}},
		{`{"EnableIPv4":false,` + both + `}`, map[inet.Family]netip.Prefix{inet.IPv6: v6}},
	} {
		c, err := ParseConfig(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		for _, f := range inet.Families() {
			of, used := c.For(f)
			want, wanted := tt.want[f]
			if used != wanted || used && (of.Network != want || of.Second != Range{}) || slices.Contains(c.Families(), f) != wanted {
				t.Errorf("%s as %v sees it: %+v, %v", tt.text, f, of, used)
			}
		}
		if again, err := ParseConfig(c.Text()); err != nil || again.Range != c.Range || again.Second != c.Second {
			t.Errorf("%s became %s: %+v, %v", tt.text, c.Text(), again, err)
		}
	}
	if (Config{}).Families() != nil {
		t.Error("no config has families")
	}
}

func TestLeaseForFamilies(t *testing.T) {
	at := netip.MustParseAddr
	key := "subnets/172.7.19.0-24&fc00:7:0:23::-64"
	value := `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"4a:15:53:cd:6a:61"},"BackendV6Data":{"VNI":1,"VtepMAC":"8e:6b:3d:38:d7:c0"}}`
	dual := mustLease(t, key, value)
	four, has4 := dual.For(inet.IPv4)
	six, has6 := dual.For(inet.IPv6)
	if !has4 || four.Subnet != netip.MustParsePrefix("172.7.19.0/24") || four.PublicIP != at("10.4.7.21") || four.VTEP() != "4a:15:53:cd:6a:61" || four.IPv6 != (Endpoint{PublicIP: at("fd00:4::21")}) {
		t.Errorf("%+v, %v", four, has4)
	}
	if !has6 || six.Subnet != netip.MustParsePrefix("fc00:7:0:23::/64") || six.PublicIP != at("fd00:4::21") || six.VTEP() != "8e:6b:3d:38:d7:c0" || six.IPv6Subnet.IsValid() || six.IPv6 != (Endpoint{PublicIP: at("10.4.7.21")}) {
		t.Errorf("%+v, %v", six, has6)
	}
	if got := dual.Value(dual.Attrs); got != value {
		t.Errorf("written again as %s", got)
	}

	alone := mustLease(t, "subnets/0.0.0.0-0&fc00:7:0:1d::-64", `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}`)
	if _, has := alone.For(inet.IPv4); has || alone.Subnet != netip.MustParsePrefix("fc00:7:0:1d::/64") || alone.PublicIP != at("fd00:4::22") {
		t.Errorf("%+v", alone)
	}
	if got := alone.Value(alone.Attrs); got != `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}` {
		t.Errorf("written again as %s", got)
	}
}

func must[T any](v T, _ bool) T { return v }

func mustLease(t *testing.T, key, value string) Lease {
	t.Helper()
	l, err := parseLease(Entry{Key: key, Value: value}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLeaseSays: a host that uses one family leaves what a lease says of the other as it is, and
// a lease of one family has no place for the other.
func TestLeaseSays(t *testing.T) {
	const (
		plain = "subnets/172.7.21.0-24"
		dual  = "subnets/172.7.21.0-24&fc00:7:0:21::-64"
		six   = "subnets/0.0.0.0-0&fc00:7:0:21::-64"
		both  = `{"PublicIP":"10.4.7.21","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`
	)
	v4 := Attrs{PublicIP: netip.MustParseAddr("10.4.7.21"), BackendType: "host-gw"}
	v6 := Attrs{PublicIP: netip.MustParseAddr("fd00:4::21"), BackendType: "host-gw"}
	v46 := v4
	v46.IPv6.PublicIP = v6.PublicIP
	other := v4
	other.PublicIP = netip.MustParseAddr("10.4.7.22")
	for _, tt := range []struct {
		key   string
		attrs Attrs
		says  bool
		value string
	}{
		{plain, v4, true, `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`},
		{plain, v46, true, `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`},
		{plain, other, false, `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`},
		{dual, v46, true, both},
		{dual, v4, true, both},
		{dual, v6, true, both},
		{dual, other, false, `{"PublicIP":"10.4.7.22","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`},
		{six, v6, true, `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`},
		{six, v46, true, `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21","BackendType":"host-gw"}`},
	} {
		l := mustLease(t, tt.key, both)
		if says, value := l.Says(tt.attrs), l.Value(tt.attrs); says != tt.says || value != tt.value {
			t.Errorf("%s and %v: %v, %s", tt.key, tt.attrs, says, value)
		}
	}
}

// TestWhatIsWrongWithIPv6 takes nothing away from IPv4.
func TestWhatIsWrongWithIPv6(t *testing.T) {
	for _, value := range []string{
		`{"PublicIP":"10.4.7.21","PublicIPv6":5}`, `{"PublicIP":"10.4.7.21","PublicIPv6":"x"}`, `{"PublicIP":"10.4.7.21","PublicIPv6":"::1"}`,
		`{"PublicIP":"10.4.7.21","PublicIPv6":"10.4.7.21"}`, `{"PublicIP":"10.4.7.21","PublicIPv6":null,"BackendV6Data":{"VNI":1}}`,
	} {
		l := mustLease(t, "subnets/172.7.21.0-24&fc00:7:0:21::-64", value)
		if _, ok := l.Of(inet.IPv6); ok || l.PublicIP != netip.MustParseAddr("10.4.7.21") {
			t.Errorf("%s: %+v", value, l)
		}
	}
	for _, value := range []string{`{"PublicIP":"0.0.0.0","PublicIPv6":"::1"}`, `{"PublicIPv6":"x"}`, `{"PublicIP":"0.0.0.0"}`} {
		if l, err := parseLease(Entry{Key: "subnets/0.0.0.0-0&fc00:7:0:21::-64", Value: value}, time.Time{}); err == nil {
			t.Errorf("%s: %+v", value, l)
		}
	}
}

// TestSubnetsKey: whatever a lease's subnets are, its key names them.
func TestSubnetsKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Subnets
		if rapid.Bool().Draw(t, "IPv4") {
			b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address")
			s[0] = netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), rapid.IntRange(1, 32).Draw(t, "bits")).Masked()
		}
		if !s[0].IsValid() || rapid.Bool().Draw(t, "IPv6") {
			b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 1, 0xfd}), 16, 16).Draw(t, "address")
			s[1] = netip.PrefixFrom(netip.AddrFrom16([16]byte(b)), rapid.IntRange(1, 128).Draw(t, "bits")).Masked()
			if s[1].Addr().Is4In6() {
				t.Skip("printed as IPv4")
			}
		}
		if got, err := ParseKey(s.Key()); err != nil || got != s {
			t.Fatalf("%v has the key %s: %v, %v", s, s.Key(), got, err)
		}
	})
}

func TestFreeOfIPv6(t *testing.T) {
	prefix := netip.MustParsePrefix
	c, err := ParseConfig(`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","IPv6SubnetMax":"fd00:0:0:4::"}`)
	if err != nil {
		t.Fatal(err)
	}
	free := c.Free([]netip.Prefix{prefix("fd00:0:0:2::/64")}, 10)
	if want := []netip.Prefix{prefix("fd00:0:0:1::/64"), prefix("fd00:0:0:3::/64"), prefix("fd00:0:0:4::/64")}; !slices.Equal(free, want) {
		t.Errorf("free are %v", free)
	}
	if c.Fits(prefix("fd00:0:0:5::/64")) || !c.Fits(free[0]) || c.Fits(prefix("172.7.1.0/24")) {
		t.Error("Fits")
	}
}

// TestPeersOfAFamily: each family picks from the same leases what is of it.
func TestPeersOfAFamily(t *testing.T) {
	c, err := ParseConfig(`{"Network":"172.7.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:7::/48"}`)
	if err != nil {
		t.Fatal(err)
	}
	lease := func(key, v4, v6 string) Lease {
		return mustLease(t, "subnets/"+key, `{"PublicIP":"`+v4+`","PublicIPv6":"`+v6+`"}`)
	}
	own := lease("172.7.21.0-24&fd00:7:0:21::-64", "10.4.7.21", "fd00:4::21")
	leases := []Lease{
		own, lease("172.7.22.0-24&fd00:7:0:99::-64", "10.4.7.22", "fd00:4::22"), lease("172.7.23.0-24&fd00:7:0:23::-64", "10.4.7.23", "fd00:4::23"),
		lease("172.7.24.0-24", "10.4.7.24", ""), lease("172.7.25.0-24&fd00:7:0:25::-64", "10.4.7.25", ""),
		lease("0.0.0.0-0&fd00:7:0:26::-64", "0.0.0.0", "fd00:4::26"), lease("172.7.21.0-24", "10.4.7.21", ""), // that the first took the place of
		lease("172.7.27.0-24&fd00:7:0:21::-64", "10.4.7.27", "fd00:4::27"),
	}
	for i := range leases {
		leases[i].Created = uint64(i + 1)
	}
	sortLeases(leases)
	// What it holds of the family no more is no lease of another host of this address.
	_, rejected := Peers(must(c.For(inet.IPv6)), own.only(SubnetsOf(own.Subnet)), slices.Clone(leases), []netip.Addr{own.IPv6.PublicIP}, nil)
	if why, told := rejected[own.Key]; told {
		t.Errorf("this host's own lease %s", why)
	}
	for f, want := range map[inet.Family]struct{ routed, rejected []string }{
		inet.IPv4: {[]string{"172.7.22.0/24", "172.7.23.0/24", "172.7.24.0/24", "172.7.25.0/24", "172.7.27.0/24"}, nil},
		inet.IPv6: {[]string{"fd00:7:0:23::/64", "fd00:7:0:26::/64", "fd00:7:0:99::/64"},
			[]string{"subnets/172.7.25.0-24&fd00:7:0:25::-64", "subnets/172.7.27.0-24&fd00:7:0:21::-64"}},
	} {
		of, _ := c.For(f)
		peers, rejected := Peers(of, own, slices.Clone(leases), nil, nil)
		var routed []string
		for _, p := range peers {
			routed = append(routed, p.Subnet.String())
		}
		if !slices.Equal(routed, want.routed) || len(rejected) != len(want.rejected) {
			t.Errorf("%v: routed %v, rejected %v", f, routed, rejected)
		}
		for _, key := range want.rejected {
			if rejected[key] == "" {
				t.Errorf("%v: rejected %v", f, rejected)
			}
		}
	}
}
