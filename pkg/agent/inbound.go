package agent

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/kernel"
)

// inboundPaths are the paths by which packets come from peers, and when each was
// wanted last. A peer that has not heard of a change yet still sends by one that
// was left.
type inboundPaths map[rules.Peer]time.Time

// update takes up the peers of a wanted state, each by all devices over which we
// route now or will next: while setups change, a peer may be ahead of us or behind.
// external is the interface by which hosts' own packets come. It returns when to
// look again at the latest because a path may go.
func (in inboundPaths) update(want kernel.State, devices []string, external string, now time.Time) time.Duration {
	for _, r := range want.Routes {
		for _, dev := range devices {
			p := rules.Peer{Subnet: r.Dst, Device: dev}
			if dev == external {
				p.Host = r.Peer
			}
			in[p] = now
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

// peers are all of them, in an order that stays the same.
func (in inboundPaths) peers() []rules.Peer {
	all := slices.AppendSeq(make([]rules.Peer, 0, len(in)), maps.Keys(in))
	slices.SortFunc(all, func(a, b rules.Peer) int {
		return cmp.Or(a.Subnet.Addr().Compare(b.Subnet.Addr()), cmp.Compare(a.Device, b.Device), a.Host.Compare(b.Host))
	})
	return all
}

// outgoing are the devices of a wanted state, and of the routes of the setup to
// come.
func outgoing(want kernel.State, next []kernel.Route) []string {
	out := names(want.Devices)
	for _, routes := range [][]kernel.Route{want.Routes, next} {
		for _, r := range routes {
			if !slices.Contains(out, r.Dev) {
				out = append(out, r.Dev)
			}
		}
	}
	return out
}
