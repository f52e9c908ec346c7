package kernel

import (
	"net/netip"
	"strings"
)

// Link is what is known of a network interface.
type Link struct {
	Name  string
	Index int
	MTU   int // bytes
	Up    bool
	Addrs []Addr // in the kernel's order

	// NoIPv6: it takes no IPv6 address. That is switched off, or the MTU is below 1280.
	NoIPv6 bool

	// NoCarrier: it is not connected. The kernel then keeps routes by it, but no next hop
	// objects, nor takes any.
	NoCarrier bool

	Type   string // "vxlan", "veth"; "device" for hardware
	MAC    MAC
	Alias  string
	Master string // the bridge, or the like, that it is a port of; "" if none

	// Kind is what kind of device it is; nil: none that this package knows.
	Kind              DeviceKind
	Unserved          bool // it is a TUN device of ours, of user space, whose packets this Netlink does not carry
	NoChecksumOffload bool // read only where there is a Kind
}

// TAP is the Type of a TUN or TAP device, such as a virtual machine's.
const TAP = "tuntap"

// Addr is an address on an interface.
type Addr struct {
	netip.Prefix      // the address with the length of its network
	LinkLocal    bool // scope link or in 169.254.0.0/16 or fe80::/10: a global one is preferred

	// What only IPv6 addresses are.
	Temporary  bool // it changes every day, for privacy's sake
	Deprecated bool // it is to be used for nothing new
	Tentative  bool // it is not used yet: the kernel asks whether another host has it
	Duplicate  bool // another host has it
}

// formerWireGuard begins the names of the WireGuard devices of flannel, of whatever version.
const formerWireGuard = "flannel-wg"

// Tunnel tells a device of ours, by its alias, or of an older flannel, by its kind
// and name.
func (l Link) Tunnel() bool {
	former := strings.HasPrefix(l.Name, "flannel.") || strings.HasPrefix(l.Name, "flannel-v6.") ||
		strings.HasPrefix(l.Name, formerWireGuard)
	return l.Kind != nil && (l.Alias == Alias || former)
}

// Has reports whether ip is an address of the interface.
func (l Link) Has(ip netip.Addr) bool {
	for _, a := range l.Addrs {
		if a.Addr() == ip {
			return true
		}
	}
	return false
}
