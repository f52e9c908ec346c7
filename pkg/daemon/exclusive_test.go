package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
)

// TestExclusive: what one daemon holds no other one gets, and one line says what, whose and what to do.
func TestExclusive(t *testing.T) {
	p := netip.MustParsePrefix
	first, second := newExclusive(), newExclusive()
	defer first.close()
	defer second.close()
	if err := first.Hold(p("172.7.0.0/16"), []string{"flannel.1", "flannel-wg", "flannel0"}); err != nil {
		t.Fatal(err)
	}
	if err := first.Hold(p("172.7.0.0/16"), []string{"flannel.1"}); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := first.Hold(p("172.6.0.0/15"), nil); err != nil {
		t.Errorf("one that overlaps its own: %v", err)
	}
	for _, tt := range []struct {
		network string
		devices []string
		says    []string
	}{
		{"172.7.0.0/16", nil, []string{"the network 172.7.0.0/16 is that of another flanneld", "(pid"}},
		{"172.7.21.0/24", nil, []string{"the network 172.7.21.0/24 overlaps 172.", "another Network", "(pid"}},
		{"10.0.0.0/8", []string{"flannel.1"}, []string{"the device flannel.1 is that of another flanneld", "another VNI", fmt.Sprint(os.Getpid())}},
		{"10.0.0.0/8", []string{"flannel.2"}, nil},
		{"10.0.0.0/8", []string{"flannel-wg"}, []string{"the device flannel-wg is that of another flanneld", "another backend"}},
		{"10.0.0.0/8", []string{"flannel0"}, []string{"the device flannel0 is that of another flanneld", "another backend"}},
	} {
		err := second.Hold(p(tt.network), tt.devices)
		if (err == nil) != (tt.says == nil) {
			t.Errorf("%s %v: %v", tt.network, tt.devices, err)
		}
		for _, s := range tt.says {
			if err != nil && !strings.Contains(err.Error(), s) {
				t.Errorf("%q lacks %q", err, s)
			}
		}
	}
	first.Only([]netip.Prefix{p("172.6.0.0/15")}, nil)
	if err := second.Hold(p("10.0.0.0/8"), []string{"flannel.1"}); err != nil {
		t.Errorf("what the first has let go: %v", err)
	}
	first.close()
	if err := second.Hold(p("172.7.0.0/16"), nil); err != nil {
		t.Errorf("after the first's end: %v", err)
	}
}

// TestLongNames: files whose long paths differ at the end only are two.
func TestLongNames(t *testing.T) {
	e := newExclusive()
	defer e.close()
	other := newExclusive()
	defer other.close()
	long := "/" + strings.Repeat("x", 300)
	if err := e.hold(aFile, long+"1", "the subnet file"); err != nil {
		t.Fatal(err)
	}
	if err := other.hold(aFile, long+"2", "the subnet file"); err != nil {
		t.Error(err)
	}
	if err := other.hold(aFile, long+"1", "the subnet file"); err == nil {
		t.Error("two hold one file")
	}
}
