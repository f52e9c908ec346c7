package kernel

import "net/netip"

// recognize notes the neighbours and forwarding entries that a daemon before us
// left on a device that is wanted for the first time: those that our routes
// lead to.
func (p *planner) recognize() {
	for dev, e := range p.have.entries {
		if _, known := p.was.devices[dev]; known || p.fresh[dev] {
			continue
		}
		hops, macs := p.hops(dev), map[MAC]bool{}
		for _, n := range e.Neighbours {
			if at := n.key(); hops[at] {
				p.was.neighbours[at] = n.MAC
				macs[n.MAC] = true
			}
		}
		for _, f := range e.FDB {
			if macs[f.MAC] {
				p.was.fdb[f.key()] = f.Dst
			}
		}
	}
}

// hops are the gateways on dev that our routes have.
func (p *planner) hops(dev string) map[hop]bool {
	hops := map[hop]bool{}
	for _, r := range p.have.routes {
		if r.Dev == dev && (r.Protocol == Protocol || p.leftover(r)) {
			hops[hop{dev, r.Via}] = true
		}
	}
	return hops
}

// binding is an entry that gives one value to one key.
type binding[K, V comparable] interface {
	key() K
	value() V
}

// foundBinding is one as the kernel has it, and whether it is permanent.
type foundBinding[E any] interface{ entry() (E, bool) }

func (n Neighbour) key() hop                      { return hop{n.Dev, n.Addr} }
func (n Neighbour) value() MAC                    { return n.MAC }
func (n FoundNeighbour) entry() (Neighbour, bool) { return n.Neighbour, n.Permanent }

func (f FDB) key() port               { return port{f.Dev, f.MAC} }
func (f FDB) value() netip.Addr       { return f.Dst }
func (f FoundFDB) entry() (FDB, bool) { return f.FDB, f.Permanent }

func (p *planner) neighbourOps() (adds, drops []Op) {
	var have []FoundNeighbour
	for dev, e := range p.have.entries {
		if !p.fresh[dev] {
			have = append(have, e.Neighbours...)
		}
	}
	return entryOps(p.want.Neighbours, have, p.was.neighbours, p.want.Partial)
}

func (p *planner) fdbOps() (adds, drops []Op) {
	var have []FoundFDB
	for dev, e := range p.have.entries {
		if !p.fresh[dev] {
			have = append(have, e.FDB...)
		}
	}
	return entryOps(p.want.FDB, have, p.was.fdb, p.want.Partial)
}

// entryOps subtracts entries of either kind. Only permanent ones, as we write
// them, can be right or ours.
func entryOps[E binding[K, V], F foundBinding[E], K, V comparable](want []E, have []F, was map[K]V, partial bool) (adds, drops []Op) {
	missing := make(map[K]V, len(want))
	for _, e := range want {
		missing[e.key()] = e.value()
	}
	for _, f := range have {
		e, permanent := f.entry()
		value, isWanted := missing[e.key()]
		_, ours := was[e.key()]
		switch {
		case !permanent:
		case isWanted && e.value() == value:
			delete(missing, e.key())
		case !isWanted && ours && !partial:
			drops = append(drops, Op{Delete, e, "", false})
		}
	}
	for _, e := range want {
		if value, is := missing[e.key()]; is {
			adds = append(adds, Op{Replace, e, "", was[e.key()] == value})
		}
	}
	return adds, drops
}
