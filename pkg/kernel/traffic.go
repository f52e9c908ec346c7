package kernel

import (
	"flanneld/pkg/udptunnel"
)

// Traffic is what containers have sent and received by a device of ours since it was made, or
// since this process began to carry its packets.
type Traffic struct {
	Sent, Received uint64            // bytes
	Dropped        map[string]uint64 // packets, by the reason; of devices whose packets this process carries
}

// Traffic tells a device's; false: it is not there, or is not one that has peers of its own.
func (n *Netlink) Traffic(dev Link) (Traffic, bool) {
	switch dev.Kind.(type) {
	case UDP:
		if t := n.tunnels[dev.Name]; t != nil {
			return trafficOf(t.Stats()), true
		}
	case WireGuard:
		if link, err := n.handle.LinkByName(dev.Name); err == nil && link.Attrs().Statistics != nil {
			s := link.Attrs().Statistics
			return Traffic{Sent: s.TxBytes, Received: s.RxBytes}, true
		}
	}
	return Traffic{}, false
}

func trafficOf(s udptunnel.Stats) Traffic {
	t := Traffic{Sent: s.Out.Bytes, Received: s.In.Bytes, Dropped: map[string]uint64{}}
	for _, r := range udptunnel.Reasons() {
		t.Dropped[r.String()] = s.Out.Dropped[r] + s.In.Dropped[r]
	}
	return t
}
