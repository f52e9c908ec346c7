package agent

import (
	"context"
	"errors"
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
	if a.inputs.link != "" {
		s.Host = &status.Host{
			Interface: a.inputs.link, Address: a.inputs.local, PublicIP: a.inputs.publicIP, MTU: a.inputs.mtu,
		}
	}
	if m := a.effective(); m != nil {
		s.Network = &status.Network{
			Network: m.config.Network, SubnetLen: m.config.SubnetLen, Backend: m.config.BackendType, Config: m.config.Text(),
		}
	}
	if a.current == nil || !view.Own.Subnet.IsValid() {
		return s
	}
	s.Lease = &status.Lease{
		Subnet: view.Own.Subnet, Backend: view.Own.BackendType, Expires: view.Own.Expires, MTU: a.current.backend.MTU(),
	}
	s.Device, s.Peers = a.peers(view)
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
func (a *Agent) peers(view subnet.View) (*status.Device, []status.Peer) {
	links, err := a.Kernel.Links()
	if err != nil {
		return nil, []status.Peer{}
	}
	peers, _ := a.peersOf(view, links)
	want := a.desired(a.current, view.Own, peers)
	have := a.have(links, want.State)
	out := make([]status.Peer, 0, len(peers))
	for i, l := range want.peers {
		p := status.Peer{
			Subnet: l.Subnet, PublicIP: l.PublicIP, Backend: l.BackendType,
			Expires: l.Expires, ExpiryUnknown: l.ExpiryUnknown, Mode: status.NoWay,
		}
		if path := want.paths[i]; path.Mode != backend.None {
			r := want.Routes[path.Route]
			p.Mode, p.Via, p.Dev, p.Since = status.Direct, r.Via, r.Dev, a.paths[r.Dst].since
			if path.Mode == backend.Tunnel {
				p.Mode, p.MAC = status.Tunnel, text(path.MAC)
			}
			p.Kernel = have.State(p)
		}
		out = append(out, p)
	}
	return device(want.State), out
}

// have reads what the kernel has of a wanted state. What cannot be read counts
// as missing.
func (a *Agent) have(links []kernel.Link, want kernel.State) status.Kernel {
	var entries kernel.Entries
	for _, l := range links {
		if len(want.Devices) > 0 && l.Name == want.Devices[0].Name && l.Kind != nil {
			entries, _ = a.Kernel.Entries(l)
		}
	}
	routes, _ := a.Kernel.Routes()
	return status.NewKernel(routes, entries)
}

func device(want kernel.State) *status.Device {
	if len(want.Devices) == 0 {
		return nil
	}
	d := want.Devices[0]
	outer := d.Kind.Encapsulation()
	if outer.Protocol == "udp" {
		outer.Protocol = ""
	}
	return &status.Device{
		Name: d.Name, VNI: outer.ID, Port: outer.Port, MAC: text(d.MAC), MTU: d.MTU, Addr: d.Addrs.Of(inet.IPv4).Addr(),
		Protocol: outer.Protocol, ChecksumByCPU: d.NoChecksumOffload,
	}
}

// text is empty for the MAC of a kind of device that has none.
func text(m kernel.MAC) string {
	if m == (kernel.MAC{}) {
		return ""
	}
	return m.String()
}
