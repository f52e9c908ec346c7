package kernel

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

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
			at.ours, replaced[at.first] = true, true // by the kernel, in one step: no packet is lost
			ops = appended(ops, Op{Replace, p.byNexthop(r), "was " + at.first.describe(), before == r})
			p.left(at.first)
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
	for _, r := range stray {
		if replaced[r] {
			continue
		}
		drops = append(drops, Op{Delete, *r, "", false})
		p.left(r)
		if i, isWanted := p.wanted.routes.at[r.Dst]; isWanted && places[i].ours && r.mistakable(p.wanted.routes.list[i]) {
			drops = append(drops, Op{Replace, p.byNexthop(p.wanted.routes.list[i]), "may have been deleted instead", false})
		}
	}
	return ops, drops
}

// mistakable tells a route whose delete the kernel may understand as that of
// want: it goes by destination, metric and next hop, where one is named, and
// takes the first. Where a next hop object is named, it takes no other. Where none is,
// IPv6 takes a route by an object for one by any gateway.
func (r FoundRoute) mistakable(want Route) bool {
	if r.Nexthop != 0 && !r.Special {
		return false // as what is right by the same object is no stray
	}
	return r.usualMetric() && (!r.sameFamily() || r.Via == want.Via || inet.Of(r.Via) == inet.IPv6)
}

// place is what the kernel has where a route is wanted: one of the same
// destination and metric would collide with it.
type place struct {
	first *FoundRoute // the one that packets take
	right bool        // it, or one behind it, is exactly as wanted
	ours  bool        // it is in the end
	stays *FoundRoute // what must, and a replacement might hit; nil: there is no such
}

// places finds what there is for each wanted route, and the routes of ours that
// are not wanted as they are.
func (p *planner) places() (places []place, stray []*FoundRoute) {
	places = make([]place, len(p.wanted.routes.list))
	for j := range p.have.routes {
		r := &p.have.routes[j]
		if p.gone(r) {
			continue
		}
		i, isWanted := p.wanted.routes.at[r.Dst]
		collides := isWanted && (r.usualMetric() || r.inFront())
		right := collides && r.usualMetric() && p.fits(r, &p.wanted.routes.list[i])
		if collides {
			at := &places[i]
			if at.first == nil {
				at.first = r
			}
			at.right = at.right || right
			// IPv6 replaces one that is like the new one, wherever it stands, and not the first.
			ordered := inet.Of(r.Dst.Addr()) == inet.IPv4
			if !right && !ordered && !p.mayReplace(*r, p.wanted.routes.list[i]) {
				at.stays = cmp.Or(at.stays, r)
			}
		}
		if !right && !p.want.Partial && (p.owns(r) || p.leftover(*r)) || p.harmful(r) {
			stray = append(stray, r)
		}
	}
	return places, stray
}

// inFront tells a route of somebody else's that packets take before one of ours, by its
// metric. There is none in front of IPv4's.
func (r *FoundRoute) inFront() bool {
	return r.Protocol != Protocol && r.Metric < metricOf(inet.Of(r.Dst.Addr()))
}

// usualMetric reports whether r has the metric that ours have.
func (r *FoundRoute) usualMetric() bool { return r.Metric == metricOf(inet.Of(r.Dst.Addr())) }

// sameFamily reports whether r has a gateway, and one of its own family.
func (r FoundRoute) sameFamily() bool {
	return r.Via.IsValid() && inet.Of(r.Via) == inet.Of(r.Dst.Addr())
}

// fits reports whether r is what we write for want, but for its metric: plain, or by a
// next hop object of ours.
func (p *planner) fits(r *FoundRoute, want *Route) bool {
	if r.Protocol != Protocol || r.Special || r.Via != want.Via || r.Dev != want.Dev || r.OnLink != want.OnLink {
		return false
	}
	if r.Nexthop == 0 {
		return true
	}
	n := p.nexthop(r.Nexthop)
	return n != nil && n.usable() && n.Hop == r.hop()
}

// mayReplace tells routes that are ours, were edited by hand, or were written
// by an earlier flannel from those of an administrator and of the kernel.
func (p *planner) mayReplace(r FoundRoute, want Route) bool {
	edited := p.was.routes.has(r.Dst)
	if !r.usualMetric() {
		return false
	}
	switch r.Protocol {
	case Protocol:
		return true
	case unix.RTPROT_KERNEL: // a network that this host is connected to
		return false
	case unix.RTPROT_BOOT:
		return edited || r.boot() && r.Via.IsValid() && r.Via == want.Peer || r.boot() && r.toVTEP() ||
			p.ground.formerly(&r, p.have.links, p.have.routes)
	}
	return edited
}

// findParts notes routes of others to a part of what a wanted route leads to: the
// kernel prefers the longer prefix.
func (p *planner) findParts() {
	var lengths [129]bool
	for i := range p.wanted.routes.list {
		lengths[p.wanted.routes.list[i].Dst.Bits()] = true
	}
	for i := range p.have.routes {
		r := &p.have.routes[i]
		own := func(o netip.Prefix) bool { return contains(o, r.Dst) }
		if r.Dst.IsSingleIP() && r.Protocol == unix.RTPROT_KERNEL && p.isAddress(r) {
			continue // which findAddresses notes
		}
		if r.Protocol == Protocol || p.wanted.routes.has(r.Dst) || p.wants(r.Dev) ||
			slices.ContainsFunc(p.want.Own, own) {
			continue
		}
		for bits := range r.Dst.Bits() {
			if !lengths[bits] {
				continue
			}
			whole := netip.PrefixFrom(r.Dst.Addr(), bits).Masked()
			w, wanted := p.wanted.routes.get(whole)
			if wanted && (r.Via != w.Via || r.Dev != w.Dev) {
				p.others.Conflicts = append(p.others.Conflicts, Conflict{Place: InPart, Dst: whole, Found: *r})
				break
			}
		}
	}
	p.findAddresses(lengths[:])
}

// isAddress tells the route that the kernel has to a single address of an interface's, where
// that is one of IPv6.
func (p *planner) isAddress(r *FoundRoute) bool {
	l, exists := p.have.link(r.Dev)
	return exists && l.Has(r.Dst.Addr())
}

// findAddresses notes single addresses of others' in peers' subnets: what is for them stays
// here by the local table, and no route of the main one tells.
func (p *planner) findAddresses(lengths []bool) {
	for _, l := range p.have.links {
		if !l.Up || l.Tunnel() || p.wants(l.Name) {
			continue
		}
		for _, a := range l.Addrs {
			if !a.IsSingleIP() {
				continue
			}
			for bits := range a.Bits() {
				whole := netip.PrefixFrom(a.Addr(), bits).Masked()
				if lengths[bits] && p.wanted.routes.has(whole) {
					r := FoundRoute{
						Route: Route{Dst: a.Masked(), Dev: l.Name}, Protocol: unix.RTPROT_KERNEL,
						Metric: connectedMetric(inet.Of(a.Addr())),
					}
					p.others.Conflicts = append(p.others.Conflicts, Conflict{Place: InPart, Dst: whole, Found: r, Source: a.Addr()})
				}
			}
		}
	}
}

// owns tells a route that this run or an earlier one has written.
func (p *planner) owns(r *FoundRoute) bool {
	return r.Protocol == Protocol && (p.was.routes.has(r.Dst) || within(p.want.Networks, r.Dst))
}

// within tells whether something lies in one of the networks; nil: in all there are.
func within(networks []netip.Prefix, dst netip.Prefix) bool {
	return networks == nil || slices.ContainsFunc(networks, dst.Overlaps)
}

// boot tells a route that an earlier flannel may have written: it knows no next hop
// objects.
func (r FoundRoute) boot() bool { return r.Protocol == unix.RTPROT_BOOT && r.Nexthop == 0 }

// toVTEP tells the form of a tunnel route: its gateway is the subnet's own
// first address, which nobody but flannel gives to a host.
func (r FoundRoute) toVTEP() bool { return r.Via == r.Dst.Addr() }

// leftover tells a tunnel route of an earlier flannel on a device that is ours
// now.
func (p *planner) leftover(r FoundRoute) bool {
	return r.boot() && r.toVTEP() && p.wants(r.Dev)
}

// harmful tells a route that is ours, or an earlier flannel's, and must go. What it
// leads to is known to be ours from then on: no route tells any more.
func (p *planner) harmful(r *FoundRoute) bool {
	ours := p.owns(r) || p.tunnelRoute(*r) && within(p.want.Networks, r.Dst)
	if p.want.Harmful == nil || !ours || !p.want.Harmful(r.Dst) {
		return false
	}
	if r.toVTEP() {
		p.was.neighbours.learn(Neighbour{Dev: r.Dev, Addr: r.Via})
	}
	return true
}

// tunnelRoute tells a route of an earlier flannel on whatever tunnel's device.
func (p *planner) tunnelRoute(r FoundRoute) bool {
	if !r.boot() || !r.toVTEP() {
		return false
	}
	l, exists := p.have.link(r.Dev)
	return exists && l.Tunnel()
}

func (r FoundRoute) describe() string {
	if r.Special {
		return r.String() + ", not a plain one"
	}
	return r.String()
}
