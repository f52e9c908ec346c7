package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Do implements Conn. Routes, neighbours and forwarding entries that follow
// each other go to the kernel together.
func (n *Netlink) Do(ops ...Op) []error {
	errs := make([]error, len(ops))
	for done := 0; done < len(ops); {
		together := 0
		for done+together < len(ops) && together < batchSize && n.begin(ops[done+together]) {
			together++
		}
		if together > 0 {
			n.socket.exchange(errs[done : done+together])
		} else {
			errs[done] = n.do(ops[done])
		}
		done += max(1, together)
	}
	for i, o := range ops {
		errs[i] = judge(o, errs[i])
	}
	return errs
}

// begin adds the op to a batch; false: it is none for one.
func (n *Netlink) begin(o Op) bool {
	index, ok := n.index[o.Dev()]
	if !ok && o.Dev() != "" {
		return false
	}
	switch x := o.Object.(type) {
	case FDB:
		n.socket.beginNeighbour(o.Verb, netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index), Flags: unix.NTF_SELF}, x.Dst, x.MAC)
	case Neighbour:
		n.socket.beginNeighbour(o.Verb, netlink.Ndmsg{Family: unix.AF_INET, Index: uint32(index), Type: unix.RTN_UNICAST}, x.Addr, x.MAC)
	case FoundRoute:
		n.socket.beginRoute(unix.RTM_DELROUTE, 0, x, index)
	case Route:
		flags := unix.NLM_F_CREATE | unix.NLM_F_EXCL
		if o.Verb == Replace {
			flags = unix.NLM_F_CREATE | unix.NLM_F_REPLACE
		}
		n.socket.beginRoute(unix.RTM_NEWROUTE, flags, FoundRoute{Route: x, Protocol: Protocol}, index)
	default:
		return false
	}
	return true
}

// judge tells a failure from an object that is as it should be already.
func judge(o Op, err error) error {
	switch {
	case err == nil:
		return nil
	case o.Verb == Delete && (errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL)):
		return nil
	case o.Verb == Add && errors.Is(err, unix.EEXIST) && o.Kind() != "device":
		return nil
	}
	return explain(o, err)
}

// explain adds what to do about the kernel's answer.
func explain(o Op, err error) error {
	device := o.Kind() == "device"
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: flanneld needs CAP_NET_ADMIN", err)
	case device && errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: another vxlan device has this VNI and port; find it with: ip -d link show type vxlan", err)
	case device && errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another program or vxlan device holds this UDP port; find it with: ss -lunp", err)
	case device && errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: this kernel has no vxlan; load the module with: modprobe vxlan", err)
	}
	return err
}

func (n *Netlink) do(o Op) error {
	if v, ok := o.Object.(VXLAN); ok {
		if o.Verb == Delete {
			return n.handle.LinkDel(n.link(v.Name))
		}
		return n.addVXLAN(v)
	}
	if _, ok := n.index[o.Dev()]; !ok {
		return fmt.Errorf("there is no interface %s: %w", o.Dev(), unix.ENODEV)
	}
	switch x := o.Object.(type) {
	case Setting:
		return n.set(x)
	case Address:
		addr := &netlink.Addr{IPNet: toIPNet(x.Prefix), Scope: unix.RT_SCOPE_UNIVERSE}
		if o.Verb == Delete {
			return n.handle.AddrDel(n.link(x.Dev), addr)
		}
		return n.handle.AddrAdd(n.link(x.Dev), addr)
	}
	return fmt.Errorf("no such object: %T", o.Object)
}

// link is enough of an interface for the calls that need only its index.
func (n *Netlink) link(name string) netlink.Link {
	return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name, Index: n.index[name]}}
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

func (n *Netlink) addVXLAN(v VXLAN) error {
	parent, ok := n.index[v.Parent]
	if !ok {
		return fmt.Errorf("there is no interface %s", v.Parent)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = v.Name, v.MTU, v.MAC[:]
	err := n.handle.LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: v.VNI, VtepDevIndex: parent, SrcAddr: v.Local.AsSlice(), Port: v.Port, Learning: v.Learning, GBP: v.GBP,
	})
	if err != nil {
		return err
	}
	made, err := n.handle.LinkByName(v.Name)
	if err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	n.index[v.Name] = made.Attrs().Index
	return nil
}

func (n *Netlink) set(s Setting) error {
	link := n.link(s.Dev)
	switch {
	case s.Up:
		return n.handle.LinkSetUp(link)
	case s.MTU != 0:
		return n.handle.LinkSetMTU(link, s.MTU)
	case s.MAC != MAC{}:
		return n.handle.LinkSetHardwareAddr(link, s.MAC[:])
	case s.NoChecksumOffload:
		return n.offload.set(s.Dev, 0)
	}
	return n.handle.LinkSetAlias(link, s.Alias)
}
