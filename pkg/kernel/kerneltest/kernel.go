// Package kerneltest is a kernel in memory: it keeps links, routes, neighbours
// and forwarding entries as Linux does, as far as a kernel.Syncer can
// tell, takes and prints `ip` commands, and fails on demand.
package kerneltest

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"flanneld/pkg/kernel"
)

// Kernel implements kernel.Conn.
type Kernel struct {
	Ops  []kernel.Op             // carried out, in order
	Fail func(call string) error // decides what becomes of a call; nil: all succeed

	next    int // interface index
	links   []kernel.Link
	routes  []kernel.FoundRoute
	entries map[string]kernel.Entries

	nexthops []kernel.FoundNexthop // by id
	pairs    map[string]string     // interfaces that are each other's peer
}

var _ kernel.Conn = (*Kernel)(nil)

// New returns a kernel with loopback and one interface that is up.
func New(name string, mtu int, addrs ...string) *Kernel {
	k := &Kernel{next: 1, entries: map[string]kernel.Entries{}, pairs: map[string]string{}}
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

// Links implements kernel.Conn.
func (k *Kernel) Links() ([]kernel.Link, error) {
	return slices.Clone(k.links), k.fail("list links")
}

// Routes implements kernel.Conn.
func (k *Kernel) Routes() ([]kernel.FoundRoute, error) {
	routes := make([]kernel.FoundRoute, len(k.routes))
	for i, r := range k.routes {
		routes[i] = k.follow(r)
	}
	return append(routes, k.connected()...), k.fail("list routes")
}

// connected are the routes that come with addresses.
func (k *Kernel) connected() (routes []kernel.FoundRoute) {
	for _, l := range k.links {
		for _, a := range l.Addrs {
			if l.Up && !a.IsSingleIP() {
				r := kernel.Route{Dst: a.Masked(), Dev: l.Name}
				routes = append(routes, kernel.FoundRoute{Route: r, Protocol: unix.RTPROT_KERNEL, Special: true})
			}
		}
	}
	return routes
}

// Entries implements kernel.Conn.
func (k *Kernel) Entries(dev kernel.Link) (kernel.Entries, error) {
	e := k.entries[dev.Name]
	e = kernel.Entries{Neighbours: slices.Clone(e.Neighbours), FDB: slices.Clone(e.FDB)}
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
	off := before.Up && !l.Up || len(before.Addrs) > 0 && len(l.Addrs) == 0
	if off {
		k.loseRoutes(name)
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
	if off || l.MAC != before.MAC {
		e := k.entries[name]
		e.Neighbours = nil
		k.entries[name] = e
	}
}

func (k *Kernel) loseRoutes(dev string) {
	k.routes = slices.DeleteFunc(k.routes, func(r kernel.FoundRoute) bool { return r.Dev == dev })
}

// EditRoutes changes the routes by hand.
func (k *Kernel) EditRoutes(edit func([]kernel.FoundRoute) []kernel.FoundRoute) {
	k.routes = edit(k.routes)
}
