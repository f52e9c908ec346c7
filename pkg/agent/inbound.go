package agent

import (
	"cmp"
	"slices"
	"time"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// inboundPaths are the paths by which packets come from peers, and when each was
// wanted last. A peer that has not heard of a change yet still sends by one that
// was left.
type inboundPaths map[rules.Peer]time.Time

// update takes up the peers of a wanted state, each by all devices over which we
// route its family now or will by the next setup: while setups change, a peer may be ahead of
// us or behind. It returns when to look again at the latest because a path may go.
func (in inboundPaths) update(want kernel.State, setup *setup, now time.Time) time.Duration {
	for _, f := range inet.Families() {
		devices, external := outgoing(f, want, setup.expect), ""
		if h, used := setup.of(f); used {
			external = h.host.Link.Name // hosts' own packets come by it
		}
		for _, r := range want.Routes {
			if inet.Of(r.Dst.Addr()) != f {
				continue
			}
			for _, dev := range devices {
				p := rules.Peer{Subnet: r.Dst, Device: dev}
				if dev == external {
					p.Host = r.Peer
				}
				in[p] = now
			}
		}
	}
	next := resync
	for p, last := range in {
		switch left := drainingTime - now.Sub(last); {
		case left <= 0:
			delete(in, p)
		case left < drainingTime:
			next = min(next, left)
		}
	}
	return next
}

// refreshAll takes all of them for wanted: some may be, and that is not known.
func (in inboundPaths) refreshAll(now time.Time) {
	for p := range in {
		in[p] = now
	}
}

// peers are all of a family, in an order that stays the same.
func (in inboundPaths) peers(f inet.Family) []rules.Peer {
	all := make([]rules.Peer, 0, len(in))
	for p := range in {
		if inet.Of(p.Subnet.Addr()) == f {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b rules.Peer) int {
		return cmp.Or(a.Subnet.Addr().Compare(b.Subnet.Addr()), cmp.Compare(a.Device, b.Device), a.Host.Compare(b.Host))
	})
	return all
}

// outgoing are the devices of a wanted state with an address of a family, and those of its
// routes, and of the routes of the setup to come.
func outgoing(f inet.Family, want kernel.State, next []kernel.Route) (out []string) {
	for _, d := range want.Devices {
		if d.Addrs.Of(f).IsValid() {
			out = append(out, d.Name)
		}
	}
	for _, routes := range [][]kernel.Route{want.Routes, next} {
		for _, r := range routes {
			if inet.Of(r.Dst.Addr()) == f && !slices.Contains(out, r.Dev) {
				out = append(out, r.Dev)
			}
		}
	}
	return out
}
