package agent

import (
	"context"
	"net/netip"
	"time"

	"flanneld/pkg/backend"
	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/monitor"
)

// Paths shows this host, and the paths to all peers that packets are carried to, to look, on
// the agent's goroutine and as the last pass had them: nothing is read or copied for it, as it
// is asked for all the time. look keeps nothing of it.
func (a *Agent) Paths(ctx context.Context, look func(monitor.Host, monitor.Peers)) error {
	return a.ask(ctx, func() {
		hops := a.hopsByDevice()
		look(a.probing(), monitor.Peers{
			All: func(yield func(netip.Prefix, time.Time) bool) {
				for peer, p := range a.paths {
					if !yield(peer, p.since) {
						return
					}
				}
			},
			Of: func(peer netip.Prefix) (monitor.Path, bool) {
				p, has := a.paths[peer]
				return monitor.Path{Since: p.since, Direct: p.mode == backend.Direct, Via: p.via, Hops: hops[p.dev]}, has
			},
		})
	})
}

// obstacles are what keeps packets from peers on this side.
var obstacles = []condition.Code{
	condition.InterfaceMissing, condition.InterfaceDown, condition.NoLease, condition.LeaseExpired,
	condition.KernelNotApplied, condition.FirewallNotApplied, condition.Starting,
}

// probing is what this host is to who probes its peers.
func (a *Agent) probing() (host monitor.Host) {
	if a.current == nil || !a.ready {
		return host
	}
	if a.Conditions.List().Has(obstacles...) {
		return host
	}
	host.Works, host.MTU = true, a.current.mtu()
	for _, h := range a.current.halves {
		if own, has := a.held.For(h.family); has {
			vtep := own.Subnet.Addr()
			host.Sources = append(host.Sources, vtep.Next(), vtep) // docker0's, as containers', where it is there
		}
		if local := a.inUse(h.family).local; local.IsValid() {
			host.Sources = append(host.Sources, local)
		}
	}
	return host
}

// hopsByDevice are by how many a TTL is less when packets come out of a tunnel: by backend udp
// either end takes one off.
func (a *Agent) hopsByDevice() map[string]int {
	hops := map[string]int{}
	if a.current == nil {
		return hops
	}
	devices := a.current.devices(a.held)
	for _, l := range a.left {
		devices = append(devices, l.devices...)
	}
	for _, d := range devices {
		if _, isUDP := d.Kind.(kernel.UDP); isUDP {
			hops[d.Name] = 2
		}
	}
	return hops
}
