package kernel

import (
	"net/netip"
	"slices"

	"flanneld/pkg/inet"
)

// pavements are what it takes for the kernel to take IPv6 routes to a tunnel's gateways.
// It refuses one whose gateway, though said to be on the link, is led elsewhere: by the
// route that is to be replaced, or by a wider one of an administrator's. So a route to the
// gateway alone lies beneath for that moment. IPv4 has no such rule.
func (p *planner) pavements(routes []Op) (pave, unpave []Op) {
	var led ledBy
	paved := map[netip.Addr]bool{}
	beneath := func(to Hop, edited bool) {
		if !to.OnLink || inet.Of(to.Via) == inet.IPv4 || paved[to.Via] {
			return
		}
		if led.devs == nil {
			led = p.ledBy()
		}
		if !edited && !led.elsewhere(to) {
			return
		}
		paved[to.Via] = true
		r := Route{Dst: netip.PrefixFrom(to.Via, to.Via.BitLen()), Dev: to.Dev}
		pave = append(pave, Op{Add, r, "so that the gateway is on the link", false})
		found := FoundRoute{Route: r, Protocol: Protocol, Metric: metricOf(inet.Of(to.Via))}
		unpave = append(unpave, Op{Delete, found, "", false})
	}
	for _, o := range p.nexthops.writes {
		if n, is := o.Object.(Nexthop); is { // routes by one that was edited lead elsewhere already
			beneath(n.Hop, o.Action == Replace)
		}
	}
	for _, o := range routes {
		if r, is := o.Object.(Route); is {
			beneath(r.hop(), false)
		}
	}
	return pave, unpave
}

// gatewaysFirst puts routes to a device alone last: one to a whole network would lead the
// gateways of the others in it elsewhere.
func gatewaysFirst(routes []Op) {
	alone := func(o Op) int {
		if r, is := o.Object.(Route); is && !r.Via.IsValid() {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(routes, func(a, b Op) int { return alone(a) - alone(b) })
}

// ledBy are the devices by which IPv6 destinations are led; "": several.
type ledBy struct {
	devs    map[netip.Prefix]string
	lengths [129]bool // that there are
}

// ledBy leaves the default route out, which is no obstacle.
func (p *planner) ledBy() ledBy {
	led := ledBy{devs: map[netip.Prefix]string{}}
	for i := range p.have.routes {
		r := &p.have.routes[i]
		if inet.Of(r.Dst.Addr()) == inet.IPv4 || r.Dst.Bits() == 0 || p.gone(r) {
			continue
		}
		dev := r.Dev
		if other, more := led.devs[r.Dst]; more && other != dev {
			dev = ""
		}
		led.devs[r.Dst], led.lengths[r.Dst.Bits()] = dev, true
	}
	return led
}

// elsewhere tells a gateway that some route leads by another device, be it a wider one
// than another.
func (l *ledBy) elsewhere(to Hop) bool {
	for bits, some := range l.lengths {
		if some {
			dev, led := l.devs[netip.PrefixFrom(to.Via, bits).Masked()]
			if led && dev != to.Dev {
				return true
			}
		}
	}
	return false
}
