package backend

import (
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Answer is what the kernel says to a question. What is not known is not acted
// on.
type Answer uint8

// The answers.
const (
	Unknown Answer = iota
	No
	Yes
)

// Path is how packets get to a peer. It is small and without pointers, since
// there are thousands of them in each pass.
type Path struct {
	Mode   Mode
	Reason Reason     // where Mode is None
	MAC    kernel.MAC // of the peer's end, where Mode is Tunnel; zero: its kind has none
	Route  int32      // in the State's Routes: the peer's subnet, the gateway, the device; nothing where Mode is None
}

// Mode is a sort of path.
type Mode uint8

// The modes.
const (
	None   Mode = iota
	Direct      // packets travel as they are, over the common link
	Tunnel
)

// Reason is why there is no path to a peer.
type Reason uint8

// The reasons.
const (
	NotOnLink     Reason = iota + 1 // and this backend reaches no further
	NoEndpoint                      // nor does its lease name the end of a tunnel
	DuplicateMAC                    // of its end of the tunnel: another host has it
	BadEndpoint                     // its lease says that it has a tunnel, and not rightly where that ends
	OnLinkUnknown                   // the kernel did not answer
)

func (r Reason) String() string {
	switch r {
	case NotOnLink:
		return "it is not on the link, and plain routes lead no further; hosts behind routers need the vxlan backend"
	case NoEndpoint:
		return "it is not on the link, and its lease names no tunnel endpoint; hosts behind routers need the vxlan backend"
	case DuplicateMAC:
		return "the MAC of its tunnel endpoint is also another host's; give each its own"
	case BadEndpoint:
		return "its lease names no MAC address or no VNI that a tunnel can have: a reservation whose host has not " +
			"started yet, or a lease that flannel did not write; it is put right when flanneld starts there"
	case OnLinkUnknown:
		return "the kernel does not say whether it is on the link"
	}
	return ""
}

// PlainRoute leads to a peer over the common link.
func PlainRoute(peer *subnet.Lease, dev string) kernel.Route {
	return kernel.Route{Dst: peer.Subnet, Via: peer.PublicIP, Dev: dev, Peer: peer.PublicIP}
}
