package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"flanneld/pkg/inet"
)

// State is what one network of ours looks like in the kernel. Its parts are
// comparable, so two States subtract with ==. Of what is found by one key, a
// route's destination for instance, there is no more than one.
type State struct {
	Devices    []Device
	Routes     []Route
	Neighbours []Neighbour
	FDB        []FDB
	Peers      []Peer

	// Families are those that the State is about: nothing of another one is wanted, and
	// once what is left there was removed, it is not looked at either. Nil: all.
	Families []inet.Family

	// Partial makes Apply add and repair only: what the State lacks is not
	// removed. It is for the time before everything that is wanted is known.
	Partial bool

	// Networks are those that this daemon has worked in. What earlier runs left is
	// removed where it lies in one of them: what lies elsewhere is another daemon's.
	// Nil: all of it is this one's.
	Networks []netip.Prefix

	// Own are the subnets of this host's containers. What an earlier flannel has left
	// there leads packets away from them, and goes, also where Partial.
	Own []netip.Prefix

	// Harmful tells destinations to which no route of ours may lead: one that does
	// goes, also where Partial. It wants none of them. Nil: there is no such.
	Harmful func(netip.Prefix) bool
}

// And is s with another family's state beside it: a device in both has the
// addresses of both.
func (s State) And(o State) State {
	s.Devices = slices.Clone(s.Devices)
	for _, d := range o.Devices {
		i := slices.IndexFunc(s.Devices, func(has Device) bool { return has.Name == d.Name })
		if i < 0 {
			s.Devices = append(s.Devices, d)
			continue
		}
		for family, a := range d.Addrs {
			if a.IsValid() {
				s.Devices[i].Addrs[family] = a
			}
		}
	}
	s.Routes, s.Neighbours = slices.Concat(s.Routes, o.Routes), slices.Concat(s.Neighbours, o.Neighbours)
	s.FDB = appendNew(s.FDB, o.FDB) // both families' packets travel in the same frames
	s.Peers = joinPeers(s.Peers, o.Peers)
	if s.Families != nil && o.Families != nil {
		s.Families = append(slices.Clip(s.Families), slices.DeleteFunc(slices.Clone(o.Families), func(f inet.Family) bool {
			return slices.Contains(s.Families, f)
		})...)
	} else {
		s.Families = nil
	}
	s.Partial, s.Harmful = s.Partial || o.Partial, either(s.Harmful, o.Harmful)
	s.Networks, s.Own = slices.Concat(s.Networks, o.Networks), slices.Concat(s.Own, o.Own)
	return s
}

// either is the one predicate that there is, or both in one.
func either(a, b func(netip.Prefix) bool) func(netip.Prefix) bool {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(p netip.Prefix) bool { return a(p) || b(p) }
}

// appendNew appends the entries that are not there yet.
func appendNew(s, more []FDB) []FDB {
	has := make(map[FDB]bool, len(s))
	for _, f := range s {
		has[f] = true
	}
	s = slices.Clip(s)
	for _, f := range more {
		if !has[f] {
			s = append(s, f)
		}
	}
	return s
}

// joinPeers makes one of the peers with one key: it has the subnets of both families.
func joinPeers(s, more []Peer) []Peer {
	if len(s) == 0 || len(more) == 0 {
		return append(slices.Clip(s), more...)
	}
	at := make(map[peerKey]int, len(s))
	for i := range s {
		at[s[i].key()] = i
	}
	s = slices.Clone(s)
	for _, p := range more {
		i, has := at[p.key()]
		if !has {
			s = append(s, p)
			continue
		}
		for family, subnet := range p.Allowed {
			if subnet.IsValid() {
				s[i].Allowed[family] = subnet
			}
		}
		if !s[i].Endpoint.IsValid() {
			s[i].Endpoint = p.Endpoint
		}
	}
	return s
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

	// Nexthop is the id of the next hop object that the route is written by; 0: it
	// has none. A State leaves it 0: a pass decides.
	Nexthop uint32
}

// String is the route as ip-route(8) takes it: one by a next hop object is named by
// that, and by nothing besides.
func (r Route) String() string {
	s := r.Dst.String()
	if r.Nexthop != 0 {
		return fmt.Sprintf("%s nhid %d", s, r.Nexthop)
	}
	if r.Via.IsValid() {
		s += " via "
		if inet.Of(r.Via) != inet.Of(r.Dst.Addr()) {
			s += "inet6 " // which iproute2 wants to be told
		}
		s += r.Via.String()
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
	m, ok := withColons(s)
	if !ok {
		bytes, err := net.ParseMAC(s)
		if err != nil || len(bytes) != len(MAC{}) {
			return MAC{}, fmt.Errorf("%q is not a MAC address such as 0a:39:13:5c:8e:41", s)
		}
		m = MAC(bytes)
	}
	if !m.Unicast() {
		return MAC{}, fmt.Errorf("%q is not the MAC address of one host", s)
	}
	return m, nil
}

// withColons reads the form of String, in which nearly all leases have it,
// without the garbage that net.ParseMAC makes.
func withColons(s string) (m MAC, ok bool) {
	if len(s) != 3*len(m)-1 {
		return m, false
	}
	for i := range m {
		b, err := strconv.ParseUint(s[3*i:3*i+2], 16, 8)
		if err != nil || i > 0 && s[3*i-1] != ':' {
			return m, false
		}
		m[i] = byte(b)
	}
	return m, true
}

// Unicast reports whether m can be the address of one host.
func (m MAC) Unicast() bool { return m != MAC{} && m[0]&1 == 0 }
