package underlay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }

func link(name, kind string, addrs ...string) kernel.Link {
	l := kernel.Link{Name: name, Type: kind, Up: true}
	for _, a := range addrs {
		l.Addrs = append(l.Addrs, kernel.Addr{Prefix: prefix(a)})
	}
	return l
}

// route reads "10.4.8.0/24 via 10.4.7.254 dev ens33".
func route(protocol int, text string) kernel.FoundRoute {
	w := strings.Fields(text)
	r := kernel.FoundRoute{Route: kernel.Route{Dst: prefix(w[0])}, Protocol: protocol}
	for i := 1; i+1 < len(w); i += 2 {
		switch w[i] {
		case "via":
			r.Via = addr(w[i+1])
		case "dev":
			r.Dev = w[i+1]
		}
	}
	return r
}

// host is that of the measured fault: 10.4.7.21 behind a gateway, etcd in another
// segment, and containers of its own.
func host(more ...string) Host {
	tunnel := link("flannel.1", "vxlan", "10.4.21.0/32")
	tunnel.Kind, tunnel.Alias = kernel.VXLAN{VNI: 1}, kernel.Alias
	links := []kernel.Link{
		link("lo", "device", "127.0.0.1/8"), link("ens33", "device", "10.4.7.21/24"), tunnel,
		link("docker0", "bridge", "10.4.21.1/24"), link("veth1", "veth"),
	}
	links[4].Master = "docker0"
	routes := []kernel.FoundRoute{
		route(unix.RTPROT_BOOT, "0.0.0.0/0 via 10.4.7.254 dev ens33"),
		route(unix.RTPROT_KERNEL, "10.4.7.0/24 dev ens33"),
		route(unix.RTPROT_KERNEL, "10.4.21.0/24 dev docker0"),
		route(kernel.Protocol, "10.4.22.0/24 via 10.4.22.0 dev flannel.1"),
		route(unix.RTPROT_STATIC, "10.77.0.0/16 via 10.4.22.9 dev flannel.1"), // by a container of a peer's
		route(unix.RTPROT_STATIC, "10.78.0.0/16 via 10.4.21.9 dev docker0"),   // by one of this host's
	}
	for _, r := range more {
		routes = append(routes, route(unix.RTPROT_STATIC, r))
	}
	return Of([]string{"ens33"}, links, routes, []Need{
		Address(addr("10.4.8.12"), "etcd"), Address(addr("127.0.0.1"), "etcd"), Address(addr("10.4.21.5"), "etcd in a container here"),
	}, []netip.Prefix{prefix("10.4.21.0/24")})
}

// dual is a host of both families: each is as if the other was not there.
func dual(more ...string) Host {
	tunnel, tunnel6 := link("flannel.1", "vxlan", "10.4.21.0/32"), link("flannel-v6.1", "vxlan", "fd00:4:0:21::/128", "fe80::9/64")
	tunnel.Kind, tunnel6.Kind = kernel.VXLAN{VNI: 1}, kernel.VXLAN{VNI: 1}
	links := []kernel.Link{
		link("lo", "device", "127.0.0.1/8", "::1/128"),
		link("ens33", "device", "10.4.7.21/24", "fd00:4:0:7::21/64", "fd00:4:0:6::21/128", "fe80::1/64"), tunnel, tunnel6,
		link("docker0", "bridge", "10.4.21.1/24", "fd00:4:0:21::1/64", "fe80::2/64"), link("veth1", "veth", "fe80::3/64"),
	}
	links[5].Master = "docker0"
	routes := []kernel.FoundRoute{
		route(unix.RTPROT_BOOT, "0.0.0.0/0 via 10.4.7.254 dev ens33"),
		route(unix.RTPROT_KERNEL, "10.4.7.0/24 dev ens33"),
		route(unix.RTPROT_RA, "::/0 via fe80::fe dev ens33"),
		route(unix.RTPROT_STATIC, "fd99::/32 via fd00:4:0:7::fd dev ens33"),
		route(unix.RTPROT_KERNEL, "fd00:4:0:7::/64 dev ens33"),
		route(unix.RTPROT_KERNEL, "fe80::/64 dev ens33"),
		route(unix.RTPROT_KERNEL, "fd00:4:0:21::/128 dev flannel-v6.1"),
		route(unix.RTPROT_KERNEL, "fd00:4:0:21::/64 dev docker0"),
		route(kernel.Protocol, "fd00:4:0:22::/64 via fd00:4:0:22:: dev flannel-v6.1"),
		route(unix.RTPROT_STATIC, "fd77::/32 via fd00:4:0:21::9 dev docker0"),
	}
	for _, r := range more {
		routes = append(routes, route(unix.RTPROT_STATIC, r))
	}
	return Of([]string{"ens33"}, links, routes, []Need{
		Address(addr("10.4.8.12"), "etcd"), Address(addr("fd00:4:0:8::12"), "etcd"), Address(addr("::1"), "etcd"),
		Address(addr("fe80::53"), "a name server"), Address(addr("fd00:4:0:21::5"), "etcd in a container here"),
	}, []netip.Prefix{prefix("10.4.21.0/24"), prefix("fd00:4:0:21::/64")})
}

// TestTakesOfIPv6 is TestTakes for a host of both families.
func TestTakesOfIPv6(t *testing.T) {
	for _, tt := range []struct {
		name, network, route string
		more                 string // a further route of the host
		takes                string // "": nothing
	}{
		{"nothing", "fd00:4::/48", "fd00:4:0:22::/64", "", ""},
		{"etcd", "fd00:4::/48", "fd00:4:0:8::/64", "", "fd00:4:0:8::12 (etcd)"},
		{"beside etcd", "fd00:4::/48", "fd00:4:0:8:8000::/65", "", ""},
		{"etcd, to which a route is longer", "fd00:4::/48", "fd00:4:0:8::/64", "fd00:4:0:8::12/128 via fd00:4:0:7::fe dev ens33", ""},
		{"a network of the host's", "fd00:4::/48", "fd00:4:0:7::/64", "", "fd00:4:0:7::fd (the gateway to fd99::/32)"},
		{"half of it, without the gateway", "fd00:4::/48", "fd00:4:0:7:8000::/65", "", "fd00:4:0:7::/64 (the network of ens33)"},
		{"what holds it whole", "fd00:4::/48", "fd00:4:0:6::/63", "", ""},
		{"containers' own network", "fd00:4::/48", "fd00:4:0:21::/64", "", ""},
		{"set aside", "fd00:4:0:7:1::/80", "fd00:4:0:7:1:8000::/81", "", ""},
		{"elsewhere", "fc00:7::/48", "fc00:7:0:22::/64", "", ""},
		{"the other family's network", "10.4.0.0/16", "10.4.8.0/24", "", "10.4.8.12 (etcd)"},
		{"link-local", "fe80::/10", "fe80::/64", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := dual()
			if tt.more != "" {
				h = dual(tt.more)
			}
			got := ""
			if n, taken := h.Takes(prefix(tt.network), prefix(tt.route)); taken {
				got = n.String()
			}
			if got != tt.takes {
				t.Errorf("a route to %s takes %q, want %q", tt.route, got, tt.takes)
			}
		})
	}
	h := dual()
	want := []string{"fd00:4:0:8::12 (etcd)", "fd00:4:0:7::/64 (the network of ens33)"}
	if got := texts(h.Within(prefix("fd00:4::/48"))); !slices.Equal(got, want) {
		t.Errorf("within: %q, want %q", got, want)
	}
	if got := h.Reserved(prefix("fd00:4::/48"), 64); !slices.Equal(got, []netip.Prefix{prefix("fd00:4:0:8::12/128"), prefix("fd00:4:0:7::/64")}) {
		t.Errorf("reserved: %v", got)
	}
	if got := texts(h.Networks()); !slices.Equal(got, []string{"10.4.7.0/24 (the network of ens33)", "fd00:4:0:7::/64 (the network of ens33)"}) {
		t.Errorf("networks: %q", got)
	}
	for ip, want := range map[string]bool{"fd00:4:0:7::99": true, "10.4.7.99": true, "fe80::99": false, "fd00:4:0:8::12": false} {
		if h.Houses(addr(ip)) != want {
			t.Errorf("houses %s: %t", ip, !want)
		}
	}
	for to, want := range map[string]string{"::/0": "", "::/1": "", "8000::/1": "fd00:4:0:8::12 (etcd)", "fd00:4:0:8::/64": "fd00:4:0:8::12 (etcd)", "fe80::/64": "", "fd00:4:0:7::/65": "fd00:4:0:7::fd (the gateway to fd99::/32)"} {
		got := ""
		if n, taken := h.Diverts(prefix(to), 0); taken {
			got = n.String()
		}
		if got != want {
			t.Errorf("a route to %s takes %q, want %q", to, got, want)
		}
	}
	if why := h.NoHost(addr("fd00:4:0:7:ffff:ffff:ffff:ffff")); why != "" {
		t.Error(why)
	}
}

// TestTakes is the truth table of what a route takes away.
func TestTakes(t *testing.T) {
	for _, tt := range []struct {
		name, network, route string
		more                 string // a further route of the host
		takes                string // "": nothing
	}{
		{"nothing", "10.4.0.0/16", "10.4.22.0/24", "", ""},
		{"etcd", "10.4.0.0/16", "10.4.8.0/24", "", "10.4.8.12 (etcd)"},
		{"beside etcd", "10.4.0.0/16", "10.4.8.16/28", "", ""},
		{"etcd, by a wide route", "10.0.0.0/8", "10.4.0.0/14", "", "10.4.8.12 (etcd)"},
		{"etcd, to which a route is longer", "10.4.0.0/16", "10.4.8.0/24", "10.4.8.12/32 via 10.4.7.254 dev ens33", ""},
		{"etcd, to which a route is as long: the metric decides", "10.4.0.0/16", "10.4.8.0/24", "10.4.8.0/24 via 10.4.7.254 dev ens33", "10.4.8.12 (etcd)"},
		{"etcd, to which a route is shorter", "10.4.0.0/16", "10.4.8.0/24", "10.4.8.0/23 via 10.4.7.254 dev ens33", "10.4.8.12 (etcd)"},
		{"a network of the host's: the metric decides", "10.4.0.0/16", "10.4.7.0/24", "", "10.4.7.254 (the default gateway)"},
		{"half of it, without the gateway", "10.4.0.0/16", "10.4.7.0/25", "", "10.4.7.0/24 (the network of ens33)"},
		{"half of it, with the gateway", "10.4.0.0/16", "10.4.7.128/25", "", "10.4.7.254 (the default gateway)"},
		{"what holds it whole: its own route is longer", "10.4.0.0/16", "10.4.6.0/23", "", ""},
		{"a gateway to some network", "10.4.0.0/16", "10.4.9.0/24", "10.99.0.0/16 via 10.4.9.1 dev ens33", "10.4.9.1 (the gateway to 10.99.0.0/16)"},
		{"a gateway on the way of which a route is longer", "10.4.0.0/16", "10.4.9.0/24", "10.4.9.1/32 dev ens33", ""},
		{"containers' own network", "10.4.0.0/16", "10.4.21.0/24", "", ""},
		{"a peer that is a gateway", "10.4.0.0/16", "10.4.22.0/24", "", ""},
		{"a part of the hosts' network set aside", "10.4.7.64/26", "10.4.7.64/28", "", ""},
		{"the same, with the gateway in it", "10.4.7.192/26", "10.4.7.240/28", "", "10.4.7.254 (the default gateway)"},
		{"all of the hosts' network", "10.4.7.0/24", "10.4.7.32/28", "", ""}, // on purpose: subnets that there are stay,
		{"elsewhere", "172.7.0.0/16", "172.7.22.0/24", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := host()
			if tt.more != "" {
				h = host(tt.more)
			}
			got := ""
			if n, taken := h.Takes(prefix(tt.network), prefix(tt.route)); taken {
				got = n.String()
			}
			if got != tt.takes {
				t.Errorf("a route to %s takes %q, want %q", tt.route, got, tt.takes)
			}
		})
	}
	// A route that is as long as a network's own, with nothing known to be in it.
	bare := Of([]string{"ens33"}, []kernel.Link{link("ens33", "device", "10.4.7.21/24")}, nil, nil, nil)
	if n, taken := bare.Takes(prefix("10.4.0.0/16"), prefix("10.4.7.0/24")); !taken || n.String() != "10.4.7.0/24 (the network of ens33)" {
		t.Errorf("it takes %v: %t", n, taken)
	}
	// Before the network is known, only addresses count.
	if n, taken := host().Takes(netip.Prefix{}, prefix("10.4.7.0/25")); taken {
		t.Errorf("it takes %v", n)
	}
	if _, taken := host().Takes(netip.Prefix{}, prefix("10.4.8.0/24")); !taken {
		t.Error("etcd is taken away")
	}
}

// TestDiverts is the truth table of what somebody else's route into the tunnel takes.
func TestDiverts(t *testing.T) {
	for _, tt := range []struct {
		name, to string
		metric   int
		takes    string // "": nothing
	}{
		{"the default, as good as the host's", "0.0.0.0/0", 0, ""},
		{"half of everything", "0.0.0.0/1", 0, "10.4.8.12 (etcd)"},
		{"etcd", "10.4.8.0/24", 100, "10.4.8.12 (etcd)"},
		{"half of the hosts' network", "10.4.7.0/25", 0, "10.4.7.0/24 (the network of ens33)"},
		{"all of it, as good as the host's", "10.4.7.0/24", 0, ""},
		{"elsewhere", "169.254.0.0/16", 0, ""},
	} {
		got := ""
		if n, taken := host().Diverts(prefix(tt.to), tt.metric); taken {
			got = n.String()
		}
		if got != tt.takes {
			t.Errorf("%s: it takes %q, want %q", tt.name, got, tt.takes)
		}
	}
	if n, taken := (Host{}).Diverts(prefix("0.0.0.0/0"), 0); !taken || n.What != "all that has no other route" {
		t.Errorf("the only default route takes %v", n)
	}
}

func texts(needs []Need) (out []string) {
	for _, n := range needs {
		out = append(out, n.String())
	}
	return out
}

func TestWithin(t *testing.T) {
	for _, tt := range []struct {
		network string
		within  []string
		around  []string
		own     []string // what no subnet of the host's own may overlap
	}{
		{"10.4.0.0/16", []string{"10.4.8.12 (etcd)", "10.4.7.0/24 (the network of ens33)"}, nil, []string{"10.4.8.12/32", "10.4.7.0/24"}},
		{"10.4.7.0/24", []string{"10.4.7.0/24 (the network of ens33)"}, nil, []string{"10.4.7.0/24"}},
		{"10.4.7.192/26", []string{"10.4.7.254 (the default gateway)"}, []string{"10.4.7.0/24 (the network of ens33)"}, []string{"10.4.7.254/32"}},
		{"10.4.7.64/26", nil, []string{"10.4.7.0/24 (the network of ens33)"}, nil},
		{"172.7.0.0/16", nil, nil, nil},
	} {
		h, n := host(), prefix(tt.network)
		if got := texts(h.Within(n)); !slices.Equal(got, tt.within) {
			t.Errorf("within %v: %q, want %q", n, got, tt.within)
		}
		if got := texts(Around(h.needs, n)); !slices.Equal(got, tt.around) {
			t.Errorf("around %v: %q, want %q", n, got, tt.around)
		}
		if got := h.Overlaps(n); got != (len(tt.within)+len(tt.around) > 0) {
			t.Errorf("overlaps %v: %t", n, got)
		}
		var own []string
		for _, p := range h.Reserved(n, 28) {
			own = append(own, p.String())
		}
		if !slices.Equal(own, tt.own) {
			t.Errorf("reserved of %v: %q, want %q", n, own, tt.own)
		}
	}
	// A longer route to etcd than the containers' bridge would have.
	if got := host("10.4.8.12/32 via 10.4.7.254 dev ens33").Reserved(prefix("10.4.0.0/16"), 24); len(got) != 1 {
		t.Errorf("reserved: %v", got)
	}
}

// TestBridges: by which bridge other hosts are reached.
func TestBridges(t *testing.T) {
	nic := link("ens33", "device")
	nic.Master = "br0"
	box := link("veth1", "veth")
	box.Master = "br0"
	own := link("br0", "bridge", "10.4.7.21/24")
	for name, tt := range map[string]struct {
		external string
		links    []kernel.Link
		routes   []kernel.FoundRoute
		needed   bool
	}{
		"with an interface as port":  {"", []kernel.Link{own, nic, box}, nil, true},
		"with containers alone":      {"", []kernel.Link{own, box}, nil, false},
		"without a port":             {"ens34", []kernel.Link{own}, nil, false},
		"which is the external one":  {"br0", []kernel.Link{own, box}, nil, true},
		"with the default route":     {"", []kernel.Link{own, box}, []kernel.FoundRoute{route(unix.RTPROT_BOOT, "0.0.0.0/0 via 10.4.7.254 dev br0")}, true},
		"with a route to containers": {"", []kernel.Link{own, box}, []kernel.FoundRoute{route(unix.RTPROT_BOOT, "10.9.0.0/16 via 10.4.7.9 dev br0")}, false},
	} {
		if got := Of([]string{tt.external}, tt.links, tt.routes, nil, nil).Overlaps(prefix("10.4.0.0/16")); got != tt.needed {
			t.Errorf("a bridge %s is needed: %t", name, got)
		}
	}
}

func TestNoHost(t *testing.T) {
	h := Of([]string{"ens33"}, []kernel.Link{link("ens33", "device", "10.4.7.21/24", "10.9.0.0/31", "10.9.1.1/32", "fd00::1/64")}, nil, nil, nil)
	for ip, want := range map[string]string{
		"10.4.7.255": "the broadcast address of 10.4.7.0/24 (the network of ens33)",
		"10.4.7.0":   "the network address of 10.4.7.0/24 (the network of ens33)",
		"10.4.7.254": "", "10.4.8.255": "", "10.9.0.0": "", "10.9.0.1": "", "10.9.1.1": "", "fd00::": "",
	} {
		if got := h.NoHost(addr(ip)); got != want {
			t.Errorf("%s: %q, want %q", ip, got, want)
		}
	}
}

func TestResolvers(t *testing.T) {
	got := Resolvers("# comment\nnameserver 10.4.7.11\nsearch host.com\n nameserver\t127.0.0.53 \nnameserver fe80::1%ens33\nnameserver nonsense\nnameserver\n")
	if want := []netip.Addr{addr("10.4.7.11"), addr("127.0.0.53"), addr("fe80::1")}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestTakesAsTheKernel compares with a table of routes that is looked up as the
// kernel does it: what is needed is taken exactly where ours wins, or may.
func TestTakesAsTheKernel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom(inet.Families()).Draw(t, "family")
		network := map[inet.Family]netip.Prefix{inet.IPv4: prefix("10.4.0.0/16"), inet.IPv6: prefix("fd00:4::/112")}[f]
		draw := func(name string, least int) netip.Prefix { // least: bits that are left at most
			bytes := network.Addr().AsSlice()
			at := len(bytes) - 2
			bytes[at] = byte(rapid.IntRange(0, 3).Draw(t, name))
			bytes[at+1] = rapid.SampledFrom([]byte{0, 1, 127, 128, 254}).Draw(t, name)
			a, _ := netip.AddrFromSlice(bytes)
			return netip.PrefixFrom(a, rapid.IntRange(f.Bits()-least, f.Bits()).Draw(t, name)).Masked()
		}
		ours, etcd := draw("ours", 14), draw("etcd", 0)
		routes := []kernel.FoundRoute{
			route(unix.RTPROT_BOOT, "0.0.0.0/0 dev ens33"), route(unix.RTPROT_RA, "::/0 dev ens33"),
			route(unix.RTPROT_STATIC, "10.4.0.0/32 dev ens33"), route(unix.RTPROT_STATIC, "fd00:4::/128 dev ens33"),
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "routes") {
			routes = append(routes, route(unix.RTPROT_STATIC, fmt.Sprintf("%v dev ens33", draw(fmt.Sprint("route", i), 16))))
		}
		longest := -1
		for _, r := range routes {
			if r.Dst.Contains(etcd.Addr()) {
				longest = max(longest, r.Dst.Bits())
			}
		}
		want := ours.Contains(etcd.Addr()) && ours.Bits() >= longest
		h := Of([]string{"ens33"}, nil, routes, []Need{{Prefix: etcd, What: "etcd"}}, nil)
		if _, got := h.Takes(network, ours); got != want {
			t.Fatalf("ours %v takes %v: %t, want %t; routes %v", ours, etcd, got, want, routes)
		}
	})
}
