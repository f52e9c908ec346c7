// Package wireguard is the wireguard backend: packets between hosts travel encrypted, and come
// from nobody but the host whose key the lease of their source has. The devices are flannel-wg,
// and flannel-wg-v6 for the packets of IPv6 where these have a device of their own.
package wireguard

import (
	"fmt"
	"net/netip"
	"slices"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// Type is the backend's name in the config key and in leases.
const Type = "wireguard"

type wireguard struct {
	host    backend.Host
	network netip.Prefix
	options options
	psk     wgdevice.Secret
	device  kernel.Device // without Addrs
	port    int
	key     wgdevice.Key // our own
}

// New is a backend.Factory.
func New(c subnet.Config, h backend.Host) (backend.Backend, error) {
	o, psk, err := readOptions(c, h)
	if err != nil {
		return nil, err
	}
	var private wgdevice.Secret
	if h.PrivateKey != nil {
		if private, err = h.PrivateKey(); err != nil {
			return nil, err
		}
	}
	b := &wireguard{host: h, network: c.Network, options: o, psk: psk, port: o.ListenPort, key: private.Public()}
	name := "flannel-wg"
	if o.Mode == separate && inet.Of(h.Local) == inet.IPv6 {
		name, b.port = "flannel-wg-v6", o.ListenPortV6
	}
	b.device = kernel.Device{
		Name: name, MTU: o.MTU - overhead, Kind: kernel.WireGuard{Private: private, Port: b.port},
	}
	return b, nil
}

func (b *wireguard) Attrs() subnet.Attrs {
	return subnet.Attrs{PublicIP: b.host.PublicIP, BackendType: Type, BackendData: b.Endpoint()}
}

func (b *wireguard) Endpoint() string {
	return fmt.Sprintf(`{"PublicKey":%q,"Port":%d}`, b.key, b.port)
}

// Meets: who has not our key takes nothing from us.
func (b *wireguard) Meets(own, peer *subnet.Lease) bool {
	_, hasOwn := readEnd(&own.Attrs)
	_, has := readEnd(&peer.Attrs)
	return hasOwn && has
}

func (b *wireguard) MTU() int { return b.device.MTU }

// Desired has one route for all peers where that takes nothing away: who has no lease is
// then refused by the device, and nothing for the network leaves this host in the clear.
func (b *wireguard) Desired(
	own subnet.Lease, peers []subnet.Lease, around backend.Around,
) (kernel.State, []backend.Path) {
	d := backend.WithAddress(b.device, own, b.network)
	t := backend.NewTable(d, b.host, b.network, around, peers)
	keys := b.holders(peers)
	paths := make([]backend.Path, len(peers))
	for i := range peers {
		p := &peers[i]
		end, has := readEnd(&p.Attrs)
		switch {
		case !has && p.BackendType == Type:
			paths[i].Reason = backend.BadEndpoint
			continue
		case !has:
			paths[i] = t.Plain(p, around.OnLink)
			continue
		}
		to := b.endpoint(p, end)
		if why := refuse(p, keys[end.key], to); why != 0 {
			paths[i].Reason = why
			continue
		}
		paths[i] = t.Add(p, wgdevice.Peer{
			Key: end.key, PSK: b.psk, Endpoint: to, Keepalive: b.options.PersistentKeepaliveInterval,
		})
	}
	return t.State, paths
}

// refuse says why a peer cannot be reached though its lease has a key, which leads to holder;
// 0: it can.
func refuse(p, holder *subnet.Lease, to netip.AddrPort) backend.Reason {
	switch {
	case holder == nil || holder != p && holder.PublicIP != p.PublicIP:
		return backend.DuplicateKey
	case holder != p:
		return backend.Moved
	case !to.IsValid():
		return backend.NoCommonFamily
	}
	return 0
}

// holders are the leases by which keys lead to hosts: the latest of one host, since a device
// knows a key but once, and the first of several hosts. Nobody else's is our own.
func (b *wireguard) holders(peers []subnet.Lease) map[wgdevice.Key]*subnet.Lease {
	keys := make(map[wgdevice.Key]*subnet.Lease, len(peers)+1)
	keys[b.key] = nil
	for i := range peers {
		p := &peers[i]
		end, has := readEnd(&p.Attrs)
		if !has {
			continue
		}
		holder, known := keys[end.key]
		switch {
		case !known:
			keys[end.key] = p
		case holder == nil:
		case holder.PublicIP == p.PublicIP && holder.Created < p.Created:
			keys[end.key] = p
		case holder.PublicIP != p.PublicIP && p.Created < holder.Created:
			keys[end.key] = p
		}
	}
	return keys
}

// endpoint is where a peer's device is reached; invalid: nowhere in the family that is asked for.
func (b *wireguard) endpoint(p *subnet.Lease, e end) netip.AddrPort {
	ip := p.PublicIP
	if b.options.Mode != separate {
		ip = b.choose([]netip.Addr{p.PublicIP, p.IPv6.PublicIP})
	}
	port := e.port
	if port == 0 || port == b.otherPort() {
		port = uint16(b.port) // flannel up to 0.26 does not say it
	}
	if !ip.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ip, port)
}

// choose takes one of a peer's addresses: in mode auto IPv4's, but IPv6's where only that is
// one of the internet's, here too.
func (b *wireguard) choose(ips []netip.Addr) netip.Addr {
	of := func(f inet.Family) netip.Addr {
		for _, ip := range ips {
			if ip.IsValid() && inet.Of(ip) == f {
				return ip
			}
		}
		return netip.Addr{}
	}
	four, six := of(inet.IPv4), of(inet.IPv6)
	switch {
	case b.options.Mode == ipv4 || b.options.Mode == auto && !six.IsValid():
		return four
	case b.options.Mode == ipv6 || !four.IsValid():
		return six
	case four.IsPrivate() && !six.IsPrivate() && b.onIPv6Internet():
		return six
	}
	return four
}

// onIPv6Internet tells whether this host has an IPv6 address that is no private one.
func (b *wireguard) onIPv6Internet() bool {
	return slices.ContainsFunc(b.host.Links, func(l kernel.Link) bool {
		return slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool {
			return a.Addr().Is6() && a.Addr().IsGlobalUnicast() && !a.Addr().IsPrivate()
		})
	})
}
