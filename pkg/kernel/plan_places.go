package kernel

import (
	"cmp"

	"flanneld/pkg/inet"
)

// place is what the kernel has where a route is wanted: one of the same
// destination and metric would collide with it.
type place struct {
	first *FoundRoute // the one that packets take
	right bool        // it, or one behind it, is exactly as wanted
	form  uint32      // the next hop object of that
	ours  bool        // it is in the end
	stays *FoundRoute // what must, and a replacement might hit; nil: there is no such

	plain, joining *FoundRoute // the first of IPv6's that cannot, and that can, have several next hops
}

// hit is the route in whose place the kernel puts a new one: of IPv6 the first that is like it.
func (at *place) hit(r Route) *FoundRoute {
	switch {
	case inet.Of(r.Dst.Addr()) == inet.IPv4:
		return at.first
	case r.joins():
		return cmp.Or(at.joining, at.first)
	}
	return cmp.Or(at.plain, at.first)
}

// joins tells a route of IPv6 to which Linux may add next hops: it has one gateway of its own.
func (r Route) joins() bool { return r.Nexthop == 0 && r.Via.IsValid() }

// places finds what there is for each wanted route, and the routes of ours that
// are not wanted as they are.
func (p *planner) places() (places []place, stray []*FoundRoute) {
	places = make([]place, len(p.wanted.routes.list))
	for j := range p.have.routes {
		r := &p.have.routes[j]
		if p.gone(r) || !r.usualMetric() && r.Protocol != Protocol && p.goes(r) {
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
			if right {
				at.right, at.form = true, r.Nexthop
			}
			switch {
			case !r.usualMetric():
			case r.joins():
				at.joining = cmp.Or(at.joining, r)
			default:
				at.plain = cmp.Or(at.plain, r)
			}
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
