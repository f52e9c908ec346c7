// Package kerneltest is a kernel in memory: it keeps links, routes, neighbours
// and forwarding entries the way Linux does, as far as a kernel.Syncer can
// tell, prints itself as `ip` commands, and fails on demand.
package kerneltest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"flanneld/pkg/kernel"
)

// Kernel implements kernel.Conn. Its zero value has no interfaces.
type Kernel struct {
	Ops  []kernel.Op             // carried out, in order
	Fail func(call string) error // decides what becomes of a call; nil: all succeed
	next int                     // interface index

	links   []kernel.Link
	routes  []kernel.FoundRoute
	entries map[string]kernel.Entries
}

var _ kernel.Conn = (*Kernel)(nil)

// New returns a kernel with loopback and one interface that is up.
func New(name string, mtu int, addrs ...string) *Kernel {
	k := &Kernel{next: 1, entries: map[string]kernel.Entries{}}
	k.AddLink(kernel.Link{Name: "lo", MTU: 65536, Up: true, Kind: "device"})
	l := kernel.Link{Name: name, MTU: mtu, Up: true, Kind: "veth"}
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
	return slices.Clone(k.routes), k.fail("list routes")
}

// Entries implements kernel.Conn.
func (k *Kernel) Entries(dev kernel.Link) (kernel.Entries, error) {
	e := k.entries[dev.Name]
	return kernel.Entries{Neighbours: slices.Clone(e.Neighbours), FDB: slices.Clone(e.FDB)}, k.fail("list entries of " + dev.Name)
}

// Do implements kernel.Conn.
func (k *Kernel) Do(o kernel.Op) error {
	if err := k.fail(o.String()); err != nil {
		return err
	}
	if err := k.do(o); err != nil {
		return err
	}
	k.Ops = append(k.Ops, o)
	return nil
}

func (k *Kernel) do(o kernel.Op) error {
	if v, ok := o.Object.(kernel.VXLAN); ok {
		return k.device(o.Verb, v)
	}
	l := k.link(o.Dev())
	if l == nil {
		return syscall.ENODEV
	}
	switch x := o.Object.(type) {
	case kernel.Setting:
		k.set(l, x)
	case kernel.Address:
		l.Addrs = slices.DeleteFunc(l.Addrs, func(a kernel.Addr) bool { return a.Prefix == x.Prefix })
		if o.Verb == kernel.Add {
			l.Addrs = append(l.Addrs, kernel.Addr{Prefix: x.Prefix})
		}
	case kernel.FDB:
		e := k.entries[x.Dev]
		e.FDB = slices.DeleteFunc(e.FDB, func(f kernel.FoundFDB) bool { return f.MAC == x.MAC })
		if o.Verb != kernel.Delete {
			e.FDB = append(e.FDB, kernel.FoundFDB{FDB: x, Permanent: true})
		}
		k.entries[x.Dev] = e
	case kernel.Neighbour:
		e := k.entries[x.Dev]
		e.Neighbours = slices.DeleteFunc(e.Neighbours, func(n kernel.FoundNeighbour) bool { return n.Addr == x.Addr })
		if o.Verb != kernel.Delete {
			e.Neighbours = append(e.Neighbours, kernel.FoundNeighbour{Neighbour: x, Permanent: true})
		}
		k.entries[x.Dev] = e
	case kernel.FoundRoute:
		k.routes = slices.DeleteFunc(k.routes, func(r kernel.FoundRoute) bool { return r == x })
	case kernel.Route:
		return k.route(o.Verb, x, l)
	}
	return nil
}

func (k *Kernel) device(verb kernel.Verb, v kernel.VXLAN) error {
	if verb == kernel.Delete {
		k.links = slices.DeleteFunc(k.links, func(l kernel.Link) bool { return l.Name == v.Name })
		k.Lose(v.Name)
		return nil
	}
	if k.link(v.Name) != nil {
		return syscall.EEXIST
	}
	read := v
	read.Addr, read.NoChecksumOffload = netip.Prefix{}, false
	k.AddLink(kernel.Link{Name: v.Name, MTU: v.MTU, MAC: v.MAC, Kind: "vxlan", VXLAN: &read})
	return nil
}

func (k *Kernel) set(l *kernel.Link, s kernel.Setting) {
	switch {
	case s.Up:
		l.Up = true
	case s.MTU != 0:
		l.MTU = s.MTU
	case s.MAC != kernel.MAC{}:
		l.MAC = s.MAC
	case s.NoChecksumOffload:
		v := *l.VXLAN
		v.NoChecksumOffload = true
		l.VXLAN = &v
	default:
		l.Alias = s.Alias
	}
}

func (k *Kernel) route(verb kernel.Verb, r kernel.Route, l *kernel.Link) error {
	covered := slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool { return a.Contains(r.Via) })
	switch {
	case !l.Up:
		return syscall.ENETDOWN
	case !r.OnLink && !covered:
		return syscall.ENETUNREACH
	}
	r.Peer = netip.Addr{}
	same := func(f kernel.FoundRoute) bool { return f.Dst == r.Dst && f.Metric == 0 }
	if verb == kernel.Add && slices.ContainsFunc(k.routes, same) {
		return syscall.EEXIST
	}
	k.routes = append(slices.DeleteFunc(k.routes, same), kernel.FoundRoute{Route: r, Protocol: kernel.Protocol})
	return nil
}

func (k *Kernel) link(name string) *kernel.Link {
	i := slices.IndexFunc(k.links, func(l kernel.Link) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	return &k.links[i]
}

// Change edits an interface by hand; down takes what is on it along.
func (k *Kernel) Change(name string, edit func(*kernel.Link)) {
	l := k.link(name)
	edit(l)
	if !l.Up {
		k.Lose(name)
	}
}

// Lose forgets everything on an interface, as the kernel does when it goes down.
func (k *Kernel) Lose(name string) {
	k.routes = slices.DeleteFunc(k.routes, func(r kernel.FoundRoute) bool { return r.Dev == name })
	delete(k.entries, name)
}

// EditRoutes changes the routes by hand.
func (k *Kernel) EditRoutes(edit func([]kernel.FoundRoute) []kernel.FoundRoute) {
	k.routes = edit(k.routes)
}

// EditEntries changes what is on a vxlan device by hand.
func (k *Kernel) EditEntries(dev string, edit func(*kernel.Entries)) {
	e := k.entries[dev]
	edit(&e)
	k.entries[dev] = e
}

// String is the present state, sorted, as the commands that would make it.
func (k *Kernel) String() string {
	var lines []string
	for _, l := range k.links {
		if l.VXLAN == nil {
			continue
		}
		v := *l.VXLAN
		v.MAC, v.MTU = l.MAC, l.MTU
		line := "ip link add " + v.String() + " alias " + l.Alias
		if l.Up {
			line += " up"
		}
		if v.NoChecksumOffload {
			line += " # checksums by the CPU"
		}
		lines = append(lines, line)
		for _, a := range l.Addrs {
			lines = append(lines, kernel.Op{Verb: kernel.Add, Object: kernel.Address{Dev: l.Name, Prefix: a.Prefix}}.String())
		}
	}
	for _, r := range k.routes {
		lines = append(lines, fmt.Sprintf("ip route add %v", r))
	}
	for _, e := range k.entries {
		for _, n := range e.Neighbours {
			lines = append(lines, kernel.Op{Verb: kernel.Add, Object: n.Neighbour}.String())
		}
		for _, f := range e.FDB {
			lines = append(lines, kernel.Op{Verb: kernel.Add, Object: f.FDB}.String())
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
