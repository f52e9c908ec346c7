package kernel

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// memory is what earlier passes put in place. It tells a repair from news, and
// what is ours where the kernel keeps no mark.
type memory struct {
	devices    set[string, Device]
	routes     set[netip.Prefix, Route]
	neighbours set[neighbourKey, Neighbour]
	fdb        set[fdbKey, FDB]
	peers      set[peerKey, Peer]
	nexthops   set[uint32, Nexthop]

	searched map[string]bool  // the devices on which what an earlier run left has been recognized
	addrs    map[Address]bool // that were ever wanted on the devices

	orphans map[uint32]time.Time // next hop objects that no route leads to, since when that was seen
}

type neighbourKey struct {
	dev  string
	addr netip.Addr
}

type fdbKey struct {
	dev string
	mac MAC
}

// memoryOf is that of a pass that brought s about.
func memoryOf(s State) memory {
	return memory{
		setOf(s.Devices), setOf(s.Routes), setOf(s.Neighbours), setOf(s.FDB), setOf(s.Peers),
		setOf[uint32, Nexthop](nil),
		map[string]bool{}, map[Address]bool{}, map[uint32]time.Time{},
	}
}

func (m memory) clone() memory {
	return memory{
		m.devices.clone(), m.routes.clone(), m.neighbours.clone(), m.fdb.clone(), m.peers.clone(), m.nexthops.clone(),
		m.searched, m.addrs, m.orphans,
	}
}

// after is what is known once wanted was brought about, beside what was there
// where that was partial, and but for the ops undone and the conflicts. What is
// still to be removed stays known as ours.
func (m memory) after(wanted memory, partial bool, undone []Op, conflicts []Conflict) memory {
	now := wanted
	if partial {
		now.devices, now.routes = now.devices.and(m.devices), now.routes.and(m.routes)
		now.neighbours, now.fdb = now.neighbours.and(m.neighbours), now.fdb.and(m.fdb)
		now.peers, now.nexthops = now.peers.and(m.peers), now.nexthops.and(m.nexthops)
	}
	if len(undone)+len(conflicts) > 0 {
		now = now.clone()
	}
	for _, c := range conflicts {
		if c.Place == InPlace {
			delete(now.routes.at, c.Dst)
		}
	}
	for _, o := range undone {
		o.Object.restore(&now, m)
	}
	now.searched, now.addrs, now.orphans = m.searched, m.addrs, m.orphans
	for _, d := range now.devices.list {
		for _, a := range d.Addrs {
			if a.IsValid() {
				now.addrs[Address{d.Name, a.Prefix}] = true
			}
		}
	}
	maps.DeleteFunc(now.searched, func(dev string, _ bool) bool { return !now.devices.has(dev) })
	maps.DeleteFunc(now.addrs, func(a Address, _ bool) bool { return !now.devices.has(a.Dev) })
	return now
}

// set finds objects by what there can be only one of. It shares the list that it
// is made from: clone it before what is in it changes.
type set[K comparable, E keyed[K]] struct {
	list []E
	at   map[K]int
}

type keyed[K comparable] interface {
	comparable
	Object
	key() K
}

func setOf[K comparable, E keyed[K]](list []E) set[K, E] {
	s := set[K, E]{slices.Clip(list), make(map[K]int, len(list))}
	for i := range list {
		s.at[list[i].key()] = i
	}
	return s
}

func (s set[K, E]) clone() set[K, E] { return set[K, E]{slices.Clone(s.list), maps.Clone(s.at)} }

func (s set[K, E]) get(k K) (e E, has bool) {
	i, has := s.at[k]
	if has {
		e = s.list[i]
	}
	return e, has
}

func (s set[K, E]) has(k K) bool {
	_, has := s.at[k]
	return has
}

func (s *set[K, E]) put(e E) {
	if i, has := s.at[e.key()]; has {
		s.list[i] = e
		return
	}
	s.at[e.key()] = len(s.list)
	s.list = append(s.list, e)
}

// and is s with what others has beside it.
func (s set[K, E]) and(others set[K, E]) set[K, E] {
	all := s
	for k, i := range others.at {
		if s.has(k) {
			continue
		}
		if len(all.list) == len(s.list) {
			all = s.clone()
		}
		all.put(others.list[i])
	}
	return all
}

// learn is put where nothing better is known.
func (s *set[K, E]) learn(e E) {
	if !s.has(e.key()) {
		s.put(e)
	}
}

// putBack makes k what it was.
func (s *set[K, E]) putBack(was set[K, E], k K) {
	if e, known := was.get(k); known {
		s.put(e)
	} else {
		delete(s.at, k)
	}
}
