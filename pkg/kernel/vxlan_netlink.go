package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func (v VXLAN) make(n *Netlink, d Device) error {
	parent, ok := n.index[v.Parent]
	if !ok {
		return fmt.Errorf("there is no interface %s", v.Parent)
	}
	return n.handle.LinkAdd(&netlink.Vxlan{
		LinkAttrs: d.attrs(), VxlanId: v.VNI, VtepDevIndex: parent, SrcAddr: v.Local.AsSlice(), Port: v.Port,
		Learning: v.Learning, GBP: v.GBP,
	})
}

func (VXLAN) change(*Netlink, string) error { return nil }

func (VXLAN) read(n *Netlink, l netlink.Link) DeviceKind {
	v, ok := l.(*netlink.Vxlan)
	if !ok {
		return nil
	}
	return VXLAN{
		VNI: v.VxlanId, Port: v.Port, Parent: n.names[v.VtepDevIndex], Local: toAddr(v.SrcAddr),
		GBP: v.GBP, Learning: v.Learning,
	}
}

func (VXLAN) advice(err error) string {
	switch {
	case errors.Is(err, unix.EEXIST):
		return "another vxlan device has this VNI and port; find it with: ip -d link show type vxlan"
	case errors.Is(err, unix.EADDRINUSE):
		return "another program or vxlan device holds this UDP port; find it with: ss -lunp"
	case is(err, unix.EAFNOSUPPORT, unix.EPFNOSUPPORT):
		return noIPv6
	case errors.Is(err, unix.EOPNOTSUPP):
		return "this kernel has no vxlan; load the module with: modprobe vxlan"
	}
	return ""
}
