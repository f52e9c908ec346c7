package inet

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFamily(t *testing.T) {
	for text, want := range map[string]Family{"10.4.7.21": IPv4, "fd00::1": IPv6, "::ffff:10.4.7.21": IPv6} {
		a := netip.MustParseAddr(text)
		f := Of(a)
		if f != want || f.Bits() != a.BitLen() {
			t.Errorf("%s is %v of %d bits, want %v", text, f, f.Bits(), want)
		}
	}
	for i, f := range Families() {
		if f.Index() != i {
			t.Errorf("%v has the place %d, not %d", f, f.Index(), i)
		}
	}
	if IPv4.String() != "IPv4" || IPv6.String() != "IPv6" {
		t.Error("names")
	}
}
