package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
)

// Do implements Conn. Routes, neighbours and forwarding entries that follow
// each other go to the kernel together.
func (n *Netlink) Do(ops ...Op) []error {
	w := writer{Netlink: n, errs: make([]error, 0, len(ops))}
	for _, o := range ops {
		if o.Kind() != kindPeer {
			w.flushPeers()
		}
		w.errs = append(w.errs, o.Write(&w))
		if w.waiting == batchSize {
			w.flush()
		}
	}
	w.flush()
	w.flushPeers()
	for i, o := range ops {
		w.errs[i] = n.judge(o, w.errs[i])
	}
	return w.errs
}

// writer is a Writer. Of what there are many it only takes down the requests.
type writer struct {
	*Netlink
	errs    []error // of the ops so far
	waiting int     // the last of these, whose requests are not sent yet
	peers   pendingPeers
}

func (w *writer) flush() {
	if w.waiting > 0 {
		w.socket.exchange(w.errs[len(w.errs)-w.waiting:])
		w.waiting = 0
	}
}

// batched has begin add a request to those that wait.
func (w *writer) batched(dev string, begin func(s *socket, index int)) error {
	index, ok := w.index[dev]
	if !ok && dev != "" {
		w.flush()
		return noInterface(dev)
	}
	begin(w.socket, index)
	w.waiting++
	return nil
}

func noInterface(dev string) error {
	return fmt.Errorf("there is no interface %s: %w", dev, unix.ENODEV)
}

func (w *writer) WriteFDB(a Action, f FDB) error {
	return w.batched(f.Dev, func(s *socket, index int) {
		m := netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index), Flags: unix.NTF_SELF}
		s.beginNeighbour(a, m, f.Dst, f.MAC)
	})
}

func (w *writer) WriteNeighbour(a Action, n Neighbour) error {
	return w.batched(n.Dev, func(s *socket, index int) {
		m := netlink.Ndmsg{Family: numberOf(inet.Of(n.Addr)), Index: uint32(index), Type: unix.RTN_UNICAST}
		s.beginNeighbour(a, m, n.Addr, n.MAC)
	})
}

func (w *writer) WriteRoute(a Action, r Route) error {
	flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if a == Replace {
		flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
	}
	return w.batched(r.Dev, func(s *socket, index int) {
		s.beginRoute(unix.RTM_NEWROUTE, flags, FoundRoute{Route: r, Protocol: Protocol}, index)
	})
}

func (w *writer) DeleteRoute(r FoundRoute) error {
	return w.batched(r.Dev, func(s *socket, index int) { s.beginRoute(unix.RTM_DELROUTE, 0, r, index) })
}

func (w *writer) WriteNexthop(a Action, n Nexthop) error {
	dev := n.Dev
	if a == Delete { // it goes by its id alone
		dev = ""
	}
	return w.batched(dev, func(s *socket, index int) { s.beginNexthop(a, n, index) })
}

func (w *writer) WriteDevice(a Action, d Device) error {
	w.flush()
	if a == Delete {
		w.discard(d.Name)
		err := w.handle.LinkDel(w.link(d.Name))
		if err == nil {
			delete(w.index, d.Name)
		}
		return err
	}
	w.unserve(d.Name) // what carried the packets of one that is gone holds the port
	w.kinds[d.Name] = d.Kind
	err := d.Kind.make(w.Netlink, d)
	made, listErr := w.handle.LinkByName(d.Name)
	if listErr != nil {
		w.unserve(d.Name)
		return cmp.Or(err, fmt.Errorf("read it back: %w", listErr))
	}
	index := made.Attrs().Index
	if w.tunnels[d.Name] != nil || w.wireguard.Userspace(d.Name) {
		w.served[d.Name] = index
	}
	if err == nil {
		w.index[d.Name], w.names[index] = index, d.Name
	}
	return err
}

// attrs are those that all kinds of devices have.
func (d Device) attrs() netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Name, d.MTU
	if d.MAC != (MAC{}) {
		attrs.HardwareAddr = d.MAC[:]
	}
	return attrs
}

func (w *writer) WriteAddress(a Action, x Address) error {
	w.flush()
	if _, ok := w.index[x.Dev]; !ok {
		return noInterface(x.Dev)
	}
	addr := &netlink.Addr{IPNet: toIPNet(x.Prefix), Scope: unix.RT_SCOPE_UNIVERSE}
	if a == Delete {
		return w.handle.AddrDel(w.link(x.Dev), addr)
	}
	if t := w.tunnels[x.Dev]; t != nil && x.Prefix.Addr().Is4() {
		t.source = x.Prefix.Addr()
		t.SetSource(t.source)
	}
	if x.nodad() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return w.handle.AddrAdd(w.link(x.Dev), addr)
}

func (w *writer) WriteSetting(s Setting) error {
	w.flush()
	if _, ok := w.index[s.Dev]; !ok {
		return noInterface(s.Dev)
	}
	link := w.link(s.Dev)
	switch {
	case s.Up:
		return w.handle.LinkSetUp(link)
	case s.MTU != 0:
		return w.handle.LinkSetMTU(link, s.MTU)
	case s.MAC != MAC{}:
		return w.handle.LinkSetHardwareAddr(link, s.MAC[:])
	case s.NoChecksumOffload:
		return w.offload.set(s.Dev, 0)
	case s.Kind != nil:
		return s.Kind.change(w.Netlink, s.Dev)
	}
	return w.handle.LinkSetAlias(link, s.Alias)
}

// link is enough of an interface for the calls that need only its index.
func (n *Netlink) link(name string) netlink.Link {
	return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name, Index: n.index[name]}}
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// judge tells a failure from an object that is as it should be already, and adds
// to a failure what to do about it.
func (n *Netlink) judge(o Op, err error) error {
	device := o.Kind() == kindDevice
	switch {
	case err == nil:
		return nil
	case o.Action == Delete && is(err, unix.ESRCH, unix.ENOENT, unix.ENODEV, unix.EADDRNOTAVAIL):
		return nil
	case o.Action == Add && errors.Is(err, unix.EEXIST) && o.Kind() == kindNexthop:
		return fmt.Errorf("%w: somebody else has just taken this id", err)
	case o.Action == Add && errors.Is(err, unix.EEXIST) && !device:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: flanneld needs CAP_NET_ADMIN", err)
	}
	if advice := adviceOnIPv6(o, err); advice != "" {
		return fmt.Errorf("%w: %s", err, advice)
	}
	if kind := n.kinds[o.Dev()]; device && kind != nil {
		if advice := kind.advice(err); advice != "" {
			return fmt.Errorf("%w: %s", err, advice)
		}
	}
	return err
}

// adviceOnIPv6 says what to do about the kernel's refusal of what is IPv6's; "" if it is
// not known. A name with dots is one to sysctl(8) only between slashes.
func adviceOnIPv6(o Op, err error) string {
	if _, isAddress := o.Object.(Address); familyOfObject(o.Object) != inet.IPv6 {
		return ""
	} else if isAddress && is(err, unix.EINVAL) {
		return "IPv6 needs an MTU of 1280 bytes or more"
	}
	switch {
	case is(err, unix.EACCES):
		return "IPv6 is switched off there: to switch it on, type: " + printable.Command("sysctl", "-w",
			"net.ipv6.conf.default.disable_ipv6=0", "net/ipv6/conf/"+o.Dev()+"/disable_ipv6=0")
	case is(err, unix.EOPNOTSUPP, unix.EAFNOSUPPORT, unix.EPFNOSUPPORT):
		return noIPv6
	}
	return ""
}

const noIPv6 = "this kernel has no IPv6: load its module with: modprobe ipv6, " +
	"or if it was started with ipv6.disable=1, start it without"

// familyOfObject is that of the addresses an Op's object is about; 0: of none.
func familyOfObject(o Object) inet.Family {
	switch x := o.(type) {
	case Address:
		return inet.Of(x.Prefix.Addr())
	case Neighbour:
		return inet.Of(x.Addr)
	case Nexthop:
		return inet.Of(x.Via)
	case Route:
		return inet.Of(x.Dst.Addr())
	case FoundRoute:
		return inet.Of(x.Dst.Addr())
	}
	return 0
}

func is(err error, any ...unix.Errno) bool {
	for _, one := range any {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}
