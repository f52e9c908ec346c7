package kerneltest

import (
	"net/netip"
	"slices"
	"syscall"

	"flanneld/pkg/kernel"
)

// do carries out an Op. What is there already, or gone, is success.
func (k *Kernel) do(o kernel.Op) error {
	err := o.Write(writer{k})
	switch {
	case o.Action == kernel.Delete && err == syscall.ENODEV:
		return nil
	case o.Action == kernel.Add && o.Kind() == "route" && err == syscall.EEXIST:
		return nil
	}
	return err
}

func (k *Kernel) addDevice(d kernel.Device) error {
	l := kernel.Link{Name: d.Name, MTU: d.MTU, MAC: d.MAC, Type: d.Kind.Type(), Kind: d.Kind}
	if _, tun := d.Kind.(kernel.UDP); tun || l.Type == "wireguard" && k.NoWireGuard {
		l.Type = kernel.TAP
	}
	if there := k.link(d.Name); there != nil && there.Unserved {
		there.Kind, there.MTU, there.Unserved = d.Kind, d.MTU, false
		return nil
	}
	switch p := parent(l); {
	case p != "" && k.link(p) == nil:
		return syscall.ENODEV
	case slices.ContainsFunc(k.links, func(l kernel.Link) bool { return clash(l, d) }):
		return syscall.EEXIST
	}
	k.AddLink(l)
	return nil
}

// deleteLink takes what is on the interface along, and the tunnels that leave
// by it.
func (k *Kernel) deleteLink(name string) {
	k.loseRoutes(name)
	k.loseNexthops(name)
	delete(k.entries, name)
	k.links = slices.DeleteFunc(k.links, func(l kernel.Link) bool { return l.Name == name })
	for _, l := range slices.Clone(k.links) {
		if parent(l) == name {
			k.deleteLink(l.Name)
		}
	}
}

func set(l *kernel.Link, s kernel.Setting) {
	switch {
	case s.Up:
		l.Up = true
	case s.MTU != 0:
		l.MTU = s.MTU
	case s.MAC != kernel.MAC{}:
		l.MAC = s.MAC
	case s.NoChecksumOffload:
		l.NoChecksumOffload = true
	case s.Kind != nil:
		l.Kind = s.Kind
	default:
		l.Alias = s.Alias
	}
}

func setAddress(l *kernel.Link, p netip.Prefix, there bool) {
	l.Addrs = slices.DeleteFunc(l.Addrs, func(a kernel.Addr) bool { return a.Prefix == p })
	if there {
		l.Addrs = append(l.Addrs, kernel.Addr{Prefix: p, LinkLocal: p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()})
	}
}

func (k *Kernel) setFDB(f kernel.FoundFDB, there bool) {
	e := k.entries[f.Dev]
	e.FDB = slices.DeleteFunc(e.FDB, func(x kernel.FoundFDB) bool { return x.MAC == f.MAC })
	if there {
		e.FDB = append(e.FDB, f)
	}
	k.entries[f.Dev] = e
}

func (k *Kernel) setNeighbour(n kernel.FoundNeighbour, there bool) {
	e := k.entries[n.Dev]
	e.Neighbours = slices.DeleteFunc(e.Neighbours, func(x kernel.FoundNeighbour) bool { return x.Addr == n.Addr })
	if there {
		e.Neighbours = append(e.Neighbours, n)
	}
	k.entries[n.Dev] = e
}

// setRoute adds a route as the flags of rtnetlink(7) have it: of those with one
// destination and metric, packets take the first.
func (k *Kernel) setRoute(action string, r kernel.FoundRoute) error {
	if err := k.leadsOut(r.Route); err != nil {
		return err
	}
	if action != "add" && action != "replace" && k.join(r) {
		return nil
	}
	first, last := -1, -1
	for i, x := range k.routes {
		if x.Dst == r.Dst && x.Metric == r.Metric {
			if first < 0 || joins(x) == joins(r) && joins(k.routes[first]) != joins(r) {
				first = i
			}
			last = i
		}
	}
	there := slices.ContainsFunc(k.connected(), func(c kernel.FoundRoute) bool {
		return c.Dst == r.Dst && c.Metric == r.Metric
	})
	switch {
	case action == "replace" && first >= 0:
		if i := slices.Index(k.routes, r); i >= 0 && i != first {
			return syscall.EEXIST
		}
		k.routes[first] = r
	case action == "prepend" && first >= 0:
		k.routes = slices.Insert(k.routes, first, r)
	case action == "append" && last >= 0:
		k.routes = slices.Insert(k.routes, last+1, r)
	case action == "add" && (first >= 0 || there):
		return syscall.EEXIST
	default:
		k.routes = append(k.routes, r)
	}
	return nil
}

// join makes a route of IPv6 one more hop of a route that is there, as Linux does where
// both have a gateway.
func (k *Kernel) join(r kernel.FoundRoute) bool {
	i := slices.IndexFunc(k.routes, func(x kernel.FoundRoute) bool {
		return x.Dst == r.Dst && x.Metric == r.Metric && joins(x)
	})
	if i < 0 || !joins(r) {
		return false
	}
	at := &k.routes[i]
	at.Via, at.Dev, at.OnLink, at.Special = netip.Addr{}, "", false, true
	return true
}

func joins(r kernel.FoundRoute) bool { return r.Dst.Addr().Is6() && r.Nexthop == 0 && r.Via.IsValid() }

// leadsOut is what Linux says of a route's gateway and device.
func (k *Kernel) leadsOut(r kernel.Route) error {
	if r.Dev == "" {
		return nil
	}
	l := k.link(r.Dev)
	switch {
	case l == nil:
		return syscall.ENODEV
	case !l.Up:
		return syscall.ENETDOWN
	case !r.Via.IsValid() || r.Via.Is6() && r.Via.IsLinkLocalUnicast():
	case r.OnLink && r.Via.Is6() && k.leadsElsewhere(r):
		return syscall.EINVAL
	case !r.OnLink && !covers(*l, r.Via) && r.Via.Is6():
		return syscall.EHOSTUNREACH
	case !r.OnLink && !covers(*l, r.Via):
		return syscall.ENETUNREACH
	}
	return nil
}

// leadsElsewhere tells a gateway to which there is a route by another device.
func (k *Kernel) leadsElsewhere(to kernel.Route) bool {
	longest := kernel.FoundRoute{Route: kernel.Route{Dev: to.Dev}}
	for _, r := range append(k.connected(), k.routes...) {
		r = k.follow(r)
		if r.Dst.Contains(to.Via) && r.Dst.Bits() > max(longest.Dst.Bits(), 0) && r.Dev != "" {
			longest = r
		}
	}
	return longest.Dev != to.Dev
}

func covers(l kernel.Link, a netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(x kernel.Addr) bool { return x.Contains(a) })
}
