// Package inet has what netip lacks: the family of an address as a value, and
// arithmetic on addresses of either family.
package inet

import "net/netip"

// Family is one of the two families of IP addresses.
type Family uint8

// The families, by their version numbers.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families are both, in the order in which everything looks at them.
func Families() []Family { return []Family{IPv4, IPv6} }

// Index is the family's place in Families, for what there is one of in each.
func (f Family) Index() int {
	if f == IPv4 {
		return 0
	}
	return 1
}

// Of is the family of an address. An IPv4 address that is written as an IPv6
// one (RFC 4291, 2.5.5.2) counts as IPv6, as in netip.
func Of(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// Bits is the length of an address.
func (f Family) Bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}
