package subnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flanneld/pkg/inet"
)

// Subnets are those of one lease: one of each family at most, IPv4's first. They come
// and go together.
type Subnets [2]netip.Prefix

// SubnetsOf are these, of which none is of the same family as another.
func SubnetsOf(all ...netip.Prefix) (s Subnets) {
	for _, p := range all {
		if p.IsValid() {
			s[inet.Of(p.Addr()).Index()] = p
		}
	}
	return s
}

// Of is the subnet of a family; invalid: there is none.
func (s Subnets) Of(f inet.Family) netip.Prefix { return s[f.Index()] }

// First is IPv4's if there is one.
func (s Subnets) First() netip.Prefix {
	if s[0].IsValid() {
		return s[0]
	}
	return s[1]
}

// All are those that there are.
func (s Subnets) All() []netip.Prefix {
	from, to := 0, len(s)
	if !s[0].IsValid() {
		from = 1
	}
	if !s[1].IsValid() {
		to = 1
	}
	return s[from:to:to]
}

// has reports whether p is one of them.
func (s Subnets) has(p netip.Prefix) bool { return p.IsValid() && s.Of(inet.Of(p.Addr())) == p }

// covers reports whether all of o are among them.
func (s Subnets) covers(o Subnets) bool {
	return !slices.ContainsFunc(o.All(), func(p netip.Prefix) bool { return !s.has(p) })
}

// shares reports whether one of o is among them.
func (s Subnets) shares(o Subnets) bool { return slices.ContainsFunc(o.All(), s.has) }

func (s Subnets) dual() bool { return s[0].IsValid() && s[1].IsValid() }

// String is "172.7.21.0/24", or "172.7.21.0/24 and fd00:7:0:21::/64".
func (s Subnets) String() string {
	var texts []string
	for _, p := range s.All() {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, " and ")
}

// Key is the place below the prefix of a lease with these subnets. These are flannel's
// forms (0.11 had the first alone):
//
//	subnets/172.7.21.0-24
//	subnets/172.7.21.0-24&fd00:7:0:21::-64
//	subnets/0.0.0.0-0&fd00:7:0:21::-64
func (s Subnets) Key() string {
	if !s[1].IsValid() {
		return LeaseDir + "/" + half(s[0])
	}
	four := s[0]
	if !four.IsValid() {
		four = none
	}
	return LeaseDir + "/" + half(four) + DualStack + half(s[1])
}

// none stands for IPv4 in the key of a lease of IPv6 alone.
var none = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// DualStack is between the two subnets of a key.
const DualStack = "&"

func half(p netip.Prefix) string { return p.Addr().String() + "-" + strconv.Itoa(p.Bits()) }

// Key is the place below the prefix of a lease of one subnet.
func Key(subnet netip.Prefix) string { return SubnetsOf(subnet).Key() }

// ParseKey reads the subnets that a lease's key names. It is the inverse of Subnets.Key.
// An IPv6 subnet that is none takes nothing away from the IPv4 one beside it.
func ParseKey(key string) (s Subnets, err error) {
	name, ok := strings.CutPrefix(key, LeaseDir+"/")
	first, second, dual := strings.Cut(name, DualStack)
	four, err := parseHalf(first)
	ok = ok && err == nil && four.Addr().Is4() && four == four.Masked()
	if !dual || four != none {
		s[0] = four
	}
	if dual {
		six, err := parseHalf(second)
		ok = ok && err == nil && six.Addr().Is6()
		if six.Bits() > 0 && six == six.Masked() {
			s[1] = six
		}
	}
	if !ok || !s.First().IsValid() {
		return Subnets{}, fmt.Errorf("must name an IPv4 subnet in the form %[1]s/172.7.21.0-24, or both in the form "+
			"%[1]s/172.7.21.0-24%[2]sfd00:7:0:21::-64", LeaseDir, DualStack)
	}
	return s, nil
}

func parseHalf(s string) (netip.Prefix, error) {
	addr, bits, _ := strings.Cut(s, "-")
	return netip.ParsePrefix(addr + "/" + bits) // which takes neither zeros nor signs in front
}

// isDual tells of a lease's key whether it names two subnets, or none of IPv4.
func isDual(key string) bool { return strings.Contains(key, DualStack) }
