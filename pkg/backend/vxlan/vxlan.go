// Package vxlan is the vxlan backend (RFC 7348): packets between hosts travel
// in UDP datagrams between VTEPs, so hosts may stand behind routers. The devices are
// flannel.<VNI>, and flannel-v6.<VNI> for the packets of IPv6, which travel in IPv6. With
// DirectRouting, peers on the same link get plain packets.
//
// A peer's VTEP has the address and MAC that its lease says. So nothing is ever
// asked of the network: the neighbour and the forwarding entry of each peer are
// there before its route.
package vxlan

import (
	"net/netip"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Type is the backend's name in the config key and in leases.
const Type = "vxlan"

// overhead is what the tunnel adds to a packet, in bytes: the outer IP, UDP and
// VXLAN headers and the inner Ethernet header. outer is the family in which the
// hosts talk.
func overhead(outer inet.Family) int {
	ip := 20 // RFC 791
	if outer == inet.IPv6 {
		ip = 40 // RFC 8200
	}
	return ip + 8 + 8 + 14
}

// leastMTU is what the external interface must carry, so that the tunnel carries
// what every host of a family must take: 576 bytes (RFC 791), 1280 (RFC 8200).
func leastMTU(outer inet.Family) int {
	if outer == inet.IPv6 {
		return 1280 + overhead(outer)
	}
	return 576 + overhead(outer)
}

type vxlan struct {
	host    backend.Host
	network netip.Prefix
	direct  bool          // DirectRouting
	device  kernel.Device // without Addrs
}

// New is a backend.Factory.
func New(c subnet.Config, h backend.Host) (backend.Backend, error) {
	o, err := readOptions(c, h)
	if err != nil {
		return nil, err
	}
	b := &vxlan{host: h, network: c.Network, direct: o.DirectRouting}
	outer := inet.Of(h.Local)
	b.device = kernel.Device{
		Name: deviceName(outer, o.VNI), MTU: o.MTU - overhead(outer), NoChecksumOffload: o.DisableTxChecksum,
		Kind: kernel.VXLAN{VNI: o.VNI, Port: o.Port, Parent: h.Link.Name, Local: h.Local, GBP: o.GBP, Learning: o.Learning},
	}
	if b.device.MAC, err = chooseMAC(b.device, h); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *vxlan) Attrs() subnet.Attrs {
	return subnet.Attrs{PublicIP: b.host.PublicIP, BackendType: Type, BackendData: leaseData(b.device.MAC)}
}

func (b *vxlan) Endpoint() string { return leaseData(b.device.MAC) }

// Meets needs nothing of our lease: a VTEP takes packets from anybody.
func (b *vxlan) Meets(_, peer *subnet.Lease) bool {
	_, has := vtepMAC(&peer.Attrs)
	return has
}

func (b *vxlan) MTU() int { return b.device.MTU }

// Desired reaches each peer the way its lease says: one of another backend by a
// plain route. So a cluster changes its mode host by host.
func (b *vxlan) Desired(
	own subnet.Lease, peers []subnet.Lease, around backend.Around,
) (kernel.State, []backend.Path) {
	t := b.tunnel(own, len(peers))
	paths := make([]backend.Path, len(peers))
	for i := range peers {
		paths[i] = b.choosePath(t, &peers[i], around.OnLink)
	}
	return t.State, paths
}

// choosePath adds to t what leads to a peer.
func (b *vxlan) choosePath(t *tunnel, p *subnet.Lease, onLink func(netip.Addr) backend.Answer) backend.Path {
	mac, hasVTEP := vtepMAC(&p.Attrs)
	if !hasVTEP && p.BackendType == Type {
		return backend.Path{Reason: backend.BadEndpoint}
	}
	direct := backend.No
	if !hasVTEP || b.direct {
		direct = onLink(p.PublicIP)
	}
	switch {
	case direct == backend.Yes:
		t.Routes = append(t.Routes, backend.PlainRoute(p, b.host.Link.Name))
		return backend.Path{Mode: backend.Direct, Route: int32(len(t.Routes) - 1)}
	case direct == backend.Unknown:
		return backend.Path{Reason: backend.OnLinkUnknown}
	case !hasVTEP:
		return backend.Path{Reason: backend.NoEndpoint}
	}
	return t.add(p, mac)
}

// tunnel is a State that grows by peers.
type tunnel struct {
	kernel.State
	dev   string
	hosts map[kernel.MAC]*netip.Addr // a MAC leads to one host
}

// tunnel has the device, and room for as many peers.
func (b *vxlan) tunnel(own subnet.Lease, peers int) *tunnel {
	d := backend.WithAddress(b.device, own, b.network)
	through := peers
	if b.direct {
		through = 0 // or few
	}
	return &tunnel{
		State: kernel.State{
			Devices: []kernel.Device{d}, Routes: make([]kernel.Route, 0, peers),
			Neighbours: make([]kernel.Neighbour, 0, through), FDB: make([]kernel.FDB, 0, through),
		},
		dev:   d.Name,
		hosts: map[kernel.MAC]*netip.Addr{d.MAC: &b.host.PublicIP},
	}
}

// add adds what leads to a peer with a VTEP of this MAC.
func (t *tunnel) add(p *subnet.Lease, mac kernel.MAC) backend.Path {
	host, known := t.hosts[mac]
	switch {
	case !known:
		t.hosts[mac] = &p.PublicIP
		t.FDB = append(t.FDB, kernel.FDB{Dev: t.dev, MAC: mac, Dst: p.PublicIP})
	case *host != p.PublicIP: // again: one that moves has two leases for a day
		return backend.Path{Reason: backend.DuplicateMAC}
	}
	vtep := p.Subnet.Addr()
	t.Neighbours = append(t.Neighbours, kernel.Neighbour{Dev: t.dev, Addr: vtep, MAC: mac})
	t.Routes = append(t.Routes, kernel.Route{Dst: p.Subnet, Via: vtep, Dev: t.dev, OnLink: true, Peer: p.PublicIP})
	return backend.Path{Mode: backend.Tunnel, MAC: mac, Route: int32(len(t.Routes) - 1)}
}
