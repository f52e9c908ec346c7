package kernel

import (
	"fmt"

	"flanneld/pkg/wgdevice"
)

// WireGuard is the kind of WireGuard devices: the kernel's, or where it has none, those of
// user space in this process.
type WireGuard struct {
	Private wgdevice.Secret
	Port    int // UDP, on all addresses of the host
}

// Type implements DeviceKind.
func (WireGuard) Type() string { return "wireguard" }

// Args implements DeviceKind. What there is to say, Change says.
func (WireGuard) Args() string { return "" }

// Incompatible implements DeviceKind: everything can be changed.
func (WireGuard) Incompatible(DeviceKind) string { return "" }

// Differs implements DeviceKind.
func (w WireGuard) Differs(from DeviceKind) string {
	has, _ := from.(WireGuard)
	switch {
	case has.Private.IsZero():
		return "it has no private key"
	case has.Private != w.Private:
		return "its private key is another"
	case has.Port != w.Port:
		return differs("UDP port", has.Port, w.Port)
	}
	return ""
}

// Change implements DeviceKind. It shows no key.
func (w WireGuard) Change(dev string) string {
	return fmt.Sprintf("wg set %s listen-port %d private-key %s", dev, w.Port, w.Private)
}

// Encapsulation implements DeviceKind.
func (w WireGuard) Encapsulation() Encapsulation { return Encapsulation{Protocol: "udp", Port: w.Port} }
