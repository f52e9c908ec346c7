// Package backend says what a method of carrying packets between hosts is: a pure
// function from leases to kernel state. hostgw and vxlan are the two there are.
package backend

import (
	"net/netip"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Backend turns leases into kernel state, of one family of addresses. It does no I/O.
type Backend interface {
	// Attrs is what our lease must say, so that peers can reach us.
	Attrs() subnet.Attrs
	// Desired is what the kernel must have so that packets reach the peers from the
	// holder of own, and how each peer is reached: in the peers' order. All leases are as the
	// backend's family sees them. onLink tells whether the kernel reaches an address on the
	// external interface without a gateway. Where that decides and is Unknown,
	// the peer is left out: the State is then one to add, not to remove by.
	Desired(own subnet.Lease, peers []subnet.Lease, onLink func(netip.Addr) Answer) (kernel.State, []Path)
	// MTU is that of a container's packets, in bytes.
	MTU() int
}

// Host is what a backend may know of the host it works on, as its family sees it.
type Host struct {
	Link     kernel.Link   // the external interface
	Local    netip.Addr    // its address, the source of what we send
	PublicIP netip.Addr    // where peers reach this host
	Lease    subnet.Attrs  // what this host's lease says so far; zero: there is none
	Links    []kernel.Link // all interfaces

	// Others tells the MACs of VTEPs that are in other hosts' leases, and so not to be
	// used though a device here has one: this host is a copy of another. Nil: there is none.
	Others func(kernel.MAC) bool
}

// Factory makes a Backend of the config's one family from the config key's Backend object. Its errors say
// which option is wrong, as *subnet.FieldError, or what the host lacks.
type Factory func(subnet.Config, Host) (Backend, error)
