package extif

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// dual is what the tests of IPv6 choose from. The kernel lists an interface's addresses
// of one scope the latest first.
var dual = []kernel.Link{
	link("lo", 65536, "127.0.0.1/8", "::1/128"),
	link("ens33", 1500, "10.4.7.21/24", "2001:db8:4::100/128", "fd00:4::21/64", "2001:db8:4::22/64", "2001:db8:4::21/64", "temporary 2001:db8:4::77/64", "~fe80::21/64"),
	link("ens34", 9000, "192.168.1.21/24", "deprecated fd00:5::5/64", "fd00:5::22/64", "fd00:5::21/64", "~fe80::34/64"),
	link("ens35", 1500, "10.5.7.21/24", "tentative fd00:6::21/64", "duplicate fd00:6::22/64", "~fe80::35/64"),
	off("ens36", "10.6.7.21/24"),
}

func off(name string, addrs ...string) kernel.Link {
	l := link(name, 1500, addrs...)
	l.NoIPv6 = true
	return l
}

const listed6 = "; this host has lo (::1/128 loopback), ens33 (2001:db8:4::100/128, fd00:4::21/64, 2001:db8:4::22/64, 2001:db8:4::21/64, 2001:db8:4::77/64 temporary, fe80::21/64 link-local), " +
	"ens34 (fd00:5::5/64 deprecated, fd00:5::22/64, fd00:5::21/64, fe80::34/64 link-local), ens35 (fd00:6::21/64 not ready yet, fd00:6::22/64 another host has it, fe80::35/64 link-local), ens36 (no IPv6 address)"

func TestChooseIPv6(t *testing.T) {
	tests := []struct {
		name     string
		inUse    string
		ifaces   string // separated by spaces
		reach    string
		regexes  string
		publicIP string // --public-ipv6
		prefer   string
		route    string
		addr     string
		by       string // the reason's
		err      string
	}{
		{name: "default route: the first global address", route: "ens33", addr: "2001:db8:4::21", by: "the default route"},
		{name: "no temporary, deprecated or link-local one", route: "ens34", addr: "fd00:5::21", by: "the default route"},
		{name: "none that is not ready, or another host's", route: "ens35",
			err: "the default route: interface ens35 has no IPv6 address that another host could reach" + listed6},
		{name: "switched off", route: "ens36",
			err: "the default route: interface ens36 has no IPv6 address that another host could reach, as IPv6 is switched off there, " +
				"or its MTU is below 1280: to switch it on, type: sysctl -w net/ipv6/conf/ens36/disable_ipv6=0" + listed6},

		{name: "the interface of IPv4", prefer: "ens34", route: "ens33", addr: "fd00:5::21", by: "the other family"},
		{name: "which has none", prefer: "ens35", route: "ens33", addr: "2001:db8:4::21", by: "the default route"},
		{name: "which is gone", prefer: "ppp0", route: "ens33", addr: "2001:db8:4::21", by: "the default route"},
		{name: "and nothing else", prefer: "ens35", err: "the other family: interface ens35 has no IPv6 address that another host could reach; " +
			"none is named by --iface, and the default route names none: no such route" + listed6},
		{name: "an address of IPv4 is IPv4's matter", ifaces: "192.168.1.21", prefer: "ens34", addr: "fd00:5::21", by: "the other family"},
		{name: "of an interface without IPv6", ifaces: "10.5.7.21", prefer: "ens35", route: "ens33", addr: "2001:db8:4::21", by: "the default route"},
		{name: "one of each family", ifaces: "10.4.7.21 fd00:5::22", prefer: "ens33", addr: "fd00:5::22", by: "--iface=fd00:5::22"},
		{name: "a name: the interface of IPv4 first", ifaces: "ens33 ens34", prefer: "ens34", addr: "fd00:5::21", by: "the other family"},
		{name: "a name, where that has none", ifaces: "ens35 ens34", prefer: "ens35", addr: "fd00:5::21", by: "--iface=ens34"},
		{name: "a name, and none has", ifaces: "ens35", prefer: "ens35", route: "ens33",
			err: "the other family: interface ens35 has no IPv6 address that another host could reach; --iface=ens35: interface ens35 has no IPv6 address that another host could reach" + listed6},
		{name: "a regex that IPv4 matched", regexes: `^10\.4`, prefer: "ens33", addr: "2001:db8:4::21", by: "the other family"},
		{name: "a route to an address of IPv4", reach: "192.168.1.1", prefer: "ens34", addr: "fd00:5::21", by: "the other family"},

		{name: "by address", ifaces: "fd00:4::21", addr: "fd00:4::21", by: "--iface=fd00:4::21"},
		{name: "by a single address", ifaces: "2001:db8:4::100", addr: "2001:db8:4::100", by: "--iface=2001:db8:4::100"},
		{name: "by a temporary address", ifaces: "2001:db8:4::77",
			err: "--iface=2001:db8:4::77: 2001:db8:4::77 cannot be this host's address to others (temporary)" + listed6},
		{name: "by a deprecated address", ifaces: "fd00:5::5", addr: "fd00:5::5", by: "--iface=fd00:5::5"},
		{name: "a deprecated address in use", inUse: "fd00:5::5", regexes: "^fd00:5::5$", addr: "fd00:5::5", by: "--iface-regex=^fd00:5::5$"},
		{name: "by a link-local address", ifaces: "fe80::21", err: "--iface=fe80::21: fe80::21 cannot be this host's address to others (link-local)" + listed6},
		{name: "by an address that is not there yet", ifaces: "fd00:9::9", prefer: "ens33", err: "--iface=fd00:9::9 matches none" + listed6},
		{name: "by an address of IPv4, alone", ifaces: "10.4.7.21",
			err: "--iface=10.4.7.21 matches none (for IPv6, name the interface or an IPv6 address of it)" + listed6},
		{name: "regex of addresses", regexes: `^fd00:5`, addr: "fd00:5::21", by: `--iface-regex=^fd00:5`},
		{name: "regex of a temporary address", regexes: `::77$`, err: `--iface-regex=::77$ matches none` + listed6},
		{name: "by a route", reach: "fd00:5::1", route: "ens34", addr: "fd00:5::21", by: "--iface-can-reach=fd00:5::1"},
		{name: "by a route that leaves elsewhere than IPv4", reach: "fd00:5::1", prefer: "ens33", route: "ens34", addr: "fd00:5::21", by: "--iface-can-reach=fd00:5::1"},

		{name: "public IP of the interface", publicIP: "fd00:4::21", route: "ens33", addr: "fd00:4::21", by: "--public-ipv6=fd00:4::21"},
		{name: "of another one than IPv4's", publicIP: "fd00:5::22", prefer: "ens33", route: "ens33", addr: "fd00:5::22", by: "--public-ipv6=fd00:5::22"},
		{name: "behind a router", publicIP: "2001:db8::9", prefer: "ens34", route: "ens33", addr: "fd00:5::21", by: "the other family"},
		{name: "temporary", publicIP: "2001:db8:4::77", route: "ens33",
			err: "--public-ipv6=2001:db8:4::77 cannot be this host's address to others (temporary): name another one"},
		{name: "link-local", publicIP: "fe80::9", route: "ens33", err: "--public-ipv6=fe80::9 cannot be this host's address to others (link-local): name another one"},
		{name: "not ready yet", publicIP: "fd00:6::21", prefer: "ens35", err: "--public-ipv6=fd00:6::21: fd00:6::21 cannot be this host's address to others (not ready yet); " +
			"the other family: fd00:6::21 cannot be this host's address to others (not ready yet); none is named by --iface, and the default route names none: no such route" + listed6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Options{Ifaces: strings.Fields(tt.ifaces), Prefer: tt.prefer, PublicIP: netip.MustParseAddr("10.4.7.21")}
			for _, r := range strings.Fields(tt.regexes) {
				o.Regexes = append(o.Regexes, regexp.MustCompile(r))
			}
			if tt.reach != "" {
				o.CanReach = netip.MustParseAddr(tt.reach)
			}
			if tt.inUse != "" {
				o.InUse = netip.MustParseAddr(tt.inUse)
			}
			if tt.publicIP != "" {
				o.PublicIPv6 = netip.MustParseAddr(tt.publicIP)
			}
			got, err := Choose(inet.IPv6, o, dual, func() (string, error) {
				if tt.route == "" {
					return "", errors.New("no such route")
				}
				return tt.route, nil
			})
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error\n got: %v\nwant: %v", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Addr.String() != tt.addr || !strings.Contains(got.Reason, ") by "+tt.by+", public IP ") {
				t.Errorf("%v by %q", got.Addr, got.Reason)
			}
			if want := tt.publicIP; want != "" && got.PublicIP.String() != want || want == "" && got.PublicIP != got.Addr {
				t.Errorf("public IP %v", got.PublicIP)
			}
		})
	}
}

// TestNamedForIPv6 says nothing of IPv4 but where its interface may be.
func TestNamedForIPv6(t *testing.T) {
	for name, o := range map[string]Options{
		"the default route": {CanReach: netip.MustParseAddr("fd00:5::1")},
		"the other family":  {Ifaces: []string{"fd00:5::22"}, Prefer: "ens34"},
	} {
		got, err := Choose(inet.IPv4, o, dual, func() (string, error) { return "ens33", nil })
		if err != nil || !strings.Contains(got.Reason, ") by "+name+", public IP ") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
