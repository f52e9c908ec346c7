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

func (w writer) WriteRoute(a kernel.Action, r kernel.Route) error {
	if err := w.on(r.Dev); err != nil {
		return err
	}
	r.Peer = netip.Addr{}
	return w.setRoute(string(a), kernel.FoundRoute{Route: r, Protocol: kernel.Protocol, Metric: metric(r.Dst, 0)})
}

func (w writer) DeleteRoute(r kernel.FoundRoute) error {
	w.routes = slices.DeleteFunc(w.routes, func(x kernel.FoundRoute) bool { return x == r })
	return nil
}
