package wireguard

import (
	"fmt"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// options are the fields of the config key's Backend object.
type options struct {
	ListenPort   int // UDP
	ListenPortV6 int // UDP, of IPv6's own device
	MTU          int // of the external interface, in bytes; 0: as it is
	PSK          string
	Mode         mode

	// PersistentKeepaliveInterval is in seconds; 0: nothing is sent without need.
	PersistentKeepaliveInterval int
}

// mode is in which family the hosts talk.
type mode string

const (
	separate mode = "separate" // each family's packets in the same one, by a device of its own
	auto     mode = "auto"     // by one device, in whichever is the likelier to get through
	ipv4     mode = "ipv4"
	ipv6     mode = "ipv6"
)

const (
	defaultPort, defaultPortV6 = 51820, 51821

	// overhead is what the tunnel adds to a packet, in bytes, in whichever family: 40 of an IPv6
	// header, 8 of UDP's, 16 of a data message's, 16 of its tag (the WireGuard paper, 5.4.6).
	overhead = 40 + 8 + 16 + 16

	longestKeepalive = 65535 // seconds: 16 bits
)

// leastMTU is what every host of a family must take, in bytes (RFC 791, RFC 8200).
func leastMTU(f inet.Family) int {
	if f == inet.IPv6 {
		return 1280 + overhead
	}
	return 576 + overhead
}

func readOptions(c subnet.Config, h backend.Host) (o options, psk wgdevice.Secret, err error) {
	o = options{Mode: separate}
	if err := c.Options(&o); err != nil {
		return o, psk, err
	}
	wrong := func(field string, value any, reason string, args ...any) error {
		return &subnet.FieldError{Field: "Backend." + field, Value: fmt.Sprint(value), Reason: fmt.Sprintf(reason, args...)}
	}
	for _, p := range []struct {
		field    string
		port     *int
		fallback int
	}{{"ListenPort", &o.ListenPort, defaultPort}, {"ListenPortV6", &o.ListenPortV6, defaultPortV6}} {
		if *p.port < 0 || *p.port > 65535 {
			return o, psk, wrong(p.field, *p.port, "is not a UDP port: it must be from 0 to 65535, where 0 means %d", p.fallback)
		}
		if *p.port == 0 {
			*p.port = p.fallback
		}
	}
	if o.PSK != "" {
		if psk, err = wgdevice.ParseSecret(o.PSK); err != nil {
			return o, psk, wrong("PSK", "(secret)", "is not a key: make one with wg genpsk")
		}
		o.PSK = "" // from here on it is a Secret, which nothing shows
	}
	least := leastMTU(inet.Of(h.Local))
	switch {
	case o.Mode != separate && o.Mode != auto && o.Mode != ipv4 && o.Mode != ipv6:
		return o, psk, wrong("Mode", o.Mode, "is none of separate, auto, ipv4 and ipv6")
	case o.Mode == separate && o.ListenPort == o.ListenPortV6:
		return o, psk, wrong("ListenPortV6", o.ListenPortV6, "is also ListenPort, and each device needs its own")
	case o.PersistentKeepaliveInterval < 0 || o.PersistentKeepaliveInterval > longestKeepalive:
		return o, psk, wrong("PersistentKeepaliveInterval", o.PersistentKeepaliveInterval,
			"must be from 0 to %d, in seconds, where 0 means never", longestKeepalive)
	case h.Link.MTU < least:
		return o, psk, fmt.Errorf("interface %s has an MTU of %d, and wireguard needs %d at least",
			h.Link.Name, h.Link.MTU, least)
	case o.MTU != 0 && (o.MTU < least || o.MTU > h.Link.MTU):
		return o, psk, wrong("MTU", o.MTU, "must be from %d to %d, the MTU of %s", least, h.Link.MTU, h.Link.Name)
	}
	if o.MTU == 0 {
		o.MTU = h.Link.MTU
	}
	return o, psk, nil
}
