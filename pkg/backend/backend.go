// Package backend says what a method of carrying packets between hosts is: a pure
// function from leases to kernel state.
package backend

import (
	"net/netip"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// Backend turns leases into kernel state, of one family of addresses. It does no I/O.
type Backend interface {
	// Attrs is what our lease must say, so that peers can reach us.
	Attrs() subnet.Attrs
	// Endpoint is what the lease of a host says beside another backend's data, as a JSON object, so
	// that peers reach it by this backend too while it changes from one to the other; "": nothing.
	Endpoint() string
	// Meets tells by both leases, whatever their types, that each host has an end of this backend's
	// tunnel which the other knows. One without tunnels meets nobody.
	Meets(own, peer *subnet.Lease) bool
	// Desired is what the kernel must have so that packets reach the peers from the
	// holder of own, and how each peer is reached: in the peers' order. All leases are as the
	// backend's family sees them. Where whether a peer is on the link decides, and is Unknown,
	// the peer is left out: the State is then one to add, not to remove by.
	Desired(own subnet.Lease, peers []subnet.Lease, around Around) (kernel.State, []Path)
	// MTU is that of a container's packets, in bytes.
	MTU() int
}

// Around is what a backend asks of what is around it.
type Around struct {
	// OnLink tells whether the kernel reaches an address on the external interface without a
	// gateway.
	OnLink func(netip.Addr) Answer
	// Whole: one route may lead to the whole network, as nothing that this host needs lies there,
	// and no other backend is at work beside.
	Whole bool
}

// Host is what a backend may know of the host it works on, as its family sees it.
type Host struct {
	Link     kernel.Link   // the external interface
	Local    netip.Addr    // its address, the source of what we send
	PublicIP netip.Addr    // where peers reach this host
	Lease    subnet.Attrs  // what this host's lease says so far; zero: there is none
	Links    []kernel.Link // all interfaces

	// PrivateKey is WireGuard's, which its file keeps. Nil: it is nobody's question.
	PrivateKey func() (wgdevice.Secret, error)

	// Others tells the MACs of VTEPs that are in other hosts' leases, and so not to be
	// used though a device here has one: this host is a copy of another. Nil: there is none.
	Others func(kernel.MAC) bool
}

// Factory makes a Backend of the config's one family from the config key's Backend object. Its errors say
// which option is wrong, as *subnet.FieldError, or what the host lacks.
type Factory func(subnet.Config, Host) (Backend, error)
