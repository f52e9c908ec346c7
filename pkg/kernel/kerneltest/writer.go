package kerneltest

import (
	"net/netip"
	"slices"
	"syscall"

	"flanneld/pkg/kernel"
)

// writer carries out Ops.
type writer struct{ *Kernel }

// on reports whether there is a device to write to.
func (w writer) on(dev string) error {
	if dev != "" && w.link(dev) == nil {
		return syscall.ENODEV
	}
	return nil
}

func (w writer) WriteDevice(a kernel.Action, d kernel.Device) error {
	if a == kernel.Delete {
		w.deleteLink(d.Name)
		return nil
	}
	return w.addDevice(d)
}

func (w writer) WriteSetting(s kernel.Setting) error {
	if err := w.on(s.Dev); err != nil {
		return err
	}
	w.Change(s.Dev, func(l *kernel.Link) { set(l, s) })
	return nil
}

func (w writer) WriteAddress(a kernel.Action, x kernel.Address) error {
	if err := w.on(x.Dev); err != nil {
		return err
	}
	w.Change(x.Dev, func(l *kernel.Link) { setAddress(l, x.Prefix, a != kernel.Delete) })
	return nil
}

func (w writer) WriteFDB(a kernel.Action, f kernel.FDB) error {
	if err := w.on(f.Dev); err != nil {
		return err
	}
	w.setFDB(kernel.FoundFDB{FDB: f, Permanent: true}, a != kernel.Delete)
	return nil
}

func (w writer) WriteNeighbour(a kernel.Action, n kernel.Neighbour) error {
	if err := w.on(n.Dev); err != nil {
		return err
	}
	w.setNeighbour(kernel.FoundNeighbour{Neighbour: n, Permanent: true}, a != kernel.Delete)
	return nil
}

func (w writer) WritePeer(a kernel.Action, p kernel.Peer) error {
	if err := w.on(p.Dev); err != nil {
		return err
	}
	w.setPeer(p, a != kernel.Delete)
	return nil
}

func (w writer) WriteRoute(a kernel.Action, r kernel.Route) error {
	if err := w.on(r.Dev); err != nil {
		return err
	}
	r.Peer = netip.Addr{}
	if r.Nexthop != 0 && w.nexthop(r.Nexthop) == nil {
		return syscall.EINVAL
	}
	found := kernel.FoundRoute{Route: unfollowed(r), Protocol: kernel.Protocol, Metric: metric(r.Dst, 0)}
	return w.setRoute(string(a), found)
}

func (w writer) DeleteRoute(r kernel.FoundRoute) error {
	w.routes = slices.DeleteFunc(w.routes, func(x kernel.FoundRoute) bool {
		if r.Nexthop != 0 {
			return x.Dst == r.Dst && x.Metric == r.Metric && x.Protocol == r.Protocol && x.Nexthop == r.Nexthop
		}
		return x == r
	})
	return nil
}

func (w writer) WriteNexthop(a kernel.Action, n kernel.Nexthop) error {
	if a == kernel.Delete {
		w.deleteNexthops(func(x kernel.FoundNexthop) bool { return x.ID == n.ID })
		return nil
	}
	if err := w.on(n.Dev); err != nil {
		return err
	}
	return w.setNexthop(string(a), kernel.FoundNexthop{Nexthop: n, Protocol: kernel.Protocol})
}
