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
	return k
}

// State says how the path to p is in the kernel: InPlace, or the first thing
// that is wrong, in the order in which a packet meets it. "" where there is no
// path to look for. A tunnel without MACs has nothing but the route.
func (k Kernel) State(p Peer) string {
	if p.Mode != Direct && p.Mode != Tunnel {
		return ""
	}
	if wrong := k.route(p); wrong != "" || p.Mode == Direct || p.MAC == "" {
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

// route says what is wrong with the route to p; "" if nothing.
func (k Kernel) route(p Peer) string {
	found := k.routes[p.Subnet]
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
