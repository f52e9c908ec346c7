package agent

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/backend"
	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// Status is how everything stands now, but for what only the rest of the daemon
// knows: its version, etcd's addresses. It belongs to the caller.
func (a *Agent) Status(ctx context.Context) (s status.Status, err error) {
	err = a.ask(ctx, func() { s = a.status(time.Now()) })
	return s, err
}

// Unready is nil where everything is as it should be, and otherwise says in a
// line what is not.
func (a *Agent) Unready(ctx context.Context) error {
	var now condition.List
	if err := a.ask(ctx, func() { now = a.conditions(a.Leases.View(), time.Now()) }); err != nil {
		return err
	}
	if c, unready := now.Unready(); unready {
		return errors.New(c.Text())
	}
	return nil
}

// ask has Run's goroutine, which owns the state, carry out f.
func (a *Agent) ask(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case a.asked <- func() { f(); close(done) }:
		<-done
		return nil
	case <-ctx.Done():
		return errors.New("flanneld is busy")
	}
}

// conditionsAtOnce bounds what a store full of garbage can make of the answer.
const conditionsAtOnce = 50

func (a *Agent) status(now time.Time) status.Status {
	view := a.Leases.View()
	s := status.Status{
		Time:   now,
		Daemon: &status.Daemon{Applied: a.latest.success, Changed: a.latest.changed, Change: a.latest.change},
		Etcd:   status.Etcd{Current: view.Current, Read: view.Read},
		Peers:  []status.Peer{},

		Conditions: a.conditions(view, now),
	}
	unready, not := s.Conditions.Unready()
	s.Daemon.Ready, s.Daemon.Reason = !not, unready.Text()
	s.Conditions = s.Conditions.Bound(conditionsAtOnce)
	works := a.current != nil && view.Own.Subnet.IsValid()
	var devices []foundDevice
	if works {
		devices, s.Peers = a.peers(view)
	}
	var halves []status.Half
	for _, f := range inet.Families() {
		if h := a.half(f, view, works, devices); h != (status.Half{}) {
			halves = append(halves, h)
		}
	}
	s.SetHalves(halves)
	if m := a.effective(); m != nil {
		s.Network.Config = m.config.Text()
	}
	return s
}

// half is what there is to say of a family.
func (a *Agent) half(f inet.Family, view subnet.View, works bool, devices []foundDevice) (s status.Half) {
	if in := a.inUse(f); in.link != "" {
		s.Host = &status.Host{Interface: in.link, Address: in.local, PublicIP: in.publicIP, MTU: in.mtu}
	}
	m := a.effective()
	if m == nil {
		return s
	}
	h, used := m.of(f)
	if !used {
		return status.Half{}
	}
	s.Network = &status.Network{
		Network: h.config.Network, SubnetLen: h.config.SubnetLen, Backend: h.config.BackendType,
	}
	own, has := view.Own.For(f)
	if !works || !has {
		return s
	}
	s.Lease = &status.Lease{
		Subnet: own.Subnet, Backend: own.BackendType, Expires: own.Expires, MTU: h.backend.MTU(),
		PublicKey: status.PublicKeyOf(own.BackendData),
	}
	for _, d := range devices {
		if d.Addrs.Of(f).IsValid() {
			s.Device = a.device(f, d)
		}
	}
	return s
}

// effective is the one at work, or the one that is to come where none is yet.
func (a *Agent) effective() *setup {
	if a.current != nil {
		return a.current
	}
	return a.next
}

// peers says how each peer is to be reached, and what of that the kernel has.
func (a *Agent) peers(view subnet.View) ([]foundDevice, []status.Peer) {
	links, err := a.Kernel.Links()
	if err != nil {
		return nil, []status.Peer{}
	}
	peers, _ := a.peersOf(view, links)
	want := a.desired(view.Own, peers, time.Now())
	have := a.have(links, want.State)
	hops := hopsOf(want.Peers)
	out := make([]status.Peer, 0, len(want.peers))
	for i, l := range want.peers {
		p := status.NewPeer(l)
		p.Mode = status.NoWay
		switch path := want.paths[i]; path.Mode {
		case backend.External:
			p.Mode = status.External
		case backend.Direct, backend.Tunnel:
			r := want.Routes[path.Route]
			p.Mode, p.Via, p.Dev, p.Since = status.Direct, r.Via, r.Dev, a.paths[l.Subnet].since
			if path.Mode == backend.Tunnel {
				p.Mode, p.MAC, p.Endpoint = status.Tunnel, text(path.MAC), hops[hop{r.Dev, p.Subnet}]
			}
			if r.Dst != p.Subnet {
				p.Route = r.Dst
			}
			p.Kernel, p.Session = have.State(p), have.Session(p)
		}
		out = append(out, p)
	}
	return foundDevices(a.current.devices(view.Own), links), out
}

// hop is a subnet behind a device.
type hop struct {
	dev    string
	subnet netip.Prefix
}

// hopsOf are where devices with a table of hosts of their own send what is for a subnet.
func hopsOf(peers []kernel.Peer) map[hop]netip.AddrPort {
	out := make(map[hop]netip.AddrPort, len(peers))
	for _, p := range peers {
		for _, s := range p.Subnets() {
			out[hop{p.Dev, s}] = p.Endpoint
		}
	}
	return out
}

// foundDevice is a wanted one, and what is there.
type foundDevice struct {
	kernel.Device
	link kernel.Link
}

func foundDevices(want []kernel.Device, links []kernel.Link) (out []foundDevice) {
	for _, d := range want {
		found := foundDevice{Device: d}
		if i := slices.IndexFunc(links, func(l kernel.Link) bool { return l.Name == d.Name }); i >= 0 {
			found.link = links[i]
		}
		out = append(out, found)
	}
	return out
}

// have reads what the kernel has of a wanted state. What cannot be read counts
// as missing.
func (a *Agent) have(links []kernel.Link, want kernel.State) status.Kernel {
	var entries kernel.Entries
	for _, l := range links {
		if l.Kind != nil && slices.ContainsFunc(want.Devices, func(d kernel.Device) bool { return d.Name == l.Name }) {
			of, _ := a.Kernel.Entries(l)
			entries.Neighbours, entries.FDB = append(entries.Neighbours, of.Neighbours...), append(entries.FDB, of.FDB...)
			entries.Peers = append(entries.Peers, of.Peers...)
		}
	}
	routes, _ := a.Kernel.Routes()
	return status.NewKernel(routes, entries)
}

func (a *Agent) device(f inet.Family, d foundDevice) *status.Device {
	outer := d.Kind.Encapsulation()
	if outer.Protocol == "udp" {
		outer.Protocol = ""
	}
	out := &status.Device{
		Name: d.Name, VNI: outer.ID, Port: outer.Port, MAC: text(d.MAC), MTU: d.MTU, Addr: d.Addrs.Of(f).Addr(),
		Protocol: outer.Protocol, ChecksumByCPU: d.NoChecksumOffload,
		Kind: d.Kind.Type(), UserSpace: d.link.Type == kernel.TAP,
	}
	switch kind := d.Kind.(type) {
	case kernel.WireGuard:
		out.PublicKey = kind.Private.Public().String()
	case kernel.UDP:
		out.Kind = status.UDP
	}
	if k, counts := a.Kernel.(trafficCounter); counts {
		if t, counted := k.Traffic(d.link); counted {
			out.Traffic = &status.Traffic{Sent: t.Sent, Received: t.Received, Dropped: t.Dropped}
		}
	}
	return out
}

// trafficCounter is a kernel that counts bytes by device.
type trafficCounter interface {
	Traffic(dev kernel.Link) (kernel.Traffic, bool)
}

// text is empty for the MAC of a kind of device that has none.
func text(m kernel.MAC) string {
	if m == (kernel.MAC{}) {
		return ""
	}
	return m.String()
}
