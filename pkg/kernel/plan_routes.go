package kernel

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

func (p *planner) routeOps() (adds, drops []Op) {
	kept := make(map[FoundRoute]bool, len(p.want.Routes))
	for _, r := range p.want.Routes {
		repair := p.was.routes[r.Dst] == r
		current, exists := p.inPlace(r.Dst)
		switch {
		case !exists:
			adds = append(adds, Op{Add, r, "", repair})
		case current.Protocol == Protocol && !current.Odd && current.sameWay(r):
			kept[current] = true
		case p.mayReplace(current, r):
			kept[current] = true // the kernel replaces in place, so no packet is lost
			adds = append(adds, Op{Replace, r, "was " + current.String(), repair})
		default:
			p.conflicts = append(p.conflicts, Conflict{r.Dst, current})
		}
	}
	if p.want.Partial {
		return adds, nil
	}
	for _, routes := range p.have.routes {
		for _, r := range routes {
			if !kept[r] && !p.fresh[r.Dev] && (r.Protocol == Protocol || p.leftover(r)) {
				drops = append(drops, Op{Delete, r, "", false})
			}
		}
	}
	return adds, drops
}

// inPlace is the route that a packet to dst takes now, of those that a route of
// ours would collide with: one of the same destination and metric.
func (p *planner) inPlace(dst netip.Prefix) (FoundRoute, bool) {
	for _, r := range p.have.routes[dst] {
		if r.Metric == 0 && !p.fresh[r.Dev] {
			return r, true
		}
	}
	return FoundRoute{}, false
}

func (r FoundRoute) sameWay(want Route) bool {
	return r.Via == want.Via && r.Dev == want.Dev && r.OnLink == want.OnLink
}

// mayReplace tells routes that are ours, were edited by hand, or were written
// by an earlier flannel from those of an administrator.
func (p *planner) mayReplace(r FoundRoute, want Route) bool {
	if _, edited := p.was.routes[r.Dst]; edited || r.Protocol == Protocol {
		return true
	}
	return r.Protocol == unix.RTPROT_BOOT && (r.sameWay(want) || r.Via == want.Peer || r.toVTEP())
}

// toVTEP tells the form of a tunnel route: its gateway is the subnet's own
// first address, which nobody but flannel gives to a host.
func (r FoundRoute) toVTEP() bool { return r.OnLink && r.Via == r.Dst.Addr() }

// leftover tells a tunnel route of an earlier flannel on a device that is ours
// now.
func (p *planner) leftover(r FoundRoute) bool {
	return r.Protocol == unix.RTPROT_BOOT && r.toVTEP() && p.ours(r.Dev)
}
