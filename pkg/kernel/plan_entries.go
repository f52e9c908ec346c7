package kernel

// recognize notes the neighbours and forwarding entries that a daemon before us
// left on a device that is looked at for the first time: those that our routes
// lead to. Of these it takes an interest in what is not wanted.
func (p *planner) recognize() {
	for dev := range p.created {
		p.was.searched[dev] = true
	}
	for dev, e := range p.have.entries {
		if p.was.searched[dev] {
			continue
		}
		p.was.searched[dev] = true
		hops, macs := p.hops(dev), map[MAC]bool{}
		for _, n := range e.Neighbours {
			if hops[n.key()] || p.was.neighbours.has(n.key()) {
				p.was.neighbours.learn(n.Neighbour)
				macs[n.MAC] = true
			}
		}
		for _, f := range e.FDB {
			if macs[f.MAC] {
				p.was.fdb.learn(f.FDB)
			}
		}
	}
}

// hops are the gateways on dev that our routes have.
func (p *planner) hops(dev string) map[neighbourKey]bool {
	hops := map[neighbourKey]bool{}
	for _, r := range p.have.routes {
		if r.Dev == dev && (r.Protocol == Protocol || p.leftover(r)) {
			hops[neighbourKey{dev, r.Via}] = true
		}
	}
	return hops
}

// foundEntry is one as the kernel has it, and whether it is permanent.
type foundEntry[E any] interface{ entry() (E, bool) }

func (n Neighbour) key() neighbourKey             { return neighbourKey{n.Dev, n.Addr} }
func (n FoundNeighbour) entry() (Neighbour, bool) { return n.Neighbour, n.Permanent }

func (f FDB) key() fdbKey             { return fdbKey{f.Dev, f.MAC} }
func (f FoundFDB) entry() (FDB, bool) { return f.FDB, f.Permanent }

func (p *planner) neighbourOps(ops []Op) (with, drops []Op) {
	var have [][]FoundNeighbour
	for dev, e := range p.have.entries {
		if !p.created[dev] {
			have = append(have, e.Neighbours)
		}
	}
	return entryOps(ops, p.wanted.neighbours, have, p.was.neighbours, p.want.Partial)
}

func (p *planner) fdbOps(ops []Op) (with, drops []Op) {
	var have [][]FoundFDB
	for dev, e := range p.have.entries {
		if !p.created[dev] {
			have = append(have, e.FDB)
		}
	}
	return entryOps(ops, p.wanted.fdb, have, p.was.fdb, p.want.Partial)
}

// peerOps is entryOps for peers. All that a device of ours has are ours: a stale one would let
// a host in that has no lease any more.
func (p *planner) peerOps(ops []Op) (with, drops []Op) {
	var have [][]FoundPeer
	for dev, e := range p.have.entries {
		if p.created[dev] {
			continue
		}
		for i := range e.Peers {
			p.was.peers.learn(e.Peers[i].Peer)
		}
		have = append(have, e.Peers)
	}
	return entryOps(ops, p.wanted.peers, have, p.was.peers, p.want.Partial)
}

// entryOps subtracts entries of any kind: it appends to ops what is missing,
// and returns beside them what is to go. Only permanent ones, as we write
// them, can be right or ours.
func entryOps[K comparable, E keyed[K], F foundEntry[E]](
	ops []Op, wanted set[K, E], have [][]F, was set[K, E], partial bool,
) (with, drops []Op) {
	there := make([]bool, len(wanted.list))
	for _, some := range have {
		for _, f := range some {
			e, permanent := f.entry()
			i, isWanted := wanted.at[e.key()]
			switch {
			case !permanent:
			case isWanted && e == wanted.list[i]:
				there[i] = true
			case !isWanted && was.has(e.key()) && !partial:
				drops = append(drops, Op{Delete, e, "", false})
			}
		}
	}
	for i, e := range wanted.list {
		if !there[i] {
			before, _ := was.get(e.key())
			ops = appended(ops, Op{Replace, e, "", before == e})
		}
	}
	return ops, drops
}
