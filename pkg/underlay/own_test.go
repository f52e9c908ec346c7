package underlay

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"flanneld/pkg/kernel"
)

// TestOwnBridge: the bridge of a host's containers is none of its needs, whatever is plugged into it, so that a start
// keeps the subnet.
func TestOwnBridge(t *testing.T) {
	network, own := prefix("172.7.0.0/16"), []netip.Prefix{prefix("172.7.21.0/24")}
	for name, tt := range map[string]struct {
		kind, port string
		own        []netip.Prefix
		want       int // needs within the network
	}{
		"containers alone":                 {"bridge", "veth", nil, 0},
		"a dummy":                          {"bridge", "dummy", own, 0},
		"a virtual machine":                {"bridge", "tun", own, 0},
		"Open vSwitch":                     {"openvswitch", "", own, 0},
		"a virtual machine, not our own":   {"bridge", "tun", nil, 1},
		"a card with an address of it":     {"device", "", own, 1},
		"a bridge of another subnet there": {"bridge", "tun", []netip.Prefix{prefix("172.7.22.0/24")}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			links := []kernel.Link{
				link("ens33", "device", "10.4.7.21/24"), link("docker0", tt.kind, "172.7.21.1/24"),
			}
			if tt.port != "" {
				port := link("port0", tt.port)
				port.Master = "docker0"
				links = append(links, port)
			}
			routes := []kernel.FoundRoute{route(unix.RTPROT_BOOT, "0.0.0.0/0 via 10.4.7.254 dev ens33")}
			h := Of([]string{"ens33"}, links, routes, nil, tt.own)
			if got := h.Within(network); len(got) != tt.want {
				t.Errorf("needs %v", got)
			}
			if got := h.Reserved(network, 24); len(got) != tt.want {
				t.Errorf("reserved %v", got)
			}
		})
	}
}

// TestNameServers: one in a network of which the host needs nothing else is a container; elsewhere it is a host.
func TestNameServers(t *testing.T) {
	server := func(a string) Need {
		n := Address(addr(a), "a name server")
		n.Resolver = true
		return n
	}
	routes := []kernel.FoundRoute{route(unix.RTPROT_BOOT, "0.0.0.0/0 via 10.4.7.254 dev ens33")}
	for name, tt := range map[string]struct {
		network, server, to string
		own                 []netip.Prefix
		takes               bool
		reserved            int
	}{
		"a peer's container":          {"172.7.0.0/16", "172.7.22.9", "172.7.22.0/24", nil, false, 0},
		"our own, before its bridge":  {"172.7.0.0/16", "172.7.21.9", "172.7.21.0/24", []netip.Prefix{prefix("172.7.21.0/24")}, false, 0},
		"a host among hosts":          {"10.4.0.0/16", "10.4.8.2", "10.4.8.0/24", nil, true, 2},
		"a host outside the network":  {"10.4.0.0/16", "10.9.8.2", "10.4.8.0/24", nil, false, 1},
		"before the network is known": {"", "10.4.8.2", "10.4.8.0/24", nil, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := Of([]string{"ens33"}, []kernel.Link{link("ens33", "device", "10.4.7.21/24")}, routes, []Need{server(tt.server)}, tt.own)
			var network netip.Prefix
			if tt.network != "" {
				network = prefix(tt.network)
			}
			if n, takes := h.Takes(network, prefix(tt.to)); takes != tt.takes {
				t.Errorf("takes %v: %v", n, takes)
			}
			if network.IsValid() {
				if got := h.Reserved(network, 24); len(got) != tt.reserved {
					t.Errorf("reserved %v", got)
				}
			}
		})
	}
}
