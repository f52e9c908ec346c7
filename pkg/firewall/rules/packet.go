package rules

import (
	"net/netip"

	"flanneld/pkg/inet"
)

// Packet is what rules match. A field that is empty or zero is not known, except for
// the mark: a packet starts without one.
type Packet struct {
	In, Out  string // interfaces
	Src, Dst netip.Addr
	Protocol string // "tcp", "udp", "icmp", "icmpv6"
	DstPort  int
	State    string // of its connection: "NEW"
	Local    bool   // Dst is an address of this host
	Mark     uint32
}

// Family is that of the packet's addresses; IPv4 where none is known.
func (p Packet) Family() inet.Family {
	if p.Src.Is6() || p.Dst.Is6() {
		return inet.IPv6
	}
	return inet.IPv4
}

// Hook is a place in the kernel where base chains see a packet.
type Hook string

// The hooks of the families ip, ip6 and inet.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
)

// Path is the hooks that a packet passes, in order.
type Path []Hook

// The paths of a packet through a host.
var (
	Forwarded = Path{Prerouting, Forward, Postrouting}
	Received  = Path{Prerouting, Input}
	Sent      = Path{Output, Postrouting}
)

// at is the packet as a hook sees it: its output interface is not known before it is
// routed, and a packet from this host has no input interface.
func (p Packet) at(h Hook) Packet {
	switch h {
	case Prerouting, Input:
		p.Out = ""
	case Output:
		p.In = ""
	}
	return p
}

// Truth is what is known of a condition.
type Truth int

// A condition on something that is not known is Maybe true.
const (
	No Truth = iota
	Maybe
	Yes
)

// Not is the truth of the opposite.
func (t Truth) Not() Truth { return Yes - t }

// Known is Yes or No if the answer is known, and Maybe if it is not.
func Known(known, holds bool) Truth {
	switch {
	case !known:
		return Maybe
	case holds:
		return Yes
	}
	return No
}
