package kernel

import (
	"fmt"
	"net"
	"net/netip"
)

// State is what one network of ours looks like in the kernel. Its parts are
// comparable, so two States subtract with ==. Of what is found by one key, a
// route's destination for instance, there is no more than one.
type State struct {
	Devices    []Device
	Routes     []Route
	Neighbours []Neighbour
	FDB        []FDB

	// Partial makes Apply add and repair only: what the State lacks is not
	// removed. It is for the time before everything that is wanted is known.
	Partial bool
}

// Route leads to one subnet, in the main table.
type Route struct {
	Dst    netip.Prefix
	Via    netip.Addr // the gateway
	Dev    string
	OnLink bool // the gateway need not be covered by an address of Dev

	// Peer is the public IP of the host behind Dst. By it a route is told that
	// an earlier flannel wrote.
	Peer netip.Addr
}

func (r Route) String() string {
	s := r.Dst.String()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Dev != "" {
		s += " dev " + r.Dev
	}
	if r.OnLink {
		s += " onlink"
	}
	return s
}

// Neighbour binds the address of a VTEP to its MAC, permanently.
type Neighbour struct {
	Dev  string
	Addr netip.Addr
	MAC  MAC
}

// FDB is an entry of a tunnel device's forwarding database: frames to MAC go to
// the host at Dst.
type FDB struct {
	Dev string
	MAC MAC
	Dst netip.Addr
}

// MAC is an Ethernet address.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// ParseMAC reads six hexadecimal bytes, separated as String does it or in
// another usual way. An address that no host can have is an error.
func ParseMAC(s string) (MAC, error) {
	bytes, err := net.ParseMAC(s)
	if err != nil || len(bytes) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is not a MAC address such as 0a:39:13:5c:8e:41", s)
	}
	m := MAC(bytes)
	if !m.Unicast() {
		return MAC{}, fmt.Errorf("%q is not the MAC address of one host", s)
	}
	return m, nil
}

// Unicast reports whether m can be the address of one host.
func (m MAC) Unicast() bool { return m != MAC{} && m[0]&1 == 0 }
