package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Do implements Conn.
func (n *Netlink) Do(o Op) error {
	err := n.do(o)
	switch {
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
	index, ok := n.index[o.Dev()]
	if !ok && o.Dev() != "" {
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
	case FDB:
		return n.neighbour(o.Verb, &netlink.Neigh{
			LinkIndex: index, Family: unix.AF_BRIDGE, Flags: unix.NTF_SELF, State: unix.NUD_PERMANENT,
			IP: x.Dst.AsSlice(), HardwareAddr: x.MAC[:],
		})
	case Neighbour:
		return n.neighbour(o.Verb, &netlink.Neigh{
			LinkIndex: index, Family: unix.AF_INET, Type: unix.RTN_UNICAST, State: unix.NUD_PERMANENT,
			IP: x.Addr.AsSlice(), HardwareAddr: x.MAC[:],
		})
	case FoundRoute:
		r := toRoute(x.Route, index)
		r.Protocol, r.Priority, r.Scope = netlink.RouteProtocol(x.Protocol), x.Metric, netlink.SCOPE_NOWHERE
		return n.handle.RouteDel(r)
	case Route:
		if o.Verb == Add {
			return n.handle.RouteAdd(toRoute(x, index))
		}
		return n.handle.RouteReplace(toRoute(x, index))
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

// toRoute leaves out what r lacks: a route with several next hops has no one
// gateway and device.
func toRoute(r Route, index int) *netlink.Route {
	out := &netlink.Route{Dst: toIPNet(r.Dst), Gw: r.Via.AsSlice(), LinkIndex: index, Protocol: Protocol, Table: unix.RT_TABLE_MAIN}
	if r.OnLink {
		out.Flags = int(netlink.FLAG_ONLINK)
	}
	return out
}

func (n *Netlink) neighbour(v Verb, x *netlink.Neigh) error {
	if v == Delete {
		return n.handle.NeighDel(x)
	}
	return n.handle.NeighSet(x)
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
