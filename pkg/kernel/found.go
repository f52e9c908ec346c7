package kernel

import "fmt"

// FoundRoute is a route as the kernel has it, in the main table. A connected
// network's has no gateway, a blackhole no device either.
type FoundRoute struct {
	Route
	Protocol int
	Metric   int
	Special  bool // has a type, next hops or attributes that a plain route has not
}

// FoundNexthop is a next hop object as the kernel has it.
type FoundNexthop struct {
	Nexthop
	Protocol int
	Special  bool // a group, a blackhole, or without a gateway
	Group    bool // it cannot be replaced by one that leads to a gateway

	Members []uint32 // of a group: the ids of the objects that it leads by
}

func (n FoundNexthop) describe() string {
	if n.Special {
		return "not a plain one"
	}
	return fmt.Sprintf("%v proto %d", n.Hop, n.Protocol)
}

func (r FoundRoute) String() string {
	s := fmt.Sprintf("%v proto %d", r.Route, r.Protocol)
	if r.Metric != 0 {
		s += fmt.Sprintf(" metric %d", r.Metric)
	}
	return s
}

// Entries are a device's neighbours, forwarding entries and peers.
type Entries struct {
	Neighbours []FoundNeighbour
	FDB        []FoundFDB
	Peers      []FoundPeer
}

// FoundNeighbour is a neighbour as the kernel has it.
type FoundNeighbour struct {
	Neighbour
	Permanent bool
}

// FoundFDB is a forwarding entry as the kernel has it.
type FoundFDB struct {
	FDB
	Permanent bool // and to the device's own port and VNI, by no interface in particular
}
