package kernel

import (
	"maps"
	"net/netip"
)

// memory is what earlier passes put in place. It tells a repair from news, and
// what is ours where the kernel keeps no mark.
type memory struct {
	devices    map[string]VXLAN
	routes     map[netip.Prefix]Route
	neighbours map[hop]MAC
	fdb        map[port]netip.Addr
}

type hop struct {
	dev  string
	addr netip.Addr
}

type port struct {
	dev string
	mac MAC
}

func newMemory(size int) memory {
	return memory{
		devices: map[string]VXLAN{}, routes: make(map[netip.Prefix]Route, size),
		neighbours: make(map[hop]MAC, size), fdb: make(map[port]netip.Addr, size),
	}
}

// after is what is known once want was brought about but for the ops undone and
// the conflicts. What is still to be removed stays known as ours.
func (m memory) after(want State, undone []Op, conflicts []Conflict) memory {
	now := newMemory(len(want.Routes))
	if want.Partial {
		now = memory{maps.Clone(m.devices), maps.Clone(m.routes), maps.Clone(m.neighbours), maps.Clone(m.fdb)}
	}
	for _, d := range want.Devices {
		now.devices[d.Name] = d
	}
	for _, r := range want.Routes {
		now.routes[r.Dst] = r
	}
	for _, n := range want.Neighbours {
		now.neighbours[n.key()] = n.MAC
	}
	for _, f := range want.FDB {
		now.fdb[f.key()] = f.Dst
	}
	for _, c := range conflicts {
		delete(now.routes, c.Dst)
	}
	for _, o := range undone {
		switch x := o.Object.(type) {
		case VXLAN:
			putBack(now.devices, m.devices, x.Name)
		case Route:
			putBack(now.routes, m.routes, x.Dst)
		case Neighbour:
			putBack(now.neighbours, m.neighbours, x.key())
		case FDB:
			putBack(now.fdb, m.fdb, x.key())
		}
	}
	return now
}

func putBack[K comparable, V any](now, was map[K]V, key K) {
	if v, known := was[key]; known {
		now[key] = v
	} else {
		delete(now, key)
	}
}
