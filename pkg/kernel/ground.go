package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
)

// Ground is where nobody but flanneld, and the kernel by itself, may put anything.
type Ground struct {
	// Own are the subnets of this host's containers.
	Own []netip.Prefix
	// Networks are those that this daemon has worked in; nil: any.
	Networks []netip.Prefix
	// Devices are those that it wants. One that an earlier run left is its own as well.
	Devices []Device
}

// Conflict is a route of somebody else's that takes packets which are not meant for it.
type Conflict struct {
	Place Place
	Dst   netip.Prefix // the subnet whose packets it takes
	Found FoundRoute

	Source netip.Addr // the address that a missing route is by, or that takes the packets itself
}

// Place says where a route of somebody else's stands.
type Place int

// The places.
const (
	InPlace Place = iota // of a route to a peer
	InOwn                // in this host's own subnet
	InPart               // in a part of a peer's subnet
	Missing              // in this host's own subnet, but it is the kernel's, and is not there
)

func (c Conflict) String() string {
	route := fmt.Sprintf("route %v was written by somebody else and stays: ", c.Found)
	command := c.Command()
	switch {
	case c.Place == Missing:
		return fmt.Sprintf("the route to %v by %s, which has an address of it, is not there: its containers are cut off: "+
			"to put it back, type: %s", c.Found.Dst, c.Found.Dev, command)
	case c.Place == InPart && c.Source.IsValid():
		return fmt.Sprintf("packets for %v, of the peer with %v, stay on this host, as %s has that address: "+
			"to give it back, type: %s", c.Source, c.Dst, c.Found.Dev, command)
	case c.Found.Protocol == unix.RTPROT_KERNEL:
		return fmt.Sprintf("packets for the peer with %v stay on this host, as %s has the network %v: take its address "+
			"there away (dockerd does with its bridge when it is restarted with the options of the subnet file)",
			c.Dst, c.Found.Dev, c.Found.Dst)
	case c.Place == InOwn:
		return route + fmt.Sprintf("it leads packets away that are for the containers of this host, %v: to give them back, "+
			"type: %s", c.Dst, command)
	case c.Place == InPart:
		return route + fmt.Sprintf("it takes some of what is for the peer with %v: if it should not, type: %s",
			c.Dst, command)
	}
	return route + fmt.Sprintf("to leave %v to flanneld, type: %s", c.Dst, command)
}

// Command puts it right, for a shell.
func (c Conflict) Command() string {
	switch {
	case c.Place == InPart && c.Source.IsValid():
		return printable.Command("ip", "addr", "del", c.Found.Dst.String(), "dev", c.Found.Dev)
	case c.Place != Missing:
		return c.Found.DeleteCommand()
	}
	words := []string{"ip", "route", "replace", c.Found.Dst.String(), "dev", c.Found.Dev, "proto", "kernel"}
	if c.Source.Is4() {
		words = append(words, "scope", "link", "src", c.Source.String())
	} else { // it has neither, but a metric
		words = append(words, "metric", strconv.Itoa(connectedMetric(inet.IPv6)))
	}
	return printable.Command(words[0], words[1:]...)
}

// DeleteCommand takes the route away, for a shell.
func (r FoundRoute) DeleteCommand() string {
	return printable.Command("ip", append([]string{"route", "del"}, strings.Fields(r.String())...)...)
}

// Diverted finds routes that lead packets for this host's own containers away from
// them. Those that an earlier flannel wrote come apart.
func (g Ground) Diverted(links []Link, routes []FoundRoute) (former []*FoundRoute, others []Conflict) {
	for i := range routes {
		r := &routes[i]
		own := slices.IndexFunc(g.Own, func(p netip.Prefix) bool { return contains(p, r.Dst) })
		if own < 0 || !g.leaves(r, links, routes) {
			continue
		}
		switch {
		case r.Protocol == Protocol || g.formerly(r, links, routes):
			former = append(former, r)
		case g.comesFirst(routes, i):
			others = append(others, Conflict{Place: InOwn, Dst: g.Own[own], Found: *r})
		}
	}
	return former, append(others, g.missing(links, routes)...)
}

// missing finds networks of this host's containers to which the kernel's own route is gone,
// as "ip route replace" has it.
func (g Ground) missing(links []Link, routes []FoundRoute) (out []Conflict) {
	if routes == nil { // they could not be read
		return nil
	}
	for _, l := range links {
		if !l.Up || l.Master != "" || l.Tunnel() || g.wants(l.Name) {
			continue
		}
		for _, a := range l.Addrs {
			net := a.Masked()
			own := slices.IndexFunc(g.Own, func(p netip.Prefix) bool { return contains(p, net) })
			there := func(r FoundRoute) bool { return r.Dst == net && r.Dev == l.Name }
			if own >= 0 && !a.IsSingleIP() && !slices.ContainsFunc(routes, there) {
				r := FoundRoute{
					Route: Route{Dst: net, Dev: l.Name}, Protocol: unix.RTPROT_KERNEL,
					Metric: connectedMetric(inet.Of(net.Addr())),
				}
				out = append(out, Conflict{Missing, g.Own[own], r, a.Addr()})
			}
		}
	}
	return out
}

// contains reports whether part lies in p, or is p.
func contains(p, part netip.Prefix) bool { return p.Bits() <= part.Bits() && p.Contains(part.Addr()) }

// leaves tells a route by which packets leave for elsewhere, by a gateway, a tunnel or an
// interface to other hosts, or go nowhere. Others lead to containers, of which one may be
// the gateway to more.
func (g Ground) leaves(r *FoundRoute, links []Link, routes []FoundRoute) bool {
	if r.Protocol == unix.RTPROT_KERNEL {
		return false
	}
	containers := slices.ContainsFunc(links, func(l Link) bool {
		return l.Name == r.Dev && !l.Tunnel() && !g.wants(l.Name) && g.hasAddress(l, g.Own)
	})
	return !containers && (r.Via.IsValid() || r.Dev == "" || g.wants(r.Dev) || outward(r.Dev, routes))
}

// outward tells an interface by which the default route goes, or a route to a peer.
func outward(dev string, routes []FoundRoute) bool {
	return slices.ContainsFunc(routes, func(r FoundRoute) bool {
		return r.Dev == dev && (r.Dst.Bits() == 0 || r.Protocol == Protocol)
	})
}

// hasAddress reports whether an interface has an address of one of the prefixes.
func (Ground) hasAddress(l Link, of []netip.Prefix) bool {
	return slices.ContainsFunc(l.Addrs, func(a Addr) bool {
		return slices.ContainsFunc(of, func(p netip.Prefix) bool { return p.Contains(a.Addr()) })
	})
}

func (g Ground) wants(dev string) bool {
	return slices.ContainsFunc(g.Devices, func(d Device) bool { return d.Name == dev })
}

// comesFirst reports whether packets take a route before the network that an interface
// here is, or will be, connected to: of one metric the kernel puts that last. Those that
// bridges of containers have are our own subnets whole.
func (g Ground) comesFirst(routes []FoundRoute, at int) bool {
	r := &routes[at]
	for i := range routes {
		if routes[i].Dst == r.Dst && routes[i].Protocol == unix.RTPROT_KERNEL {
			return at < i
		}
	}
	last := metricOf(inet.Of(r.Dst.Addr()))
	if slices.Contains(g.Own, r.Dst) {
		last = connectedMetric(inet.Of(r.Dst.Addr()))
	}
	return r.Metric <= last
}

// longestSubnet is the longest that a subnet may be, in bits that are left of an
// address: two hosts at least.
const longestSubnet = 2

// formerly tells the forms in which an earlier flannel wrote a route: by a peer on the
// link, which is neither a container, a virtual machine nor a router of this host's, or by
// a peer's VTEP.
func (g Ground) formerly(r *FoundRoute, links []Link, routes []FoundRoute) bool {
	if !r.boot() || !r.usualMetric() || !r.sameFamily() {
		return false
	}
	at := slices.IndexFunc(links, func(l Link) bool { return l.Name == r.Dev })
	if at < 0 {
		return false
	}
	l := links[at]
	if r.toVTEP() {
		return g.wants(r.Dev) || l.Tunnel()
	}
	onLink := func(a Addr) bool { return a.Contains(r.Via) && !l.Has(r.Via) && !scoped(r.Via) }
	router := func(o FoundRoute) bool { return o.Via == r.Via && g.elsewhere(o.Dst) }
	plain := !r.Special && !r.OnLink && r.Dst.Addr().BitLen()-r.Dst.Bits() >= longestSubnet
	return plain && !l.Tunnel() && !g.hasAddress(l, g.Networks) && !inside(l, links, routes) &&
		slices.ContainsFunc(l.Addrs, onLink) && !slices.ContainsFunc(routes, router)
}

// inside tells a bridge that leads to containers and virtual machines alone.
func inside(l Link, links []Link, routes []FoundRoute) bool {
	wire := func(p Link) bool {
		return p.Master == l.Name && !slices.Contains([]string{"veth", TAP, "dummy"}, p.Type)
	}
	return l.Type == "bridge" && !slices.ContainsFunc(links, wire) && !outward(l.Name, routes)
}

// elsewhere tells a destination that is no subnet of the networks.
func (g Ground) elsewhere(dst netip.Prefix) bool {
	return dst.Bits() == 0 ||
		g.Networks != nil && !slices.ContainsFunc(g.Networks, func(n netip.Prefix) bool { return contains(n, dst) })
}

// Foreign is an address, or a route, that somebody else has put on a device of ours.
type Foreign struct {
	Dev   string
	Addr  netip.Prefix // invalid: it is a route
	Route FoundRoute
}

// Leads is where packets go by it.
func (f Foreign) Leads() netip.Prefix {
	if f.Addr.IsValid() {
		return f.Addr.Masked()
	}
	return f.Route.Dst
}

func (f Foreign) String() string {
	if f.Addr.IsValid() {
		return fmt.Sprintf("address %v on %s", f.Addr, f.Dev)
	}
	return fmt.Sprintf("route %v", f.Route)
}

// Describe says whose it is.
func (f Foreign) Describe() string {
	text := fmt.Sprintf("%v is none of flanneld's", f)
	if author := f.author(); author != "" {
		text += ", but of " + author
	}
	return text
}

// Command takes it away.
func (f Foreign) Command() string {
	if f.Addr.IsValid() {
		return printable.Command("ip", "addr", "del", f.Addr.String(), "dev", f.Dev)
	}
	return f.Route.DeleteCommand()
}

// author is who writes such things; "": nobody in particular.
func (f Foreign) author() string {
	switch {
	case f.Addr.IsValid() && f.Addr.Addr().IsLinkLocalUnicast():
		return "a program that gives interfaces an address of 169.254.0.0/16, such as dhcpcd, NetworkManager or avahi-autoipd"
	case f.Addr.IsValid():
		return "a network manager, such as dhcpcd, systemd-networkd or NetworkManager"
	}
	switch f.Route.Protocol {
	case unix.RTPROT_DHCP:
		return "a DHCP client, such as dhcpcd, systemd-networkd or NetworkManager"
	case unix.RTPROT_STATIC:
		return "a network manager, such as systemd-networkd or NetworkManager"
	case unix.RTPROT_RA:
		return "a router's advertisement"
	case unix.RTPROT_BOOT:
		return "somebody by hand, or a program such as dhcpcd"
	}
	if f.Route.Protocol > unix.RTPROT_STATIC {
		return "a routing daemon, such as bird or zebra"
	}
	return ""
}

// Foreign finds what somebody else has put on devices of ours, routes first: they may
// go by an address. What the kernel gives by itself, or flannel has given, is not among it.
func (g Ground) Foreign(links []Link, routes []FoundRoute) (out []Foreign) {
	ours := map[string]bool{}
	var addrs []Foreign
	for _, l := range links {
		if l.Kind == nil || !g.wants(l.Name) && !l.leftIn(g.Networks) {
			continue
		}
		ours[l.Name] = true
		for _, a := range l.Addrs {
			if !g.gives(l.Name, a) {
				addrs = append(addrs, Foreign{Dev: l.Name, Addr: a.Prefix})
			}
		}
	}
	for i := range routes {
		r := &routes[i]
		inOwn := func(p netip.Prefix) bool { return contains(p, r.Dst) }
		if r.Protocol != Protocol && r.Protocol != unix.RTPROT_KERNEL && ours[r.Dev] &&
			!g.formerly(r, links, routes) && !slices.ContainsFunc(g.Own, inOwn) {
			out = append(out, Foreign{Dev: r.Dev, Route: *r})
		}
	}
	return append(out, addrs...)
}

// gives tells an address that flanneld, an earlier flannel or the kernel by itself
// gives to a device.
func (g Ground) gives(dev string, a Addr) bool {
	if a.Addr().Is6() && a.LinkLocal {
		return true
	}
	for _, d := range g.Devices {
		if d.Name == dev {
			return d.Addrs.Has(a.Prefix) || d.Addrs.former(a.Prefix) || d.Addrs.lengthOff(a.Prefix)
		}
	}
	return a.IsSingleIP() && within(g.Networks, a.Prefix)
}
