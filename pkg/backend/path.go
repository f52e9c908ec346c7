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
	External // somebody else carries the packets: Route means nothing
)

// Reason is why there is no path to a peer.
type Reason uint8

// The reasons.
const (
	NotOnLink      Reason = iota + 1 // and this backend reaches no further
	NoEndpoint                       // nor does its lease name the end of a tunnel
	DuplicateMAC                     // of its end of the tunnel: another host has it
	BadEndpoint                      // its lease says that it has a tunnel, and not rightly where that ends
	OnLinkUnknown                    // the kernel did not answer
	DuplicateKey                     // of its end of the tunnel: another host has it
	Moved                            // its host has another lease by now
	NoCommonFamily                   // its lease names no address of the family in which the tunnels are
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
		return "its lease names no end that a tunnel can have, such as a MAC address and a VNI, or a public key: a " +
			"reservation whose host has not started yet, or a lease that flannel did not write; it is put right when " +
			"flanneld starts there"
	case DuplicateKey:
		return "its public key is also another host's, which may be a copy of it: on one of them type " +
			"flanneld wireguard rotate"
	case Moved:
		return "its host has a newer lease"
	case NoCommonFamily:
		return "its lease names no address of the family that the config's Mode asks for"
	case OnLinkUnknown:
		return "the kernel does not say whether it is on the link"
	}
	return ""
}

// PlainRoute leads to a peer over the common link.
func PlainRoute(peer *subnet.Lease, dev string) kernel.Route {
	return kernel.Route{Dst: peer.Subnet, Via: peer.PublicIP, Dev: dev, Peer: peer.PublicIP}
}
