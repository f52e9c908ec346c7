package kernel

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// mayReplace tells routes that are ours, were edited by hand, or were written
// by an earlier flannel from those of an administrator and of the kernel.
func (p *planner) mayReplace(r FoundRoute, want Route) bool {
	edited := p.was.routes.has(r.Dst) || p.goes(&r)
	if !r.usualMetric() {
		return false
	}
	switch r.Protocol {
	case Protocol:
		return true
	case unix.RTPROT_KERNEL: // a network that this host is connected to
		return false
	case unix.RTPROT_BOOT:
		return edited || p.former(&r, want)
	}
	return edited
}

// former tells a route that an earlier flannel wrote where want is to be. To a whole network it
// wrote none with a gateway.
func (p *planner) former(r *FoundRoute, want Route) bool {
	switch {
	case !r.boot():
		return false
	case r.hop() == want.hop() && p.wants(r.Dev):
		return true
	case !want.Via.IsValid() && !want.Peer.IsValid():
		return false
	}
	return r.Via.IsValid() && r.Via == want.Peer || r.toVTEP() || p.ground.formerly(r, p.have.links, p.have.routes)
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
