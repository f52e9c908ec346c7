// Package udp is the udp backend, flannel's oldest and the one of a config key without
// Backend: a TUN device, flannel0, whose packets this process carries between hosts, each in
// a UDP datagram as it is. It needs nothing of the kernel but TUN devices, and carries no
// IPv6.
package udp

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// Type is the backend's name in the config key. Flannel's leases name none.
const Type = "udp"

const (
	deviceName  = "flannel0"
	defaultPort = 8285
	// overhead is what the outer headers add to a packet, in bytes: IPv4 (RFC 791) and UDP (RFC 768).
	overhead = 20 + 8
	// leastMTU is what every host must take, in bytes (RFC 791).
	leastMTU = 576
)

// options are the fields of the config key's Backend object.
type options struct {
	Port int // UDP; 0: 8285
}

type udp struct {
	host    backend.Host
	network netip.Prefix
	device  kernel.Device // without Addrs
	port    uint16
}

// New is a backend.Factory.
func New(c subnet.Config, h backend.Host) (backend.Backend, error) {
	var o options
	if err := c.Options(&o); err != nil {
		return nil, err
	}
	switch {
	case inet.Of(h.Local) != inet.IPv4:
		return nil, &subnet.FieldError{
			Field: "Backend.Type", Value: Type, Reason: "carries no IPv6: use vxlan, host-gw or wireguard, or disable IPv6",
		}
	case o.Port < 0 || o.Port > 65535:
		return nil, &subnet.FieldError{
			Field: "Backend.Port", Value: fmt.Sprint(o.Port),
			Reason: fmt.Sprintf("is not a UDP port: it must be from 0 to 65535, where 0 means %d", defaultPort),
		}
	case h.Link.MTU < leastMTU+overhead:
		return nil, fmt.Errorf("interface %s has an MTU of %d, and udp needs %d at least", h.Link.Name, h.Link.MTU,
			leastMTU+overhead)
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	b := &udp{host: h, network: c.Network, port: uint16(o.Port)}
	b.device = kernel.Device{
		Name: deviceName, MTU: h.Link.MTU - overhead, Kind: kernel.UDP{Local: netip.AddrPortFrom(h.Local, b.port)},
	}
	return b, nil
}

func (b *udp) Attrs() subnet.Attrs { return subnet.Attrs{PublicIP: b.host.PublicIP} }

// wireData is what the lease of another backend says while its host takes datagrams too. It is
// none of flannel's.
type wireData struct{ UDPPort uint16 }

func (b *udp) Endpoint() string { return fmt.Sprintf(`{"UDPPort":%d}`, b.port) }

// endpoint is where a peer takes datagrams; invalid: nowhere. Flannel's leases name no port:
// all hosts have the config's.
func (b *udp) endpoint(peer *subnet.Lease) netip.AddrPort {
	if peer.Type() == Type {
		return netip.AddrPortFrom(peer.PublicIP, b.port)
	}
	var data wireData
	if peer.BackendData == "" || json.Unmarshal([]byte(peer.BackendData), &data) != nil || data.UDPPort == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(peer.PublicIP, data.UDPPort)
}

// Meets needs nothing of our lease: datagrams are taken from anybody.
func (b *udp) Meets(_, peer *subnet.Lease) bool { return b.endpoint(peer).IsValid() }

func (b *udp) MTU() int { return b.device.MTU }

// Desired has one route for all peers where that takes nothing away, as flannel's hosts do:
// who has no lease is then answered for, rather than sought outside.
func (b *udp) Desired(
	own subnet.Lease, peers []subnet.Lease, around backend.Around,
) (kernel.State, []backend.Path) {
	d := backend.WithAddress(b.device, own, b.network)
	t := backend.NewTable(d, b.host, b.network, around, peers)
	paths := make([]backend.Path, len(peers))
	for i := range peers {
		p := &peers[i]
		if to := b.endpoint(p); to.IsValid() {
			paths[i] = t.Add(p, wgdevice.Peer{Endpoint: to})
		} else {
			paths[i] = t.Plain(p, around.OnLink)
		}
	}
	return t.State, paths
}
