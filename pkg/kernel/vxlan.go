package kernel

import (
	"fmt"
	"net/netip"
)

// VXLAN is the kind of vxlan devices (RFC 7348).
type VXLAN struct {
	VNI      int        // 0 to 16777215
	Port     int        // UDP, at the receiving side
	Parent   string     // the interface that encapsulated packets leave by
	Local    netip.Addr // their source address
	GBP      bool       // group-based policy extension
	Learning bool       // learn MACs from what arrives
}

// Type implements DeviceKind.
func (VXLAN) Type() string { return "vxlan" }

// Args implements DeviceKind.
func (v VXLAN) Args() string {
	args := fmt.Sprintf(" id %d local %v dev %s dstport %d", v.VNI, v.Local, v.Parent, v.Port)
	for _, flag := range []struct {
		name string
		set  bool
	}{{" nolearning", !v.Learning}, {" gbp", v.GBP}} {
		if flag.set {
			args += flag.name
		}
	}
	return args
}

// Incompatible implements DeviceKind.
func (v VXLAN) Incompatible(with DeviceKind) string {
	has, _ := with.(VXLAN)
	switch {
	case has.VNI != v.VNI:
		return differs("VNI", has.VNI, v.VNI)
	case has.Port != v.Port:
		return differs("UDP port", has.Port, v.Port)
	case has.Parent != v.Parent:
		return differs("interface", has.Parent, v.Parent)
	case has.Local != v.Local:
		return differs("local address", has.Local, v.Local)
	case has.GBP != v.GBP:
		return differs("GBP", has.GBP, v.GBP)
	case has.Learning != v.Learning:
		return differs("learning", has.Learning, v.Learning)
	}
	return ""
}

// Differs implements DeviceKind: nothing can be changed.
func (VXLAN) Differs(DeviceKind) string { return "" }

// Change implements DeviceKind.
func (VXLAN) Change(string) string { return "" }

// Encapsulation implements DeviceKind.
func (v VXLAN) Encapsulation() Encapsulation {
	return Encapsulation{Protocol: "udp", Port: v.Port, ID: v.VNI}
}
