package agent

import (
	"cmp"
	"slices"
	"time"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// inboundPaths are the paths by which packets come from peers. A peer that has not heard of a
// change yet still sends by one that was left.
type inboundPaths struct {
	all  map[rules.Peer]inboundPath
	pass uint // how many there were
}

type inboundPath struct {
	pass uint      // the last in which it was wanted
	left time.Time // when it was not any more; zero: it is wanted
}

// update takes up the peers of a wanted state, each by all devices over which we
// route its family now or would by a setup beside: while setups change, a peer may be ahead of
// us or behind. It returns when to look again at the latest because a path may go.
func (in *inboundPaths) update(want desired, setup *setup, now time.Time) time.Duration {
	in.pass++
	if in.all == nil {
		in.all = map[rules.Peer]inboundPath{}
	}
	for _, f := range inet.Families() {
		devices, external := outgoing(f, want), ""
		if h, used := setup.of(f); used {
			external = h.host.Link.Name // hosts' own packets come by it
		}
		for i := range want.peers {
			peer := &want.peers[i]
			if _, reached := want.route(i); !reached || inet.Of(peer.Subnet.Addr()) != f {
				continue
			}
			for _, dev := range devices {
				p := rules.Peer{Subnet: peer.Subnet, Device: dev}
				if dev == external {
					p.Host = peer.PublicIP
				}
				in.all[p] = inboundPath{pass: in.pass}
			}
		}
	}
	next := resync
	for p, path := range in.all {
		if path.pass == in.pass {
			continue
		}
		if path.left.IsZero() { // until now: the last pass may be long ago
			path.left = now
			in.all[p] = path
		}
		if left := drainingTime - now.Sub(path.left); left > 0 {
			next = min(next, left)
		} else {
			delete(in.all, p)
		}
	}
	return next
}

// refreshAll takes all of them for wanted: some may be, and that is not known.
func (in *inboundPaths) refreshAll() {
	for p := range in.all {
		in.all[p] = inboundPath{pass: in.pass}
	}
}

// peers are all of a family, in an order that stays the same.
func (in *inboundPaths) peers(f inet.Family) []rules.Peer {
	all := make([]rules.Peer, 0, len(in.all))
	for p := range in.all {
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
// routes, and of the routes of setups beside.
func outgoing(f inet.Family, want desired) (out []string) {
	for _, d := range want.Devices {
		if d.Addrs.Of(f).IsValid() {
			out = append(out, d.Name)
		}
	}
	for i := range want.Routes {
		if r := &want.Routes[i]; inet.Of(r.Dst.Addr()) == f && !slices.Contains(out, r.Dev) {
			out = append(out, r.Dev)
		}
	}
	for _, dev := range want.expect[f.Index()] {
		if !slices.Contains(out, dev) {
			out = append(out, dev)
		}
	}
	return out
}
