package kernel

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

func (p *planner) routeOps() (adds, drops []Op) {
	wanted := make(map[netip.Prefix]Route, len(p.want.Routes))
	for _, r := range p.want.Routes {
		wanted[r.Dst] = r
	}
	present := p.inPlace(wanted)
	replaced := map[FoundRoute]bool{}
	for _, r := range p.want.Routes {
		repair := p.was.routes[r.Dst] == r
		at, exists := present[r.Dst]
		switch {
		case !exists:
			adds = append(adds, Op{Add, r, "", repair})
		case at.right && at.first.Protocol == Protocol:
		case !at.right && p.mayReplace(*at.first, r):
			replaced[*at.first] = true // by the kernel, in one step: no packet is lost
			adds = append(adds, Op{Replace, r, "was " + at.first.describe(), repair})
		default:
			p.conflicts = append(p.conflicts, Conflict{r.Dst, *at.first})
		}
	}
	if p.want.Partial {
		return adds, nil
	}
	for _, r := range p.have.routes {
		ours := r.Protocol == Protocol || p.leftover(r)
		if ours && !r.is(wanted[r.Dst]) && !replaced[r] && !p.fresh[r.Dev] {
			drops = append(drops, Op{Delete, r, "", false})
		}
	}
	return adds, drops
}

// place is what the kernel has where a route is wanted.
type place struct {
	first *FoundRoute // the one that packets take
	right bool        // it, or one behind it, is exactly as wanted
}

// inPlace finds the routes that wanted ones would collide with: those of the
// same destination and metric.
func (p *planner) inPlace(wanted map[netip.Prefix]Route) map[netip.Prefix]place {
	present := make(map[netip.Prefix]place, len(wanted))
	for i := range p.have.routes {
		r := &p.have.routes[i]
		w, isWanted := wanted[r.Dst]
		if !isWanted || r.Metric != 0 || p.fresh[r.Dev] {
			continue
		}
		at, behind := present[r.Dst]
		if !behind {
			at.first = r
		}
		at.right = at.right || r.is(w)
		present[r.Dst] = at
	}
	return present
}

// is reports whether r is what we write for want.
func (r FoundRoute) is(want Route) bool {
	return r.Protocol == Protocol && r.Metric == 0 && !r.Odd && r.Via == want.Via && r.Dev == want.Dev && r.OnLink == want.OnLink
}

// mayReplace tells routes that are ours, were edited by hand, or were written
// by an earlier flannel from those of an administrator and of the kernel.
func (p *planner) mayReplace(r FoundRoute, want Route) bool {
	_, edited := p.was.routes[r.Dst]
	switch r.Protocol {
	case Protocol:
		return true
	case unix.RTPROT_KERNEL: // a network that this host is connected to
		return false
	case unix.RTPROT_BOOT:
		return edited || r.Via.IsValid() && r.Via == want.Peer || r.toVTEP()
	}
	return edited
}

// toVTEP tells the form of a tunnel route: its gateway is the subnet's own
// first address, which nobody but flannel gives to a host.
func (r FoundRoute) toVTEP() bool { return r.Via == r.Dst.Addr() }

// leftover tells a tunnel route of an earlier flannel on a device that is ours
// now.
func (p *planner) leftover(r FoundRoute) bool {
	return r.Protocol == unix.RTPROT_BOOT && r.toVTEP() && p.wants(r.Dev)
}

func (r FoundRoute) describe() string {
	if r.Odd {
		return r.String() + ", not a plain one"
	}
	return r.String()
}
