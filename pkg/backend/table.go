package backend

import (
	"net/netip"
	"slices"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

// WithAddress is a tunnel's device with its own address: the first one of this host's subnet, alone.
func WithAddress(d kernel.Device, own subnet.Lease, network netip.Prefix) kernel.Device {
	first := own.Subnet.Addr()
	d.Addrs = kernel.AddrsOf(kernel.DeviceAddr{
		Prefix: netip.PrefixFrom(first, first.BitLen()), Network: network, SubnetLen: own.Subnet.Bits(),
	})
	return d
}

// Table is a State that grows by peers, for a device that keeps a table of its hosts itself: the
// kernel need only know that packets go to the device.
type Table struct {
	kernel.State
	device  string
	link    string       // the external interface
	network netip.Prefix // to which one route leads; invalid: each peer has its own
}

// NewTable has a device, room for as many peers, and one route to the whole network where that
// takes nothing away: this host needs nothing there, and no peer is reached there.
func NewTable(d kernel.Device, h Host, network netip.Prefix, around Around, peers []subnet.Lease) *Table {
	t := &Table{
		State:  kernel.State{Devices: []kernel.Device{d}, Peers: make([]kernel.Peer, 0, len(peers))},
		device: d.Name, link: h.Link.Name,
	}
	within := func(p subnet.Lease) bool {
		return network.Contains(p.PublicIP) || network.Contains(p.IPv6.PublicIP)
	}
	if around.Whole && !slices.ContainsFunc(peers, within) {
		t.network = network
		t.Routes = []kernel.Route{{Dst: network, Dev: d.Name}}
	}
	return t
}

// Add enters a peer, and leads to it what is for its subnet.
func (t *Table) Add(lease *subnet.Lease, p wgdevice.Peer) Path {
	p.Allowed = wgdevice.PrefixesOf(lease.Subnet)
	t.Peers = append(t.Peers, kernel.Peer{Dev: t.device, Peer: p})
	if t.network.IsValid() {
		return Path{Mode: Tunnel} // by the first route
	}
	t.Routes = append(t.Routes, kernel.Route{Dst: lease.Subnet, Dev: t.device, Peer: lease.PublicIP})
	return Path{Mode: Tunnel, Route: int32(len(t.Routes) - 1)}
}

// Plain leads to a peer that the table cannot have, over the common link.
func (t *Table) Plain(lease *subnet.Lease, onLink func(netip.Addr) Answer) Path {
	switch onLink(lease.PublicIP) {
	case Yes:
		t.Routes = append(t.Routes, PlainRoute(lease, t.link))
		return Path{Mode: Direct, Route: int32(len(t.Routes) - 1)}
	case No:
		return Path{Reason: NoEndpoint}
	}
	return Path{Reason: OnLinkUnknown}
}
