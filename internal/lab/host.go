package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a machine with an interface ens33, and ens34 and so on where it has
// more addresses. It forwards packets, as a host with docker on it does.
type Host struct {
	*Node
	dir     string
	nics    []nic
	gateway netip.Addr // zero: it is the gateway itself
	docker  *bridge    // nil: no container yet
	daemons []*Daemon
}

type nic struct {
	name string
	addr netip.Prefix
	port port
}

// Host adds a host with an address such as "10.4.7.21/24", on the segment of
// that network. Its default gateway is the network's last address, as in most
// offices; whether a [Lab.Router] is there or not.
func (l *Lab) Host(name, addr string, more ...string) *Host {
	l.t.Helper()
	h := &Host{Node: l.newNode(name)}
	h.dir = l.dir(h.ns.name)
	for i, a := range append([]string{addr}, more...) {
		h.addNIC(fmt.Sprintf("ens%d", 33+i), a)
	}
	h.IP = h.nics[0].addr.Addr()
	if gateway := lastHost(h.nics[0].addr); gateway != h.IP {
		h.gateway = gateway
		h.addDefaultRoute()
	}
	h.Sysctl("net/ipv4/ip_forward", "1")
	l.hosts = append(l.hosts, h)
	return h
}

// Router adds a host that joins the segments of its addresses. Where the first
// is the last address of its network, it is its hosts' default gateway.
func (l *Lab) Router(name string, addrs ...string) *Host {
	l.t.Helper()
	return l.Host(name, addrs[0], addrs[1:]...)
}

// lastHost is the last address of p's network before the broadcast address.
func lastHost(p netip.Prefix) netip.Addr {
	first := p.Masked().Addr().As4()
	last := binary.BigEndian.Uint32(first[:]) | (1<<(32-p.Bits()) - 1)
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, last-1)))
}

func (h *Host) addNIC(name, addr string) {
	h.lab.t.Helper()
	p, err := netip.ParsePrefix(addr)
	h.lab.must("read an address of "+h.Name, err)
	port := h.lab.Segment(addr).connect(h.ns, name)
	h.lab.must("set an address of "+h.Name, h.ns.addAddress(name, p))
	h.nics = append(h.nics, nic{name, p, port})
}

func (h *Host) addDefaultRoute() {
	h.lab.t.Helper()
	h.lab.must("set the default route of "+h.Name, h.ns.addDefaultRoute(h.gateway, h.nics[0].name))
}

// Dir is a folder of the host's own, gone with the lab.
func (h *Host) Dir() string { return h.dir }

// SubnetFile is the path of the host's subnet.env.
func (h *Host) SubnetFile() string { return filepath.Join(h.dir, "subnet.env") }

// SubnetEnv writes the host's subnet.env by hand, as the tutorial does before
// flanneld's first start, for a subnet such as "172.7.21.1/24".
func (h *Host) SubnetEnv(subnet string) *Host {
	h.lab.t.Helper()
	const format = "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=%s\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n"
	content := fmt.Sprintf(format, subnet)
	h.lab.must("write subnet.env", os.WriteFile(h.SubnetFile(), []byte(content), 0o644))
	return h
}

// LinkDown sets ens33 down. The kernel drops the routes over it and keeps the
// address.
func (h *Host) LinkDown() {
	h.lab.t.Helper()
	h.lab.must("set ens33 down", h.ns.setDown(h.nics[0].name))
}

// LinkUp sets ens33 up, and restores the default route as network managers do.
func (h *Host) LinkUp() {
	h.lab.t.Helper()
	h.lab.must("set ens33 up", h.ns.setUp(h.nics[0].name))
	h.lab.must("set ens33 up", h.lab.wire.awaitCarrier(h.nics[0].port.name))
	if h.gateway.IsValid() {
		h.addDefaultRoute()
	}
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

func (n *namespace) addAddress(link string, p netip.Prefix) error {
	return n.nl.AddrAdd(named(link), &netlink.Addr{IPNet: ipNet(p)})
}

func (n *namespace) addDefaultRoute(via netip.Addr, link string) error {
	l, err := n.nl.LinkByName(link)
	if err != nil {
		return err
	}
	return n.nl.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: via.AsSlice(), Protocol: unix.RTPROT_BOOT})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
