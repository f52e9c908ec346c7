package inet

import (
	"math/big"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// network draws one of either family.
func network(t *rapid.T) netip.Prefix {
	f := rapid.SampledFrom(Families()).Draw(t, "family")
	bytes := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 127, 128, 254, 255}), f.Bits()/8, f.Bits()/8).Draw(t, "bytes")
	a, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(a, rapid.IntRange(0, f.Bits()).Draw(t, "length"))
}

func toBig(a netip.Addr) *big.Int { return new(big.Int).SetBytes(a.AsSlice()) }

// TestArithmetic does the same by math/big.
func TestArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := network(t)
		f := Of(p.Addr())
		size := new(big.Int).Lsh(big.NewInt(1), uint(f.Bits()-p.Bits()))
		begin := new(big.Int).Div(toBig(p.Addr()), size)
		end := new(big.Int).Add(begin.Mul(begin, size), size) // the first address behind it

		if s := Subnet(p.Addr(), p.Bits()); toBig(s.Addr()).Cmp(begin) != 0 || s.Bits() != p.Bits() {
			t.Fatalf("Subnet(%v) is %v", p, s)
		}
		last := Last(p)
		if toBig(last).Cmp(new(big.Int).Sub(end, big.NewInt(1))) != 0 || Of(last) != f || !p.Contains(last) {
			t.Fatalf("Last(%v) is %v", p, last)
		}
		next, ok := Next(p)
		fits := end.BitLen() <= f.Bits()
		if ok != fits {
			t.Fatalf("Next(%v) is %v, %v", p, next, ok)
		}
		if ok && (toBig(next.Addr()).Cmp(end) != 0 || next.Bits() != p.Bits() || Of(next.Addr()) != f || next.Overlaps(p)) {
			t.Fatalf("Next(%v) is %v", p, next)
		}
	})
}

func TestArithmeticByExample(t *testing.T) {
	for _, tt := range []struct{ p, last, next string }{
		{"172.7.21.0/24", "172.7.21.255", "172.7.22.0/24"},
		{"172.7.21.9/24", "172.7.21.255", "172.7.22.0/24"},
		{"255.255.255.0/24", "255.255.255.255", ""},
		{"0.0.0.0/0", "255.255.255.255", ""},
		{"128.0.0.0/1", "255.255.255.255", ""},
		{"1.2.3.4/32", "1.2.3.4", "1.2.3.5/32"},
		{"fd00:0:0:ffff::/64", "fd00::ffff:ffff:ffff:ffff:ffff", "fd00:0:1::/64"},
		{"::ffff:ffff:ffff:0/112", "::ffff:ffff:ffff:ffff", "0:0:0:1::/112"},
		{"::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
		{"ffff::/16", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ""},
	} {
		p := netip.MustParsePrefix(tt.p)
		var next string
		if n, ok := Next(p); ok {
			next = n.String()
		}
		want := tt.last
		if got := Last(p).String(); netip.MustParseAddr(got) != netip.MustParseAddr(want) || next != tt.next {
			t.Errorf("%v ends at %v, before %q", p, got, next)
		}
	}
}

func TestNoHost(t *testing.T) {
	for _, tt := range []struct{ network, address, want string }{
		{"10.4.7.21/24", "10.4.7.255", "the broadcast address"},
		{"10.4.7.21/24", "10.4.7.0", "the network address"},
		{"10.4.7.21/24", "10.4.7.254", ""},
		{"10.4.7.20/30", "10.4.7.23", "the broadcast address"},
		{"10.4.7.20/31", "10.4.7.20", ""},
		{"10.4.7.20/32", "10.4.7.20", ""},
		{"fd00::1/64", "fd00::", ""},
	} {
		if got := NoHost(netip.MustParsePrefix(tt.network), netip.MustParseAddr(tt.address)); got != tt.want {
			t.Errorf("%s in %s: %q, want %q", tt.address, tt.network, got, tt.want)
		}
	}
}
