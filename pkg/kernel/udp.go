package kernel

import (
	"fmt"
	"net/netip"
)

// UDP is the kind of the TUN device whose packets this process carries in UDP datagrams, each
// as it is, as flannel's backend udp does.
type UDP struct {
	Local netip.AddrPort // where datagrams come in and leave from
}

// Type implements DeviceKind: it is the mode of `ip tuntap`.
func (UDP) Type() string { return "tun" }

// Args implements DeviceKind.
func (UDP) Args() string { return "" }

// Incompatible implements DeviceKind: everything can be changed.
func (UDP) Incompatible(DeviceKind) string { return "" }

// Differs implements DeviceKind.
func (u UDP) Differs(from DeviceKind) string {
	if has, _ := from.(UDP); has != u {
		return differs("address", has.Local, u.Local)
	}
	return ""
}

// Change implements DeviceKind. There is no command for it.
func (u UDP) Change(dev string) string {
	return fmt.Sprintf("%s: carry packets by udp from %v", dev, u.Local)
}

// Encapsulation implements DeviceKind.
func (u UDP) Encapsulation() Encapsulation {
	return Encapsulation{Protocol: "udp", Port: int(u.Local.Port())}
}

// userspace tells a kind whose packets a process may carry.
func userspace(k DeviceKind) bool {
	switch k.(type) {
	case UDP, WireGuard:
		return true
	}
	return false
}
