package status

import (
	"fmt"
	"net/netip"

	"flanneld/pkg/kernel"
)

// InPlace is a peer's Kernel where everything is as the daemon wants it.
const InPlace = "in place"

// Kernel is what the kernel has, by what a peer is looked up by.
type Kernel struct {
	routes     map[netip.Prefix][]kernel.FoundRoute
	neighbours map[netip.Addr]kernel.FoundNeighbour
	fdb        map[forwarding]kernel.FoundFDB
	peers      map[hop]kernel.FoundPeer
}

// hop is what a peer of a device's own table is looked up by.
type hop struct {
	dev    string
	subnet netip.Prefix
}

// forwarding is what a forwarding entry is looked up by: each family has a device of its
// own, on which a peer may have the same MAC.
type forwarding struct {
	dev string
	mac kernel.MAC
}

// NewKernel sorts lists as kernel.Conn gives them; e is what is on the tunnel's
// device.
func NewKernel(routes []kernel.FoundRoute, e kernel.Entries) Kernel {
	k := Kernel{
		routes:     make(map[netip.Prefix][]kernel.FoundRoute, len(routes)),
		neighbours: make(map[netip.Addr]kernel.FoundNeighbour, len(e.Neighbours)),
		fdb:        make(map[forwarding]kernel.FoundFDB, len(e.FDB)),
		peers:      make(map[hop]kernel.FoundPeer, len(e.Peers)),
	}
	for _, r := range routes {
		k.routes[r.Dst] = append(k.routes[r.Dst], r)
	}
	for _, n := range e.Neighbours {
		k.neighbours[n.Addr] = n
	}
	for _, f := range e.FDB {
		k.fdb[forwarding{f.Dev, f.MAC}] = f
	}
	for _, p := range e.Peers {
		for _, s := range p.Subnets() {
			k.peers[hop{p.Dev, s}] = p
		}
	}
	return k
}

// Session is that with p on its device; nil: the device has no such peer, or knows no sessions.
func (k Kernel) Session(p Peer) *Session {
	found, has := k.peers[hop{p.Dev, p.Subnet}]
	if !has || found.Key.IsZero() {
		return nil
	}
	return &Session{Handshake: found.Handshake, Sent: found.Sent, Received: found.Received}
}

// State says how the path to p is in the kernel: InPlace, or the first thing
// that is wrong, in the order in which a packet meets it. "" where there is no
// path to look for. A tunnel without MACs has nothing but the route.
func (k Kernel) State(p Peer) string {
	if p.Mode != Direct && p.Mode != Tunnel {
		return ""
	}
	wrong := k.Route(p)
	if wrong == "" && p.Endpoint.IsValid() {
		wrong = k.peer(p)
	}
	if wrong != "" || p.Mode == Direct || p.MAC == "" {
		return orInPlace(wrong)
	}
	mac, err := kernel.ParseMAC(p.MAC)
	if err != nil {
		return err.Error()
	}
	if n, found := k.neighbours[p.Via]; !found {
		return fmt.Sprintf("no neighbour entry for %v", p.Via)
	} else if n.MAC != mac {
		return fmt.Sprintf("the neighbour entry for %v says %v", p.Via, n.MAC)
	} else if !n.Permanent {
		return fmt.Sprintf("the neighbour entry for %v is not permanent", p.Via)
	}
	if f, found := k.fdb[forwarding{p.Dev, mac}]; !found {
		return fmt.Sprintf("no forwarding entry for %v", mac)
	} else if f.Dst != p.PublicIP {
		return fmt.Sprintf("the forwarding entry for %v leads to %v", mac, f.Dst)
	}
	return InPlace
}

func orInPlace(wrong string) string {
	if wrong == "" {
		return InPlace
	}
	return wrong
}

// peer says what is wrong with the entry of p in its device's own table; "" if nothing.
func (k Kernel) peer(p Peer) string {
	found, has := k.peers[hop{p.Dev, p.Subnet}]
	key := ""
	if !found.Key.IsZero() {
		key = found.Key.String()
	}
	switch {
	case !has:
		return fmt.Sprintf("%s has no peer for %v", p.Dev, p.Subnet)
	case key != "" && key != p.PublicKey:
		return fmt.Sprintf("%s sends to another public key: %s", p.Dev, key)
	case found.Endpoint != p.Endpoint:
		return fmt.Sprintf("%s sends to %v, and not to %v", p.Dev, found.Endpoint, p.Endpoint)
	case found.More:
		return fmt.Sprintf("%s takes from that peer more than its subnets", p.Dev)
	}
	return ""
}

// Route says what is wrong with the route to p; "" if nothing. One for the whole network
// will do where p has no other.
func (k Kernel) Route(p Peer) string {
	to := p.Subnet
	if p.Route.IsValid() && len(k.routes[to]) == 0 {
		to = p.Route
	}
	found := k.routes[to]
	if len(found) == 0 {
		return "no route"
	}
	r := found[0]
	switch {
	case r.Via == p.Via && r.Dev == p.Dev:
		return ""
	case r.Nexthop != 0 && r.Via.IsValid():
		return fmt.Sprintf("another route: %v, which leads via %v dev %s", r, r.Via, r.Dev)
	}
	return "another route: " + r.String()
}
