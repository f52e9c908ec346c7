// Package vxlan is the vxlan backend (RFC 7348): packets between hosts travel
// in UDP datagrams between VTEPs, the devices flannel.<VNI>, so hosts may stand
// behind routers. With DirectRouting, peers on the same link get plain packets.
//
// A peer's VTEP has the address and MAC that its lease says. So nothing is ever
// asked of the network: the neighbour and the forwarding entry of each peer are
// there before its route.
package vxlan

import (
	"net/netip"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// Type is the backend's name in the config key and in leases.
const Type = "vxlan"

// overhead is what the tunnel adds to an IPv4 packet: the outer IPv4, UDP and
// VXLAN headers and the inner Ethernet header (20 + 8 + 8 + 14 bytes).
const overhead = 50

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
	b.device = kernel.Device{
		Name: deviceName(o.VNI), MTU: o.MTU - overhead, NoChecksumOffload: o.DisableTxChecksum,
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

func (b *vxlan) MTU() int { return b.device.MTU }

// Desired reaches each peer the way its lease says: one without a VTEP by a
// plain route. So a cluster changes its mode host by host.
func (b *vxlan) Desired(own subnet.Lease, peers []subnet.Lease, direct func(netip.Addr) bool) kernel.State {
	device := b.device
	device.Addrs = kernel.AddrsOf(kernel.DeviceAddr{
		Prefix: netip.PrefixFrom(own.Subnet.Addr(), 32), Network: b.network, SubnetLen: own.Subnet.Bits(),
	})
	through := len(peers) // the tunnel
	if b.direct {
		through = 0 // or few
	}
	s := kernel.State{
		Devices: []kernel.Device{device}, Routes: make([]kernel.Route, 0, len(peers)),
		Neighbours: make([]kernel.Neighbour, 0, through), FDB: make([]kernel.FDB, 0, through),
	}
	leads := make(map[kernel.MAC]netip.Addr, through+1) // a MAC leads to one host
	leads[device.MAC] = b.host.PublicIP
	for _, p := range peers {
		mac, hasVTEP := vtepMAC(p.Attrs)
		switch {
		case (!hasVTEP || b.direct) && direct(p.PublicIP):
			s.Routes = append(s.Routes, backend.PlainRoute(p, b.host.Link.Name))
		case hasVTEP && (leads[mac] == netip.Addr{} || leads[mac] == p.PublicIP): // again: one that moves has two leases for a day
			vtep := p.Subnet.Addr()
			if leads[mac] != p.PublicIP {
				s.FDB = append(s.FDB, kernel.FDB{Dev: device.Name, MAC: mac, Dst: p.PublicIP})
			}
			leads[mac] = p.PublicIP
			s.Neighbours = append(s.Neighbours, kernel.Neighbour{Dev: device.Name, Addr: vtep, MAC: mac})
			s.Routes = append(s.Routes, kernel.Route{Dst: p.Subnet, Via: vtep, Dev: device.Name, OnLink: true, Peer: p.PublicIP})
		}
	}
	return s
}
