// Package underlay is what a host depends on beneath the cluster's network: the
// networks it is connected to, the gateways of its routes, etcd's members, and
// whatever resolves their names. None of them may be led into the network. The
// package is pure: others read the kernel.
package underlay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// Need is an address, or a whole network, that a host reaches by its own routes.
type Need struct {
	netip.Prefix
	What string // "etcd", "a gateway", "the network of ens33"

	// Resolver: it is a name server. Member: it is one of several of etcd's. Either may
	// well be a container.
	Resolver, Member bool

	// Inhabited: it is a network in which the host's own subnet lies.
	Inhabited bool
}

// Address is a need of one address.
func Address(a netip.Addr, what string) Need {
	a = a.Unmap()
	return Need{Prefix: netip.PrefixFrom(a, a.BitLen()), What: what}
}

func (n Need) String() string {
	if n.IsSingleIP() {
		return fmt.Sprintf("%v (%s)", n.Addr(), n.What)
	}
	return fmt.Sprintf("%v (%s)", n.Prefix, n.What)
}

// Known is what an operator's commands know of what a cluster's hosts need.
type Known struct {
	Etcd      []Need // its members' addresses
	Connected []Need // networks of the host on which the command runs
	Local     bool   // etcd is asked on that host, or through it
}

// Host is what one host needs. The zero Host needs nothing.
type Host struct {
	needs  []Need
	routes []hostRoute // that do not lead into the network
}

type hostRoute struct {
	dst    netip.Prefix
	metric int
}

// Of is the host with these links and routes, and with needs that the kernel
// does not know of. external names the interfaces by which it talks to other
// hosts; none: they are not known. own are subnets that are this host's, as far as is
// known: a bridge with an address of one leads to containers, whatever its ports.
func Of(external []string, links []kernel.Link, routes []kernel.FoundRoute, more []Need, own []netip.Prefix) Host {
	inside, tunnels := inward(external, links, routes, own), map[string]bool{}
	for _, l := range links {
		tunnels[l.Name] = tunnel(l)
	}
	var h Host
	for _, n := range more {
		if !n.Resolver || !holdAddr(own, n.Addr()) {
			h.add(n, external, links, own)
		}
	}
	for _, r := range routes {
		if r.Protocol == kernel.Protocol || tunnels[r.Dev] {
			continue
		}
		h.routes = append(h.routes, hostRoute{r.Dst, r.Metric})
		if r.Via.IsValid() && !inside[r.Dev] {
			h.add(Address(r.Via, gatewayTo(r.Dst)), external, links, own)
		}
	}
	for _, l := range links {
		for _, a := range l.Addrs {
			if !inside[l.Name] && !a.IsSingleIP() {
				n := Need{Prefix: a.Masked(), What: "the network of " + l.Name}
				n.Inhabited = slices.ContainsFunc(own, func(p netip.Prefix) bool { return holds(n.Prefix, p) })
				h.add(n, external, links, own)
			}
		}
	}
	return h
}

// inward are the interfaces that lead to containers: tunnels, and bridges by which
// no other host is reached.
func inward(external []string, links []kernel.Link, routes []kernel.FoundRoute, own []netip.Prefix) map[string]bool {
	inside := map[string]bool{}
	for _, l := range links {
		outward := func(r kernel.FoundRoute) bool { return r.Dev == l.Name && r.Dst.Bits() == 0 }
		ofOwn := (l.Type == "bridge" || l.Type == "openvswitch") &&
			slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool { return holdAddr(own, a.Addr()) })
		inside[l.Name] = tunnel(l) ||
			(ContainersOnly(l, links) || ofOwn) && !slices.Contains(external, l.Name) && !slices.ContainsFunc(routes, outward)
	}
	return inside
}

// tunnel tells a device that leads into the cluster's network: ours, or flannel0, which is
// that of flannel's backend udp and has an address with the length of the whole network.
func tunnel(l kernel.Link) bool {
	return l.Tunnel() || l.Type == kernel.TAP && strings.HasPrefix(l.Name, "flannel")
}

func holdAddr(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// add takes a need up, unless it is met by this host itself, or by a container in its
// own subnet. What a container elsewhere meets stays: the network of its bridge may be
// taken away like any other. What IPv6 has on each link, such as the gateway that a router
// advertises, no route leads away.
func (h *Host) add(n Need, external []string, links []kernel.Link, own []netip.Prefix) {
	met := func(l kernel.Link) bool {
		return slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool {
			return a.Addr() == n.Addr() || a.Contains(n.Addr()) && !slices.Contains(external, l.Name) && holdAddr(own, a.Addr())
		})
	}
	onEachLink := inet.Of(n.Addr()) == inet.IPv6 && n.Addr().IsLinkLocalUnicast()
	if !n.IsValid() || n.Addr().IsLoopback() || onEachLink || n.IsSingleIP() && slices.ContainsFunc(links, met) ||
		slices.ContainsFunc(h.needs, func(o Need) bool { return o.Prefix == n.Prefix }) {
		return
	}
	h.needs = append(h.needs, n)
}

func gatewayTo(dst netip.Prefix) string {
	if dst.Bits() == 0 {
		return "the default gateway"
	}
	return "the gateway to " + dst.String()
}

// ContainersOnly tells a bridge without a port to anything but containers, such as
// docker0 or cni0: its addresses are what the cluster's network is about.
func ContainersOnly(l kernel.Link, links []kernel.Link) bool {
	return l.Type == "bridge" && !slices.ContainsFunc(links, func(p kernel.Link) bool {
		return p.Master == l.Name && p.Type != "veth"
	})
}

// Takes tells what a route to p, with the best metric, would take away from the
// host. network is the cluster's; invalid: not known, and then only addresses
// count.
//
// The kernel takes the route with the longest prefix. So an address is taken by a
// route that contains it, unless another route to it is longer; and a network that
// the host is connected to, by a route to it or to a part of it. A connected network
// that is as large as the cluster's, or larger, holds it on purpose, and so does one
// in which the host's own subnet lies: of that, only addresses that are known to be in
// use count.
func (h Host) Takes(network, p netip.Prefix) (Need, bool) {
	counts := h.counting(network)
	for _, n := range h.needs {
		if !counts(n) {
			continue
		}
		taken := n.IsSingleIP() && h.Leads(p, n.Addr())
		onPurpose := n.Inhabited || n.Bits() <= network.Bits() && n.Overlaps(network)
		if !n.IsSingleIP() && network.IsValid() && !onPurpose {
			taken = n.Bits() <= p.Bits() && n.Contains(p.Addr())
		}
		if taken {
			return n, true
		}
	}
	return Need{}, false
}

// counting tells the needs that count for a network. Where a host needs nothing else in
// it, name servers there are containers, and so are members of an etcd that has others
// elsewhere: the network leads to them. It is asked for each lease, so it copies nothing.
func (h Host) counting(network netip.Prefix) (counts func(Need) bool) {
	hosts := func(n Need) bool { return !n.Resolver && !n.Member && n.Overlaps(network) }
	if slices.ContainsFunc(h.needs, hosts) {
		return func(Need) bool { return true }
	}
	elsewhere := slices.ContainsFunc(h.needs, func(n Need) bool { return n.Member && !n.Overlaps(network) })
	return func(n Need) bool { return !n.Resolver && !(n.Member && elsewhere && n.Overlaps(network)) }
}

// Leads tells whether packets to a would take a route to p.
func (h Host) Leads(p netip.Prefix, a netip.Addr) bool { return p.Contains(a) && !h.longer(p, a) }

// longer tells whether the host has a longer route to a than p.
func (h Host) longer(p netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(h.routes, func(r hostRoute) bool { return r.dst.Bits() > p.Bits() && r.dst.Contains(a) })
}

// Diverts tells what somebody else's route into the network takes away from the host:
// as Takes does, whatever the cluster's network, and where the host has no route to the
// same destination that is as good.
func (h Host) Diverts(p netip.Prefix, metric int) (Need, bool) {
	if slices.ContainsFunc(h.routes, func(r hostRoute) bool { return r.dst == p && r.metric <= metric }) {
		return Need{}, false
	}
	if p.Bits() == 0 {
		return Need{Prefix: p, What: "all that has no other route"}, true
	}
	i := slices.IndexFunc(h.needs, func(n Need) bool {
		if n.IsSingleIP() {
			return h.Leads(p, n.Addr())
		}
		return n.Bits() <= p.Bits() && n.Contains(p.Addr())
	})
	if i < 0 {
		return Need{}, false
	}
	return h.needs[i], true
}

// holds tells whether a network lies in a larger one.
func holds(larger, network netip.Prefix) bool {
	return larger.Bits() < network.Bits() && larger.Overlaps(network)
}

// Within are the needs that overlap the cluster's network, but for networks that
// hold it on purpose.
func (h Host) Within(network netip.Prefix) (out []Need) {
	counts := h.counting(network)
	return Within(slices.DeleteFunc(slices.Clone(h.needs), func(n Need) bool { return !counts(n) }), network)
}

// Within are those of the needs that overlap the cluster's network, but for
// networks that hold it on purpose, and for addresses in one that is named.
func Within(needs []Need, network netip.Prefix) (out []Need) {
	for _, n := range needs {
		named := func(o Need) bool { return o.Bits() < n.Bits() && o.Contains(n.Addr()) && !holds(o.Prefix, network) }
		if n.Overlaps(network) && !holds(n.Prefix, network) && !slices.ContainsFunc(needs, named) {
			out = append(out, n)
		}
	}
	return out
}

// Around are those of the needs that are networks around the cluster's.
func Around(needs []Need, network netip.Prefix) (out []Need) {
	for _, n := range needs {
		if holds(n.Prefix, network) {
			out = append(out, n)
		}
	}
	return out
}

// Reserved are the addresses and networks that no subnet of the host's own, of a
// length, may overlap: its containers' bridge has a route to the whole of it.
func (h Host) Reserved(network netip.Prefix, length int) (out []netip.Prefix) {
	for _, n := range h.Within(network) {
		if !n.IsSingleIP() || !h.longer(netip.PrefixFrom(n.Addr(), length), n.Addr()) {
			out = append(out, n.Prefix)
		}
	}
	return out
}

// Networks are those that the host is connected to.
func (h Host) Networks() (out []Need) {
	for _, n := range h.needs {
		if !n.IsSingleIP() {
			out = append(out, n)
		}
	}
	return out
}

// Houses tells whether an address lies in a network that this host is connected to.
func (h Host) Houses(a netip.Addr) bool {
	return slices.ContainsFunc(h.needs, func(n Need) bool { return !n.IsSingleIP() && n.Contains(a) })
}

// Overlaps tells whether the host needs anything in or around the network.
func (h Host) Overlaps(network netip.Prefix) bool {
	return slices.ContainsFunc(h.needs, func(n Need) bool { return n.Overlaps(network) })
}

// NoHost says why a can be no host: it is the broadcast or the network address of a
// network that this host is connected to. "": it can be one.
func (h Host) NoHost(a netip.Addr) string {
	for _, n := range h.needs {
		if what := inet.NoHost(n.Prefix, a); what != "" {
			return fmt.Sprintf("%s of %v", what, n)
		}
	}
	return ""
}
