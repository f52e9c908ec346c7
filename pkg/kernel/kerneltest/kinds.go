package kerneltest

import (
	"flanneld/pkg/kernel"
)

// kinds are those of the devices that this kernel can make, by their types: how
// `ip link add` names their attributes, and what Linux makes of them.
var kinds = map[string]struct {
	parse  func(o map[string]string) kernel.DeviceKind
	clash  func(a, b kernel.DeviceKind) bool // both cannot be
	parent func(k kernel.DeviceKind) string  // without which it is not; "": none
}{
	"vxlan": {
		parse: func(o map[string]string) kernel.DeviceKind {
			return kernel.VXLAN{
				VNI: number(o["id"]), Port: number(o["dstport"]), Parent: o["dev"], Local: addr(o["local"]),
				GBP: o["gbp"] != "", Learning: o["nolearning"] == "",
			}
		},
		clash: func(a, b kernel.DeviceKind) bool {
			v, w := a.(kernel.VXLAN), b.(kernel.VXLAN)
			return v.VNI == w.VNI && v.Port == w.Port && v.GBP == w.GBP && v.Local.Is6() == w.Local.Is6()
		},
		parent: func(k kernel.DeviceKind) string { return k.(kernel.VXLAN).Parent },
	},
	"wireguard": {
		parse: func(map[string]string) kernel.DeviceKind { return kernel.WireGuard{} },
		clash: func(a, b kernel.DeviceKind) bool {
			port := a.(kernel.WireGuard).Port
			return port != 0 && port == b.(kernel.WireGuard).Port
		},
		parent: func(kernel.DeviceKind) string { return "" },
	},
	"tun": {
		parse:  func(map[string]string) kernel.DeviceKind { return kernel.UDP{} },
		clash:  func(a, b kernel.DeviceKind) bool { return a.(kernel.UDP).Local == b.(kernel.UDP).Local },
		parent: func(kernel.DeviceKind) string { return "" },
	},
}

// clash tells devices that cannot be beside each other.
func clash(l kernel.Link, d kernel.Device) bool {
	if l.Name == d.Name {
		return true
	}
	return l.Kind != nil && l.Kind.Type() == d.Kind.Type() && kinds[l.Kind.Type()].clash(l.Kind, d.Kind)
}

// parent is the interface without which l is not; "": there is none.
func parent(l kernel.Link) string {
	if l.Kind == nil {
		return ""
	}
	return kinds[l.Kind.Type()].parent(l.Kind)
}
