// Package kerneltest is a kernel in memory: it keeps links, routes, neighbours,
// forwarding entries and peers as Linux does, as far as a kernel.Syncer can
// tell, takes and prints `ip` commands, and fails on demand.
package kerneltest

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// Kernel implements kernel.Conn.
type Kernel struct {
	Ops  []kernel.Op             // carried out, in order
	Fail func(call string) error // decides what becomes of a call; nil: all succeed

	// NoWireGuard: the kernel has none, so that such devices are of user space.
	NoWireGuard bool

	next    int // interface index
	looks   []inet.Family
	links   []kernel.Link
	routes  []kernel.FoundRoute
	entries map[string]kernel.Entries

	nexthops []kernel.FoundNexthop // by id
	pairs    map[string]string     // interfaces that are each other's peer
}

var _ kernel.Conn = (*Kernel)(nil)

// New returns a kernel with loopback and one interface that is up.
func New(name string, mtu int, addrs ...string) *Kernel {
	k := &Kernel{next: 1, looks: inet.Families(), entries: map[string]kernel.Entries{}, pairs: map[string]string{}}
	k.AddLink(kernel.Link{Name: "lo", MTU: 65536, Up: true, Type: "device"})
	l := kernel.Link{Name: name, MTU: mtu, Up: true, Type: "veth"}
	for _, a := range addrs {
		l.Addrs = append(l.Addrs, kernel.Addr{Prefix: netip.MustParsePrefix(a)})
	}
	k.AddLink(l)
	return k
}

// AddLink adds an interface, with the next index.
func (k *Kernel) AddLink(l kernel.Link) {
	l.Index = k.next
	k.next++
	k.links = append(k.links, l)
}

func (k *Kernel) fail(call string) error {
	if k.Fail == nil {
		return nil
	}
	return k.Fail(call)
}

// Look implements kernel.Conn.
func (k *Kernel) Look(families ...inet.Family) []inet.Family {
	if k.looks = families; len(families) == 0 {
		k.looks = inet.Families()
	}
	return k.looks
}

// unseen tells what is of a family that is not looked at.
func (k *Kernel) unseen(a netip.Addr) bool { return !slices.Contains(k.looks, inet.Of(a)) }

// Links implements kernel.Conn.
func (k *Kernel) Links() ([]kernel.Link, error) {
	links := slices.Clone(k.links)
	for i := range links {
		l := &links[i]
		l.Addrs = slices.DeleteFunc(slices.Clone(l.Addrs), func(a kernel.Addr) bool { return k.unseen(a.Addr()) })
	}
	return links, k.fail("list links")
}

// Routes implements kernel.Conn.
func (k *Kernel) Routes() ([]kernel.FoundRoute, error) {
	routes := make([]kernel.FoundRoute, len(k.routes))
	for i, r := range k.routes {
		routes[i] = k.follow(r)
	}
	routes = slices.DeleteFunc(append(routes, k.connected()...), func(r kernel.FoundRoute) bool {
		return k.unseen(r.Dst.Addr())
	})
	slices.SortStableFunc(routes, func(a, b kernel.FoundRoute) int { // of one metric, IPv4's are in order
		if a.Dst.Addr().Is4() || b.Dst.Addr().Is4() {
			return cmp.Compare(inet.Of(a.Dst.Addr()), inet.Of(b.Dst.Addr()))
		}
		byDst := cmp.Or(a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Dst.Bits(), b.Dst.Bits()))
		return cmp.Or(byDst, cmp.Compare(a.Metric, b.Metric))
	})
	return routes, k.fail("list routes")
}

// connected are the routes that come with addresses.
func (k *Kernel) connected() (routes []kernel.FoundRoute) {
	for _, l := range k.links {
		for _, a := range l.Addrs {
			r := kernel.FoundRoute{Route: kernel.Route{Dst: a.Masked(), Dev: l.Name}, Protocol: unix.RTPROT_KERNEL}
			switch {
			case !l.Up:
			case a.Addr().Is6():
				r.Metric = 256
				routes = append(routes, r)
			case !a.IsSingleIP():
				r.Special = true
				routes = append(routes, r)
			}
		}
	}
	return routes
}

// Entries implements kernel.Conn.
func (k *Kernel) Entries(dev kernel.Link) (kernel.Entries, error) {
	e := k.entries[dev.Name]
	e = kernel.Entries{Neighbours: slices.Clone(e.Neighbours), FDB: slices.Clone(e.FDB), Peers: slices.Clone(e.Peers)}
	e.Neighbours = slices.DeleteFunc(e.Neighbours, func(n kernel.FoundNeighbour) bool { return k.unseen(n.Addr) })
	return e, k.fail("list entries of " + dev.Name)
}

// Do implements kernel.Conn.
func (k *Kernel) Do(ops ...kernel.Op) []error {
	errs := make([]error, len(ops))
	for i, o := range ops {
		if errs[i] = k.fail(o.String()); errs[i] != nil {
			continue
		}
		if errs[i] = k.do(o); errs[i] == nil {
			k.Ops = append(k.Ops, o)
		}
	}
	return errs
}

func (k *Kernel) link(name string) *kernel.Link {
	i := slices.IndexFunc(k.links, func(l kernel.Link) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &k.links[i]
}

// Change edits an interface by hand, with what follows from it in Linux.
func (k *Kernel) Change(name string, edit func(*kernel.Link)) {
	l := k.link(name)
	before := *l
	l.Addrs = slices.Clone(l.Addrs)
	edit(l)
	down := before.Up && !l.Up
	if down { // which takes IPv6 addresses along
		l.Addrs = slices.DeleteFunc(l.Addrs, isIPv6)
	}
	// An interface that loses its last IPv4 address loses all else of IPv4.
	isIPv4 := func(a kernel.Addr) bool { return !isIPv6(a) }
	lost4 := down || slices.ContainsFunc(before.Addrs, isIPv4) && !slices.ContainsFunc(l.Addrs, isIPv4)
	lost := func(a netip.Addr) bool { return down || lost4 && a.Is4() }
	if lost4 {
		k.routes = slices.DeleteFunc(k.routes, func(r kernel.FoundRoute) bool {
			return r.Dev == name && lost(r.Dst.Addr())
		})
	}
	l.NoCarrier = l.Up && !k.carrier(name)
	if before.Up && !l.Up || l.NoCarrier {
		k.loseNexthops(name)
	}
	if peer := k.link(k.pairs[name]); peer != nil {
		if peer.NoCarrier = peer.Up && !l.Up; peer.NoCarrier {
			k.loseNexthops(peer.Name)
		}
	}
	e := k.entries[name]
	e.Neighbours = slices.DeleteFunc(slices.Clone(e.Neighbours), func(n kernel.FoundNeighbour) bool {
		return l.MAC != before.MAC || lost(n.Addr)
	})
	k.entries[name] = e
}

func isIPv6(a kernel.Addr) bool { return a.Addr().Is6() }

func (k *Kernel) loseRoutes(dev string) {
	k.routes = slices.DeleteFunc(k.routes, func(r kernel.FoundRoute) bool { return r.Dev == dev })
}

// EditRoutes changes the routes by hand.
func (k *Kernel) EditRoutes(edit func([]kernel.FoundRoute) []kernel.FoundRoute) {
	k.routes = edit(k.routes)
}
