package kernel

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

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
