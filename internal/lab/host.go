package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// Host is a machine with an interface ens33, and ens34 and so on where it has
// more of them. It forwards packets, as a host with docker on it does.
type Host struct {
	*Node
	dir        string
	nics       []nic
	docker     *bridge // nil: no container yet
	containers []*Container
	daemons    []*Daemon
}

type nic struct {
	name  string
	addrs []netip.Prefix
	port  port
}

// Host adds a host with an address such as "10.4.7.21/24", "fd00:4::21/64" or
// "10.4.7.21/24,fd00:4::21/64", on the segment of that network; each further one is
// that of another interface. Its default gateway is the network's last address, as in most
// offices, and by IPv6 the first one; whether a [Lab.Router] is there or not.
func (l *Lab) Host(name, addrs string, more ...string) *Host {
	l.t.Helper()
	h := &Host{Node: l.newNode(name)}
	h.dir = l.dir(h.ns.name)
	for i, a := range append([]string{addrs}, more...) {
		h.addNIC(fmt.Sprintf("ens%d", 33+i), a)
	}
	for _, p := range h.nics[0].addrs {
		h.ips = append(h.ips, p.Addr())
	}
	h.IP = h.ips[0]
	h.addDefaultRoutes()
	h.Sysctl("net/ipv4/ip_forward", "1")
	l.hosts = append(l.hosts, h)
	return h
}

// Router adds a host that joins the segments of its addresses. Where the first
// are the gateways of their networks, it is its hosts' default gateway.
func (l *Lab) Router(name string, addrs ...string) *Host {
	l.t.Helper()
	return l.Host(name, addrs[0], addrs[1:]...)
}

// gateway is the default gateway of p's network.
func gateway(p netip.Prefix) netip.Addr {
	if inet.Of(p.Addr()) == inet.IPv4 {
		return inet.Last(p).Prev() // before the broadcast address
	}
	return p.Masked().Addr().Next()
}

func (h *Host) addNIC(name, addrs string) {
	h.lab.t.Helper()
	n := nic{name: name}
	for _, a := range strings.Split(addrs, ",") {
		p, err := netip.ParsePrefix(a)
		h.lab.must("read an address of "+h.Name, err)
		n.addrs = append(n.addrs, p)
		if inet.Of(p.Addr()) == inet.IPv6 {
			h.lab.must("have IPv6 on "+h.Name, h.ns.enableIPv6())
			h.Sysctl("net/ipv6/conf/all/forwarding", "1")
		}
	}
	n.port = h.lab.segment(n.addrs).connect(h.ns, name)
	h.nics = append(h.nics, n)
	for _, p := range n.addrs {
		h.lab.must("set an address of "+h.Name, h.ns.addAddress(name, p))
	}
}

func (h *Host) addDefaultRoutes() {
	h.lab.t.Helper()
	for _, p := range h.nics[0].addrs {
		if g := gateway(p); g != p.Addr() { // it is not the gateway itself
			h.lab.must("set the default route of "+h.Name, h.ns.addDefaultRoute(g, h.nics[0].name))
		}
	}
}

// Dir is a folder of the host's own, gone with the lab.
func (h *Host) Dir() string { return h.dir }

// SubnetFile is the path of the host's subnet.env.
func (h *Host) SubnetFile() string { return filepath.Join(h.dir, "subnet.env") }

// KeyFile is the path of the host's private key for WireGuard.
func (h *Host) KeyFile() string { return filepath.Join(h.dir, "wgkey") }

// SubnetEnv writes the host's subnet.env by hand, as the tutorial does before
// flanneld's first start, for a subnet such as "172.7.21.1/24", and one of IPv6
// behind it or alone, such as "fc00:7:0:21::1/64".
func (h *Host) SubnetEnv(subnets ...string) *Host {
	h.lab.t.Helper()
	content := ""
	for _, s := range subnets {
		name, network := "FLANNEL_", "172.7.0.0/16"
		if strings.Contains(s, ":") {
			name, network = "FLANNEL_IPV6_", "fc00:7::/48"
		}
		content += name + "NETWORK=" + network + "\n" + name + "SUBNET=" + s + "\n"
	}
	content += "FLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"
	h.lab.must("write subnet.env", os.WriteFile(h.SubnetFile(), []byte(content), 0o644))
	return h
}

// LinkDown sets ens33 down. The kernel drops the routes over it, keeps the IPv4
// address and drops that of IPv6.
func (h *Host) LinkDown() {
	h.lab.t.Helper()
	h.lab.must("set ens33 down", h.ns.setDown(h.nics[0].name))
}

// LinkUp sets ens33 up, and restores what LinkDown took as network managers do, with
// the default routes.
func (h *Host) LinkUp() {
	h.lab.t.Helper()
	h.lab.must("set ens33 up", h.ns.setUp(h.nics[0].name))
	h.lab.must("set ens33 up", h.lab.wire.awaitCarrier(h.nics[0].port.name))
	h.lab.must("set ens33 up", h.ns.awaitLinkLocal(h.nics[0].name))
	for _, p := range h.nics[0].addrs {
		if inet.Of(p.Addr()) == inet.IPv6 {
			h.lab.must("set ens33 up", h.ns.addAddress(h.nics[0].name, p))
		}
	}
	h.addDefaultRoutes()
}

// Unplug pulls the cable of ens33, which loses its carrier.
func (h *Host) Unplug() {
	h.lab.t.Helper()
	h.lab.must("pull a cable", h.lab.wire.setDown(h.nics[0].port.name))
}

// Plug puts the cable back.
func (h *Host) Plug() {
	h.lab.t.Helper()
	h.lab.must("plug a cable in", h.lab.wire.setUp(h.nics[0].port.name))
	h.lab.must("plug a cable in", h.lab.wire.awaitCarrier(h.nics[0].port.name))
	h.lab.must("plug a cable in", h.ns.awaitLinkLocal(h.nics[0].name))
}

// Cut drops all packets between the host and its segments. It keeps its carrier, so
// it gets no event.
func (h *Host) Cut() {
	h.lab.t.Helper()
	for _, n := range h.nics {
		n.port.cut()
	}
}

// Heal ends a Cut.
func (h *Host) Heal() {
	h.lab.t.Helper()
	for _, n := range h.nics {
		n.port.heal()
	}
}

// addAddress adds an address. It is usable at once: the lab does
// not wait for the search for a duplicate, which IPv6 makes (RFC 4862, 5.4).
func (n *namespace) addAddress(link string, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if inet.Of(p.Addr()) == inet.IPv6 {
		a.Flags = unix.IFA_F_NODAD
	}
	return n.nl.AddrAdd(named(link), a)
}

func (n *namespace) addDefaultRoute(via netip.Addr, link string) error {
	l, err := n.nl.LinkByName(link)
	if err != nil {
		return err
	}
	return n.nl.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: via.AsSlice(), Protocol: unix.RTPROT_BOOT})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
