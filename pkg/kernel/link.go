package kernel

import "net/netip"

// Link is what is known of a network interface.
type Link struct {
	Name  string
	Index int
	MTU   int // bytes
	Up    bool
	Addrs []Addr // IPv4, in the kernel's order

	Kind  string // "vxlan", "veth"; "device" for hardware
	MAC   MAC
	Alias string
	VXLAN *VXLAN // its attributes where Kind is "vxlan", without Addr
}

// Addr is an IPv4 address on an interface.
type Addr struct {
	netip.Prefix      // the address with the length of its network
	LinkLocal    bool // scope link or in 169.254.0.0/16: a global one is preferred
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
