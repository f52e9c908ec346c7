package kernel

import (
	"cmp"
	"slices"
	"time"

	"flanneld/pkg/inet"
)

// orphanTime is how long a next hop object of ours that this run knows nothing of has
// led no route before it goes: another daemon may be about to write its routes.
const orphanTime = 10 * time.Second

// mostPlain bounds the routes that are written plain while their device has no
// carrier, as then the kernel takes no others: more take so long that the carrier is
// worth waiting for.
const mostPlain = 2000

// nexthops is what a pass knows of the next hop objects with our ids.
type nexthops struct {
	found []foundHop // by id

	byHop  map[Hop]uint32 // those to write routes by; nil: not asked for yet
	former map[Hop]uint32 // the ids that they had in earlier passes
	fresh  []Nexthop      // to be added
	drawn  map[uint32]bool
	writes []Op
}

// foundHop is one that the kernel has.
type foundHop struct {
	*FoundNexthop
	known bool // this run wrote it, or recognized it as ours
	same  bool // as it was then
	led   bool // a route of ours leads to it
	ours  bool
	users int32 // routes and groups that lead to it after the pass, whosever they are
}

// usable tells one that routes of ours may lead to.
func (n *foundHop) usable() bool { return n.Protocol == Protocol && !n.Special }

// findNexthops sorts what there is, and puts right what was edited: all routes by it
// follow at once.
func (p *planner) findNexthops() {
	h := &p.nexthops
	byID := func(a, b FoundNexthop) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(p.have.nexthops, byID) { // as the kernel lists them
		slices.SortFunc(p.have.nexthops, byID)
	}
	for i := range p.have.nexthops {
		n := &p.have.nexthops[i]
		if ownID(n.ID) && !p.created[n.Dev] {
			if h.found == nil {
				h.found = make([]foundHop, 0, len(p.have.nexthops)-i)
			}
			before, known := p.was.nexthops.get(n.ID)
			h.found = append(h.found, foundHop{FoundNexthop: n, known: known, same: before == n.Nexthop})
		}
	}
	if len(h.found) == 0 {
		return
	}
	for i := range p.have.routes {
		r := &p.have.routes[i]
		if n := p.nexthop(r.Nexthop); n != nil {
			n.users++
			n.led = n.led || p.owns(r)
		}
	}
	for i := range p.have.nexthops { // a group goes with its last member, and takes its routes along
		for _, id := range p.have.nexthops[i].Members {
			if n := p.nexthop(id); n != nil {
				n.users++
			}
		}
	}
	for i := range h.found {
		n := &h.found[i]
		switch f := inet.Of(n.Via); {
		case n.Via.IsValid() && !slices.Contains(p.have.looks, f): // its routes were not read
		case n.Protocol == Protocol:
			n.ours = n.same || n.led || n.users == 0
		default:
			n.ours = n.known && n.led // somebody edited it under our routes
		}
	}
	p.repairNexthops()
}

// nexthop is one with an id of ours; nil: there is none.
func (p *planner) nexthop(id uint32) *foundHop {
	found := p.nexthops.found
	i, there := slices.BinarySearchFunc(found, id, func(n foundHop, id uint32) int { return cmp.Compare(n.ID, id) })
	if !there {
		return nil
	}
	return &found[i]
}

// gone tells a route that goes with its device, which is made anew. One by an object that
// is put right there stays.
func (p *planner) gone(r *FoundRoute) bool { return p.created[r.Dev] && p.nexthop(r.Nexthop) == nil }

func (p *planner) repairNexthops() {
	var wanted map[Hop]bool
	for i := range p.nexthops.found {
		n := &p.nexthops.found[i]
		edited := n.known && n.led && (!n.usable() || !n.same)
		if !edited || n.Group {
			continue
		}
		before, _ := p.was.nexthops.get(n.ID)
		if !p.have.takesNexthops(before.Via) || !p.connected(before.Dev) {
			continue
		}
		if wanted == nil {
			wanted = map[Hop]bool{}
			for _, r := range p.wanted.routes.list {
				wanted[r.hop()] = true
			}
		}
		if !wanted[before.Hop] {
			continue
		}
		p.nexthops.writes = append(p.nexthops.writes, Op{Replace, before, "was " + n.describe(), true})
		*n.FoundNexthop = FoundNexthop{Nexthop: before, Protocol: Protocol}
		for j := range p.have.routes {
			if r := &p.have.routes[j]; r.Nexthop == n.ID {
				r.Via, r.Dev, r.OnLink, r.Special = n.Via, n.Dev, n.OnLink, false
			}
		}
	}
}

// connected reports whether the kernel takes next hop objects that lead by a device.
func (p *planner) connected(dev string) bool {
	if p.unconnected == nil {
		p.unconnected = map[string]bool{}
		for i := range p.have.links {
			if l := &p.have.links[i]; l.NoCarrier {
				p.unconnected[l.Name] = true
			}
		}
	}
	return !p.unconnected[dev] || p.created[dev]
}

// byNexthop is r as it is to be written. A route of ours is right in either form, so
// only what is written anyway takes the present one.
func (p *planner) byNexthop(r Route) Route {
	if r.Via.IsValid() && p.have.takesNexthops(r.Via) && p.connected(r.Dev) {
		r.Nexthop = p.nexthopOf(r)
	}
	return r
}

// waits tells a route that is better not written before its device has a carrier.
func (p *planner) waits(r Route) bool {
	many := r.Via.IsValid() && p.have.takesNexthops(r.Dst.Addr()) && len(p.wanted.routes.list) > mostPlain
	return many && !p.connected(r.Dev)
}

// nexthopOf is the id of the object that leads where r is to lead; 0: that one has to wait,
// as somebody deletes it again and again, and a plain route need not.
func (p *planner) nexthopOf(r Route) uint32 {
	h := &p.nexthops
	if h.byHop == nil {
		h.index(p.was.nexthops)
	}
	if id, there := h.byHop[r.hop()]; there {
		if n := p.nexthop(id); n != nil {
			n.users++
		}
		return id
	}
	taken := func(id uint32) bool { return h.drawn[id] || p.nexthop(id) != nil }
	id, known := h.former[r.hop()]
	repair := known && !taken(id)
	if !repair {
		id = drawID(r.Dst, taken)
	}
	n := Nexthop{id, r.hop()}
	add := Op{Add, n, "", repair}
	if p.have.waits != nil && p.have.waits(add) {
		return 0
	}
	h.byHop[n.Hop], h.drawn[id] = id, true
	h.fresh = appended(h.fresh, n)
	h.writes = appended(h.writes, add)
	return id
}

func (h *nexthops) index(was set[uint32, Nexthop]) {
	h.byHop, h.former, h.drawn = map[Hop]uint32{}, map[Hop]uint32{}, map[uint32]bool{}
	for i := range h.found {
		if n := &h.found[i]; n.ours && n.usable() {
			h.byHop[n.Hop] = n.ID
		}
	}
	for id, i := range was.at {
		h.former[was.list[i].Hop] = id
	}
}

// left is told of a route that will lead to its object no more.
func (p *planner) left(r *FoundRoute) {
	if n := p.nexthop(r.Nexthop); n != nil {
		n.users--
	}
}

// nexthopDrops are of those that no route leads to any more, once it is known what is
// wanted: deleting one takes its routes along.
func (p *planner) nexthopDrops() (drops []Op) {
	if p.want.Partial {
		return nil
	}
	var orphans map[uint32]time.Time
	for i := range p.nexthops.found {
		n := &p.nexthops.found[i]
		switch {
		case !n.ours || n.users > 0:
			continue
		case n.same || n.led:
		default:
			since, seen := p.was.orphans[n.ID]
			if !seen {
				since = p.have.at
			}
			if p.have.at.Sub(since) < orphanTime {
				if orphans == nil {
					orphans = map[uint32]time.Time{}
				}
				orphans[n.ID] = since
				continue
			}
		}
		drops = append(drops, Op{Delete, n.Nexthop, "", false})
		n.ours = false
	}
	p.was.orphans = orphans
	return drops
}

// knownNexthops are those that are ours after the pass.
func (p *planner) knownNexthops() set[uint32, Nexthop] {
	h := &p.nexthops
	changed := func(n foundHop) bool { return !n.same || !n.usable() || !n.ours || n.users == 0 }
	all := len(h.writes) == 0 && len(h.found) == len(p.was.nexthops.at)
	if all && !slices.ContainsFunc(h.found, changed) {
		return p.was.nexthops
	}
	var list []Nexthop
	for i := range h.found {
		if n := &h.found[i]; n.ours && n.usable() && (n.same || n.led || n.users > 0) {
			list = appended(list, n.Nexthop)
		}
	}
	return setOf(append(list, h.fresh...))
}
