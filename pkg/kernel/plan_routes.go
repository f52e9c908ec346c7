package kernel

import (
	"cmp"
	"net/netip"
	"slices"

	"flanneld/pkg/inet"
)

func (r Route) key() netip.Prefix { return r.Dst }

// routeOps is entryOps for routes.
func (p *planner) routeOps() (ops, drops []Op) {
	places, stray := p.places()
	former, diverted := p.ground.Diverted(p.have.links, p.have.routes)
	p.others.Conflicts = diverted
	replaced := map[*FoundRoute]bool{}
	for i, r := range p.wanted.routes.list {
		at := &places[i]
		if at.ours = at.right && at.first.Protocol == Protocol; at.ours {
			continue
		}
		before, _ := p.was.routes.get(r.Dst)
		switch {
		case at.first == nil && p.waits(r):
			p.later = append(p.later, Op{Add, r, "", before == r})
		case at.first == nil:
			ops = appended(ops, Op{Add, p.byNexthop(r), "", before == r})
		case !at.right && at.stays == nil && p.mayReplace(*at.first, r):
			write := p.byNexthop(r)
			hit := at.hit(write) // is replaced by the kernel, in one step: no packet is lost
			at.ours, replaced[hit] = true, true
			ops = appended(ops, Op{Replace, write, "was " + hit.describe(), before == r})
			p.left(hit)
			if hit != at.first && !slices.Contains(stray, at.first) {
				stray = append(stray, at.first)
			}
		default:
			stays := cmp.Or(at.stays, at.first)
			p.others.Conflicts = append(p.others.Conflicts, Conflict{Place: InPlace, Dst: r.Dst, Found: *stays})
		}
	}
	p.findParts()
	for _, r := range former {
		if !slices.Contains(stray, r) && !p.gone(r) {
			drops = append(drops, Op{Delete, *r, "it led packets for this host's own containers away", false})
			p.left(r)
		}
	}
	return ops, append(drops, p.dropStray(stray, places, replaced)...)
}

// dropStray removes routes of ours that are not wanted as they are, but those that were replaced.
func (p *planner) dropStray(stray []*FoundRoute, places []place, replaced map[*FoundRoute]bool) (drops []Op) {
	for _, r := range stray {
		if replaced[r] {
			continue
		}
		drops = append(drops, Op{Delete, *r, "", false})
		p.left(r)
		if i, isWanted := p.wanted.routes.at[r.Dst]; isWanted && places[i].ours && r.mistakable(p.wanted.routes.list[i]) {
			again := p.wanted.routes.list[i]
			if places[i].right {
				again.Nexthop = places[i].form
			} else {
				again = p.byNexthop(again)
			}
			drops = append(drops, Op{Replace, again, "may have been deleted instead", false})
		}
	}
	return drops
}

// mistakable tells a route whose delete the kernel may understand as that of
// want: it goes by destination, metric and next hop, where one is named, and
// takes the first. Where a next hop object is named, it takes no other. Where none is,
// IPv6 takes a route by an object for one by any gateway, and device.
func (r FoundRoute) mistakable(want Route) bool {
	if r.Nexthop != 0 && !r.Special {
		return false // as what is right by the same object is no stray
	}
	if inet.Of(r.Dst.Addr()) == inet.IPv4 && r.Dev != "" && r.Dev != want.Dev {
		return false
	}
	return r.usualMetric() && (!r.sameFamily() || r.Via == want.Via || inet.Of(r.Via) == inet.IPv6)
}
