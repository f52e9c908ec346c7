package udptunnel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// naive is RFC 1071's checksum, as the RFC describes it.
func naive(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		if sum += word; sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

func TestChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "ones") {
			for i := range b {
				b[i] = 0xff
			}
		}
		if got, want := sum16(b), naive(b); got%0xffff != want%0xffff || (got == 0) != (want == 0) {
			t.Errorf("%#x, want %#x", got, want)
		}
	})
}

// anyPacket is one that is valid.
func anyPacket(t *rapid.T) []byte {
	options := rapid.IntRange(0, 10).Draw(t, "words of options") * 4
	p := rapid.SliceOfN(rapid.Byte(), ipShortest+options, ipShortest+options+100).Draw(t, "packet")
	p[0] = 0x40 | byte(ipShortest+options)/4
	p[ipSource], p[ipTarget] = 10, 172
	put16(p[ipLength:], uint16(len(p)))
	return sealed(p)
}

// sealed puts the checksum of the header right.
func sealed(p []byte) []byte {
	put16(p[ipChecksum:], 0)
	put16(p[ipChecksum:], ^naive(p[:headerLength(p)]))
	return p
}

// TestStepKeepsTheChecksum: the time to live goes down by one, and the header stays right.
func TestStepKeepsTheChecksum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPacket(t)
		if !valid(p) {
			t.Fatalf("% x is not valid", p)
		}
		before := append([]byte(nil), p...)
		if !step(p) {
			if before[ipTTL] > 1 || !cmp.Equal(before, p) {
				t.Fatalf("a time to live of %d has ended", before[ipTTL])
			}
			return
		}
		want := append([]byte(nil), before...)
		want[ipTTL]--
		if sealed(want); !valid(p) || want[ipTTL] != p[ipTTL] || !cmp.Equal(want[ipSource:], p[ipSource:]) {
			t.Errorf("% x became % x", before, p)
		}
	})
}

func TestValid(t *testing.T) {
	good := func() []byte {
		p := make([]byte, 28)
		copy(p, []byte{0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 172, 7, 22, 2, 172, 7, 21, 2})
		return sealed(p)
	}
	if !valid(good()) {
		t.Fatal("a packet is not valid")
	}
	for name, edit := range map[string]func([]byte) []byte{
		"nothing":              func([]byte) []byte { return nil },
		"short":                func(p []byte) []byte { return p[:19] },
		"IPv6":                 func(p []byte) []byte { p[0] = 0x65; return sealed(p) },
		"header too short":     func(p []byte) []byte { p[0] = 0x44; return sealed(p) },
		"header beyond it all": func(p []byte) []byte { p[0] = 0x48; return p },
		"cut off":              func(p []byte) []byte { return p[:27] },
		"more behind it":       func(p []byte) []byte { return append(p, 0) },
		"wrong checksum":       func(p []byte) []byte { p[ipChecksum]++; return p },
		"from nobody":          func(p []byte) []byte { p[ipSource] = 0; return sealed(p) },
		"from loopback":        func(p []byte) []byte { p[ipSource] = 127; return sealed(p) },
		"from multicast":       func(p []byte) []byte { p[ipSource] = 224; return sealed(p) },
		"to loopback":          func(p []byte) []byte { p[ipTarget] = 127; return sealed(p) },
		"to multicast":         func(p []byte) []byte { p[ipTarget] = 239; return sealed(p) },
		"to all": func(p []byte) []byte {
			copy(p[ipTarget:], []byte{255, 255, 255, 255})
			return sealed(p)
		},
	} {
		if p := edit(good()); valid(p) {
			t.Errorf("%s: % x is valid", name, p)
		}
	}
}

func TestTableFindsTheLongestPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		address := rapid.Custom(func(t *rapid.T) netip.Addr { // few, so that they meet
			return netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c")), rapid.Byte().Draw(t, "d")})
		})
		routes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Route {
			return Route{
				Dst: netip.PrefixFrom(address.Draw(t, "prefix"), rapid.IntRange(0, 32).Draw(t, "length")),
				To:  netip.AddrPortFrom(address.Draw(t, "to"), uint16(rapid.IntRange(1, 3).Draw(t, "port"))),
			}
		}), 0, 20).Draw(t, "routes")
		table, err := newTable(routes)
		if err != nil {
			t.Fatal(err)
		}
		dst := address.Draw(t, "address")
		var want *target
		longest := -1
		for _, r := range routes { // the last of equals counts
			if r.Dst.Contains(dst) && r.Dst.Bits() >= longest {
				longest, want = r.Dst.Bits(), newTarget(r.To)
			}
		}
		got := table.find(number(dst))
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%v leads to %v, want %v", dst, got, want)
		}
	})
}

func TestTableRefuses(t *testing.T) {
	good, to := netip.MustParsePrefix("10.1.6.0/24"), netip.MustParseAddrPort("10.4.7.22:8285")
	for _, r := range []Route{
		{}, {Dst: good}, {To: to},
		{good, netip.MustParseAddrPort("[fd00::1]:8285")}, {good, netip.MustParseAddrPort("10.4.7.22:0")},
		{netip.MustParsePrefix("fd00::/64"), to},
	} {
		if _, err := newTable([]Route{{good, to}, r}); err == nil {
			t.Errorf("%v is taken", r)
		}
	}
}
