package vxlan

import (
	"fmt"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
)

// options are the fields of the config key's Backend object.
type options struct {
	VNI           int
	Port          int // UDP; 0: the port that Linux had before IANA assigned 4789
	GBP           bool
	DirectRouting bool
	Learning      bool
	MTU           int // of the external interface, in bytes; 0: as it is

	// DisableTxChecksum has the CPU compute checksums: kernels before 5.7 send
	// wrong ones through some NICs.
	DisableTxChecksum bool
}

const (
	defaultVNI  = 1
	defaultPort = 8472
	maxVNI      = 1<<24 - 1
)

func readOptions(c subnet.Config, h backend.Host) (options, error) {
	o := options{VNI: defaultVNI}
	if err := c.Options(&o); err != nil {
		return o, err
	}
	wrong := func(field string, value int, reason string, args ...any) error {
		return &subnet.FieldError{Field: "Backend." + field, Value: fmt.Sprint(value), Reason: fmt.Sprintf(reason, args...)}
	}
	least := leastMTU(inet.Of(h.Local))
	switch {
	case o.VNI < 0 || o.VNI > maxVNI:
		return o, wrong("VNI", o.VNI, "is not a VXLAN network identifier: it must be from 0 to %d", maxVNI)
	case o.Port < 0 || o.Port > 65535:
		return o, wrong("Port", o.Port, "is not a UDP port: it must be from 0 to 65535, where 0 means %d", defaultPort)
	case h.Link.MTU < least:
		return o, fmt.Errorf("interface %s has an MTU of %d, and vxlan needs %d at least", h.Link.Name, h.Link.MTU, least)
	case o.MTU != 0 && (o.MTU < least || o.MTU > h.Link.MTU):
		return o, wrong("MTU", o.MTU, "must be from %d to %d, the MTU of %s", least, h.Link.MTU, h.Link.Name)
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if o.MTU == 0 {
		o.MTU = h.Link.MTU
	}
	return o, nil
}

// deviceName is flannel's name for the device. Linux allows 15 bytes, which the
// dot exceeds where the VNI has eight digits; with IPv6 five, for which flannel has no name.
func deviceName(f inet.Family, vni int) string {
	formats := []string{"flannel.%d", "flannel%d"}
	if f == inet.IPv6 {
		formats = []string{"flannel-v6.%d", "fl-v6.%d"}
	}
	name := fmt.Sprintf(formats[0], vni)
	if len(name) > 15 {
		name = fmt.Sprintf(formats[1], vni)
	}
	return name
}
