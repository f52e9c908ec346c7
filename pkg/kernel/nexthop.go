package kernel

import (
	"fmt"
	"hash/fnv"
	"net/netip"
)

// Nexthop is a next hop object (ip-nexthop(8), since Linux 5.3): routes that are
// written by it lead where it does. The kernel puts all plain routes by one device
// into one list, which it searches for each that is added; those by an object not.
type Nexthop struct {
	ID uint32
	Hop
}

// Hop is where routes lead.
type Hop struct {
	Via    netip.Addr // the gateway
	Dev    string
	OnLink bool
}

func (n Nexthop) key() uint32 { return n.ID }

func (h Hop) String() string {
	s := fmt.Sprintf("via %v dev %s", h.Via, h.Dev)
	if h.OnLink {
		s += " onlink"
	}
	return s
}

// Our ids are those whose highest byte is our protocol: the kernel counts from 1
// where it chooses, and routing daemons use small numbers, or 0x1….
const (
	firstID = Protocol << 24
	idCount = 1 << 24
)

func ownID(id uint32) bool { return id>>24 == Protocol }

// drawID is an id that is not taken. Two daemons of one network namespace have other
// subnets: so they begin elsewhere.
func drawID(dst netip.Prefix, taken func(id uint32) bool) uint32 {
	h := fnv.New32a()
	_, _ = h.Write(append(dst.Addr().AsSlice(), byte(dst.Bits())))
	at := h.Sum32() % idCount
	for taken(firstID + at) {
		at = (at + 1) % idCount
	}
	return firstID + at
}

func (r Route) hop() Hop { return Hop{r.Via, r.Dev, r.OnLink} }
