package extif

import (
	"cmp"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"pgregory.net/rapid"
)

// link makes an interface of its addresses, where "~" marks link-local ones, and a word
// before it says what else it is.
func link(name string, mtu int, addrs ...string) kernel.Link {
	l := kernel.Link{Name: name, Index: len(name), MTU: mtu, Up: true}
	for _, a := range addrs {
		words := strings.Fields(a)
		text, linkLocal := strings.CutPrefix(words[len(words)-1], "~")
		l.Addrs = append(l.Addrs, kernel.Addr{
			Prefix: netip.MustParsePrefix(text), LinkLocal: linkLocal, Temporary: words[0] == "temporary",
			Deprecated: words[0] == "deprecated", Tentative: words[0] == "tentative", Duplicate: words[0] == "duplicate",
		})
	}
	return l
}

// host is what most tests choose from.
var host = []kernel.Link{
	link("lo", 65536, "127.0.0.1/8"),
	link("ens33", 1500, "10.4.7.21/24", "10.4.7.100/24"),
	link("ens34", 9000, "~169.254.3.4/16", "192.168.1.21/24"),
	link("ens35", 1500, "~169.254.7.7/16"),
	link("bare", 1500),
	link("broken", 0, "10.9.9.9/24"),
}

const listed = "; this host has lo (127.0.0.1/8), ens33 (10.4.7.21/24, 10.4.7.100/24), ens34 (169.254.3.4/16, 192.168.1.21/24), ens35 (169.254.7.7/16), bare (no IPv4 address), broken (10.9.9.9/24)"

func TestChoose(t *testing.T) {
	tests := []struct {
		name     string
		ifaces   string // separated by spaces
		reach    string // --iface-can-reach, which leads out of route
		regexes  string // likewise
		publicIP string
		route    string // the default route's interface
		addr     string
		reason   string
		err      string
	}{
		{name: "default route", route: "ens33", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by the default route, public IP 10.4.7.21 its own"},
		{name: "a global address before a link-local one", route: "ens34", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by the default route, public IP 192.168.1.21 its own"},
		{name: "a link-local address where there is no other", route: "ens35", addr: "169.254.7.7",
			reason: "interface ens35 (169.254.7.7/16, MTU 1500) by the default route, public IP 169.254.7.7 its own"},
		{name: "public IP of the interface", publicIP: "10.4.7.100", route: "ens33", addr: "10.4.7.100",
			reason: "interface ens33 (10.4.7.100/24, MTU 1500) by --public-ip=10.4.7.100, public IP 10.4.7.100 by --public-ip"},
		{name: "public IP of another interface than the default route's", publicIP: "192.168.1.21", route: "ens33", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --public-ip=192.168.1.21, public IP 192.168.1.21 by --public-ip"},
		{name: "public IP of another interface, and no default route", publicIP: "192.168.1.21", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --public-ip=192.168.1.21, public IP 192.168.1.21 by --public-ip"},
		{name: "public IP of another interface that cannot be used", publicIP: "10.9.9.9", route: "ens33", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by the default route, public IP 10.9.9.9 by --public-ip, which is on broken, though packets leave by ens33"},
		{name: "public IP of no interface", publicIP: "203.0.113.5", route: "ens33", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by the default route, public IP 203.0.113.5 by --public-ip"},
		{name: "public IP of another interface, beside an interface that matches nothing", ifaces: "eth0", publicIP: "192.168.1.21", route: "ens33",
			err: "--iface=eth0 matches none" + listed},
		{name: "public IP of another interface than the one that leads there", reach: "10.4.7.1", publicIP: "192.168.1.21", route: "ens33", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by --iface-can-reach=10.4.7.1, public IP 192.168.1.21 by --public-ip, which is on ens34, though packets leave by ens33"},
		{name: "the tutorial's", ifaces: "ens33", publicIP: "10.4.7.21", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by --iface=ens33, public IP 10.4.7.21 by --public-ip"},
		{name: "a public IP that is the broadcast address", publicIP: "10.4.7.255", route: "ens33",
			err: "the default route: --public-ip=10.4.7.255 is the broadcast address of 10.4.7.0/24 (the network of ens33), and no host's" + listed},
		{name: "public IP behind NAT", ifaces: "ens34", publicIP: "203.0.113.5", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface=ens34, public IP 203.0.113.5 by --public-ip"},
		{name: "public IP of another interface", ifaces: "ens34", publicIP: "10.4.7.21", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface=ens34, public IP 10.4.7.21 by --public-ip, which is on ens33, though packets leave by ens34"},

		{name: "by address", ifaces: "10.4.7.100", addr: "10.4.7.100",
			reason: "interface ens33 (10.4.7.100/24, MTU 1500) by --iface=10.4.7.100, public IP 10.4.7.100 its own"},
		{name: "by address, with another public IP of it", ifaces: "10.4.7.100", publicIP: "10.4.7.21", addr: "10.4.7.100",
			reason: "interface ens33 (10.4.7.100/24, MTU 1500) by --iface=10.4.7.100, public IP 10.4.7.21 by --public-ip"},
		{name: "by a link-local address", ifaces: "169.254.3.4", addr: "169.254.3.4",
			reason: "interface ens34 (169.254.3.4/16, MTU 9000) by --iface=169.254.3.4, public IP 169.254.3.4 its own"},
		{name: "the first that matches", ifaces: "eth0 10.0.0.1 ens34 ens33", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface=ens34, public IP 192.168.1.21 its own"},
		{name: "an unusable one gives way", ifaces: "bare broken ens33", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by --iface=ens33, public IP 10.4.7.21 its own"},

		{name: "regex of addresses", regexes: `^192\.168\.`, addr: "192.168.1.21",
			reason: `interface ens34 (192.168.1.21/24, MTU 9000) by --iface-regex=^192\.168\., public IP 192.168.1.21 its own`},
		{name: "regex of a second address", regexes: `7\.100$`, addr: "10.4.7.100",
			reason: `interface ens33 (10.4.7.100/24, MTU 1500) by --iface-regex=7\.100$, public IP 10.4.7.100 its own`},
		{name: "regex prefers global addresses", regexes: `\..*\.3\.|168`, addr: "192.168.1.21",
			reason: `interface ens34 (192.168.1.21/24, MTU 9000) by --iface-regex=\..*\.3\.|168, public IP 192.168.1.21 its own`},
		{name: "regex of names", regexes: `^ens`, addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by --iface-regex=^ens, public IP 10.4.7.21 its own"},
		{name: "regex: addresses before names", regexes: `33|168`, addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface-regex=33|168, public IP 192.168.1.21 its own"},
		{name: "regex: unusable names give way", regexes: `^b|35`, addr: "169.254.7.7",
			reason: "interface ens35 (169.254.7.7/16, MTU 1500) by --iface-regex=^b|35, public IP 169.254.7.7 its own"},
		{name: "regex: no loopback address", regexes: `0\.1$|7\.7$`, addr: "169.254.7.7",
			reason: `interface ens35 (169.254.7.7/16, MTU 1500) by --iface-regex=0\.1$|7\.7$, public IP 169.254.7.7 its own`},
		{name: "regexes in order", regexes: `nothing ens34 ens33`, addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface-regex=ens34, public IP 192.168.1.21 its own"},
		{name: "names before regexes", ifaces: "eth0 ens33", regexes: "ens34", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by --iface=ens33, public IP 10.4.7.21 its own"},
		{name: "a regex after names that match nothing", ifaces: "eth0", regexes: "ens34", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface-regex=ens34, public IP 192.168.1.21 its own"},

		{name: "by a route", reach: "192.168.1.1", route: "ens34", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface-can-reach=192.168.1.1, public IP 192.168.1.21 its own"},
		{name: "names before a route", ifaces: "eth0 ens33", reach: "192.168.1.1", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by --iface=ens33, public IP 10.4.7.21 its own"},
		{name: "regexes before a route", regexes: "ens33", reach: "192.168.1.1", addr: "10.4.7.21",
			reason: "interface ens33 (10.4.7.21/24, MTU 1500) by --iface-regex=ens33, public IP 10.4.7.21 its own"},
		{name: "a route after names that match nothing", ifaces: "eth0", regexes: "^eth", reach: "192.168.1.1", route: "ens34",
			addr:   "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface-can-reach=192.168.1.1, public IP 192.168.1.21 its own"},
		{name: "a public IP beside a route", reach: "192.168.1.1", route: "ens34", publicIP: "203.0.113.5", addr: "192.168.1.21",
			reason: "interface ens34 (192.168.1.21/24, MTU 9000) by --iface-can-reach=192.168.1.1, public IP 203.0.113.5 by --public-ip"},
		{name: "no route there", reach: "192.168.1.1", err: "--iface-can-reach=192.168.1.1 names none: no such route" + listed},
		{name: "it is this host's own", reach: "10.4.7.21", route: "lo",
			err: "--iface-can-reach=10.4.7.21: interface lo has no IPv4 address that another host could reach" + listed},
		{name: "a route through what is gone", reach: "192.168.1.1", route: "ppp0",
			err: "--iface-can-reach=192.168.1.1, whose interface is ppp0, matches none" + listed},

		{name: "no default route", err: "none is named by --iface, and the default route names none: no such route" + listed},
		{name: "default route through what is gone", route: "ppp0", err: "the default route's interface ppp0 matches none" + listed},
		{name: "nothing matches", ifaces: "eth0 10.0.0.1", regexes: "^eth",
			err: "--iface=eth0 matches none; --iface=10.0.0.1 matches none; --iface-regex=^eth matches none" + listed},
		{name: "an address of the other family", ifaces: "fd00:4::21",
			err: "--iface=fd00:4::21 matches none (for IPv4, name the interface or an IPv4 address of it)" + listed},
		{name: "a name is matched as a whole", ifaces: "ens", err: "--iface=ens matches none" + listed},
		{name: "no address", ifaces: "bare", publicIP: "10.4.7.21",
			err: "--iface=bare: interface bare has no IPv4 address that another host could reach" + listed},
		{name: "loopback", ifaces: "lo", err: "--iface=lo: interface lo has no IPv4 address that another host could reach" + listed},
		{name: "MTU 0", ifaces: "broken",
			err: "--iface=broken: interface broken has MTU 0: set one with: ip link set broken mtu 1500" + listed},
		{name: "MTU 0 by address", ifaces: "10.9.9.9",
			err: "--iface=10.9.9.9: interface broken has MTU 0: set one with: ip link set broken mtu 1500" + listed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := Options{Ifaces: strings.Fields(tt.ifaces)}
			for _, r := range strings.Fields(tt.regexes) {
				o.Regexes = append(o.Regexes, regexp.MustCompile(r))
			}
			if tt.reach != "" {
				o.CanReach = netip.MustParseAddr(tt.reach)
			}
			if tt.publicIP != "" {
				o.PublicIP = netip.MustParseAddr(tt.publicIP)
			}
			got, err := Choose(inet.IPv4, o, host, func() (string, error) {
				switch {
				case tt.ifaces+tt.regexes != "" && (tt.reach == "" || tt.addr == "10.4.7.21"):
					t.Error("a route is asked for in vain")
				case tt.route == "":
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
			if got.Reason != tt.reason {
				t.Errorf("reason\n got: %s\nwant: %s", got.Reason, tt.reason)
			}
			if got.Addr.String() != tt.addr || !got.Link.Has(got.Addr) {
				t.Errorf("address %v, want %s", got.Addr, tt.addr)
			}
			if want := cmp.Or(o.PublicIP, got.Addr); got.PublicIP != want {
				t.Errorf("public IP %v, want %v", got.PublicIP, want)
			}
		})
	}
}

func TestHostWithoutInterfaces(t *testing.T) {
	_, err := Choose(inet.IPv4, Options{Ifaces: []string{"eth0"}}, nil, nil)
	if want := "--iface=eth0 matches none; this host has no interface"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestAnyHost holds for every choice that is made, and that one is made where
// there is a usable interface to be had.
func TestAnyHost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(inet.Families()).Draw(t, "family")
		names := rapid.SampledFrom([]string{"lo", "ens33", "ens34", "docker0"})
		addrs := rapid.SampledFrom([]string{"127.0.0.1/8", "10.4.7.21/24", "~169.254.3.4/16", "172.7.21.1/24",
			"::1/128", "fd00:4::21/64", "~fe80::4/64", "temporary 2001:db8::5/64", "deprecated 2001:db8::6/64", "tentative 2001:db8::7/64", "2001:db8::8/128"})
		links := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) kernel.Link {
			return link(names.Draw(t, "name"), rapid.SampledFrom([]int{0, 1500}).Draw(t, "MTU"), rapid.SliceOfN(addrs, 0, 3).Draw(t, "addresses")...)
		}), 0, 4, func(l kernel.Link) string { return l.Name }).Draw(t, "links")
		o := Options{Ifaces: rapid.SliceOfN(rapid.SampledFrom([]string{"ens33", "docker0", "10.4.7.21", "fd00:4::21", "2001:db8::5"}), 0, 2).Draw(t, "ifaces")}
		if rapid.Bool().Draw(t, "any") {
			o.Regexes = append(o.Regexes, regexp.MustCompile(""))
		}
		if rapid.Bool().Draw(t, "prefer") {
			o.Prefer = "ens33"
		}
		byRoute := func() (string, error) { return "ens34", nil }
		got, err := Choose(f, o, links, byRoute)
		if err == nil {
			if got.Link.MTU == 0 || !got.Link.Has(got.Addr) || got.PublicIP != got.Addr || got.Reason == "" || inet.Of(got.Addr) != f {
				t.Errorf("unusable choice %+v", got)
			}
			for _, a := range got.Link.Addrs {
				if a.Addr() == got.Addr && unusable(a) != "" {
					t.Errorf("%v is %s", a, unusable(a))
				}
			}
			if again, _ := Choose(f, o, links, byRoute); again.Addr != got.Addr || again.Link.Name != got.Link.Name {
				t.Errorf("%+v, and again %+v", got, again)
			}
			return
		}
		links = ofFamily(f, links)
		for _, l := range links {
			if len(o.Regexes) > 0 && l.MTU > 0 && len(ranked(l)) > 0 {
				t.Errorf("%s would do, but: %v", l.Name, err)
			}
			if !strings.Contains(err.Error(), l.Name+" (") {
				t.Errorf("%v does not list %s", err, l.Name)
			}
		}
	})
}

// TestPublicIPInside: a public IP that routing announces lies on an interface by which no
// packet leaves.
func TestPublicIPInside(t *testing.T) {
	ip := netip.MustParseAddr("10.255.0.21")
	tunnel := link("flannel.1", 1450, "10.255.0.21/32")
	tunnel.Kind = kernel.VXLAN{VNI: 1}
	dummy := link("anycast", 1500, "10.255.0.21/32")
	dummy.Type = "dummy"
	for _, inside := range []kernel.Link{link("lo", 65536, "127.0.0.1/8", "10.255.0.21/32"), dummy, tunnel} {
		links := []kernel.Link{inside, link("ens33", 1500, "10.4.7.21/24")}
		got, err := Choose(inet.IPv4, Options{PublicIP: ip}, links, func() (string, error) { return "ens33", nil })
		if err != nil || got.Link.Name != "ens33" || got.PublicIP != ip ||
			!strings.HasSuffix(got.Reason, "by --public-ip, which is on "+inside.Name+", though packets leave by ens33") {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
