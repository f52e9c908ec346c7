package kernel

// trace follows our routes, and those of earlier passes, to the hops and MACs
// that belong to them.
func (p *planner) trace() {
	p.hops, p.macs = map[hop]bool{}, map[port]bool{}
	for at := range p.was.neighbours {
		p.hops[at] = true
	}
	for at := range p.was.fdb {
		p.macs[at] = true
	}
	for _, n := range p.want.Neighbours {
		p.hops[hop{n.Dev, n.Addr}] = true
	}
	for _, routes := range p.have.routes {
		for _, r := range routes {
			if r.Protocol == Protocol || p.leftover(r) {
				p.hops[hop{r.Dev, r.Via}] = true
			}
		}
	}
	for dev, e := range p.have.entries {
		for _, n := range e.Neighbours {
			if n.Permanent && p.hops[hop{dev, n.Addr}] {
				p.macs[port{dev, n.MAC}] = true
			}
		}
	}
}

func (p *planner) neighbourOps() (adds, drops []Op) {
	have := map[hop]FoundNeighbour{}
	for _, dev := range p.standing() {
		for _, n := range p.have.entries[dev].Neighbours {
			have[hop{dev, n.Addr}] = n
		}
	}
	wanted := make(map[hop]bool, len(p.want.Neighbours))
	for _, n := range p.want.Neighbours {
		at := hop{n.Dev, n.Addr}
		wanted[at] = true
		if h, exists := have[at]; exists && h.Permanent && h.MAC == n.MAC {
			continue
		}
		adds = append(adds, Op{Replace, n, "", p.was.neighbours[at] == n.MAC})
	}
	if p.want.Partial {
		return adds, nil
	}
	for at, n := range have {
		if n.Permanent && p.hops[at] && !wanted[at] {
			drops = append(drops, Op{Delete, n.Neighbour, "", false})
		}
	}
	return adds, drops
}

func (p *planner) fdbOps() (adds, drops []Op) {
	have := map[port]FoundFDB{}
	for _, dev := range p.standing() {
		for _, f := range p.have.entries[dev].FDB {
			have[port{dev, f.MAC}] = f
		}
	}
	wanted := make(map[port]bool, len(p.want.FDB))
	for _, f := range p.want.FDB {
		at := port{f.Dev, f.MAC}
		wanted[at] = true
		if h, exists := have[at]; exists && h.Permanent && h.Dst == f.Dst {
			continue
		}
		adds = append(adds, Op{Replace, f, "", p.was.fdb[at] == f.Dst})
	}
	if p.want.Partial {
		return adds, nil
	}
	for at, f := range have {
		if f.Permanent && p.macs[at] && !wanted[at] {
			drops = append(drops, Op{Delete, f.FDB, "", false})
		}
	}
	return adds, drops
}

// standing are the vxlan devices that keep what is on them.
func (p *planner) standing() (devs []string) {
	for dev := range p.have.entries {
		if !p.fresh[dev] {
			devs = append(devs, dev)
		}
	}
	return devs
}
