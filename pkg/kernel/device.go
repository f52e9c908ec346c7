package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"flanneld/pkg/inet"
)

// Device is a tunnel's end on this host: an interface of ours that is up.
type Device struct {
	Name  string
	Kind  DeviceKind
	MTU   int // bytes
	MAC   MAC // zero: its kind has none
	Addrs DeviceAddrs

	// NoChecksumOffload lets the CPU compute transmit checksums. Kernels before
	// 5.7 get them wrong on some NICs when they are left to the device.
	NoChecksumOffload bool
}

// DeviceAddrs are a device's own addresses, one of each family at most: IPv4's
// first.
type DeviceAddrs [2]DeviceAddr

// DeviceAddr is an address of a device.
type DeviceAddr struct {
	netip.Prefix // scope global; invalid: there is none

	// What an earlier run wrote has no mark: it is told by what only such a
	// device has, the first address of a subnet of this network.
	Network   netip.Prefix
	SubnetLen int // bits
}

// AddrsOf are addresses of different families.
func AddrsOf(addrs ...DeviceAddr) (all DeviceAddrs) {
	for _, a := range addrs {
		all[inet.Of(a.Addr()).Index()] = a
	}
	return all
}

// former reports whether p can be what this was while the host held another
// subnet, or what flannel up to 0.7 wrote: with the length of the network.
func (a DeviceAddr) former(p netip.Prefix) bool {
	start, err := p.Addr().Prefix(a.SubnetLen)
	return err == nil && (p.IsSingleIP() || p.Bits() == a.Network.Bits()) && a.Network.Contains(p.Addr()) &&
		start.Addr() == p.Addr()
}

func (a DeviceAddrs) former(p netip.Prefix) bool { return a.Of(inet.Of(p.Addr())).former(p) }

// Of is the address of a family.
func (a DeviceAddrs) Of(f inet.Family) DeviceAddr { return a[f.Index()] }

// Has reports whether p is one of the addresses.
func (a DeviceAddrs) Has(p netip.Prefix) bool {
	return p.IsValid() && a.Of(inet.Of(p.Addr())).Prefix == p
}

// lengthOff tells an IPv6 address that has the place of one of these: a device has each but
// once, whatever its length.
func (a DeviceAddrs) lengthOff(p netip.Prefix) bool {
	of := a.Of(inet.IPv6)
	return p.Addr().Is6() && of.IsValid() && of.Addr() == p.Addr() && of.Prefix != p
}

// DeviceKind is one sort of tunnel, with its settings. Its types compare with ==, so Devices do; kinds lists them.
// They know their netlink messages, and nobody else does.
type DeviceKind interface {
	// Type is its name in `ip link add NAME type TYPE`.
	Type() string
	// Args are what follows there, each after a blank.
	Args() string
	// Incompatible names what differs on an existing device of this type and cannot be
	// changed, and how; "" if nothing does.
	Incompatible(with DeviceKind) string
	// Differs names what differs of what can be changed, and shows no secret; "" if nothing does.
	Differs(from DeviceKind) string
	// Change is the command that changes what can be, on a device.
	Change(dev string) string
	// Encapsulation is how its packets look between hosts.
	Encapsulation() Encapsulation

	// make makes a device, or takes up one that is there and that no process serves.
	make(n *Netlink, d Device) error
	// change makes what can be changed as it is here.
	change(n *Netlink, dev string) error
	// read is the kind of an existing device of this type; nil: it cannot be told.
	read(n *Netlink, l netlink.Link) DeviceKind
	// advice says what to do about the kernel's refusal; "" if it is not known.
	advice(err error) string
}

// kinds are those that this package knows.
func kinds() []DeviceKind { return []DeviceKind{VXLAN{}, WireGuard{}} }

// Encapsulation is what the hosts and the firewalls between them see of a
// tunnel's packets.
type Encapsulation struct {
	Protocol string // as iptables -p names it: "udp"
	Port     int    // at the receiving side; 0: the protocol has none
	ID       int    // tells tunnels of one port apart, as a VNI does
}

// differs says what is another on a device than it should be.
func differs(what string, has, wants any) string {
	return fmt.Sprintf("its %s is %v, not %v", what, has, wants)
}

// incompatible names the attribute that cannot be changed on the existing
// device; "" if there is none.
func incompatible(l Link, d Device) string {
	if l.Unserved && userspace(d.Kind) {
		return ""
	}
	if l.Kind == nil || l.Kind.Type() != d.Kind.Type() {
		return fmt.Sprintf("it is of kind %q, not %s", l.Type, d.Kind.Type())
	}
	return d.Kind.Incompatible(l.Kind)
}
