package agent

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/kernel"
)

// peerWays are the ways by which peers are reached, and so the ones that their
// packets come by; and when each was wanted last. A peer that has not heard of a
// change yet still sends by one that was left.
type peerWays map[rules.Peer]time.Time

// note takes up those of a wanted state, and returns when to look again at the
// latest because one of the others may go.
func (w peerWays) note(want kernel.State, now time.Time) time.Duration {
	for _, r := range want.Routes {
		p := rules.Peer{Subnet: r.Dst, Device: r.Dev}
		if r.Via == r.Peer { // a plain route: the host's own packets come by it too
			p.Host = r.Peer
		}
		w[p] = now
	}
	next := resync
	for p, last := range w {
		switch left := lingerTime - now.Sub(last); {
		case left <= 0:
			delete(w, p)
		case left < lingerTime:
			next = min(next, left)
		}
	}
	return next
}

// peers are all of them, in an order that stays the same.
func (w peerWays) peers() []rules.Peer {
	return slices.SortedFunc(maps.Keys(w), func(a, b rules.Peer) int {
		return cmp.Or(comparePrefixes(a.Subnet, b.Subnet), cmp.Compare(a.Device, b.Device), a.Host.Compare(b.Host))
	})
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
