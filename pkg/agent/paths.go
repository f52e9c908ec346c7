package agent

import (
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// desired is what a setup wants in the kernel for its families, and by it the
// paths to the peers.
type desired struct {
	kernel.State
	peers []subnet.Lease // as their family sees them
	paths []backend.Path // in the peers' order

	expect [2][]string  // by family, the devices of all routes that several setups would have: by these, peers may come
	given  []*leftSetup // that a peer is reached by
}

// route is that by which a peer is reached, which may lead to more than its subnet; false: there is none
// of ours.
func (d *desired) route(peer int) (kernel.Route, bool) {
	p := d.paths[peer]
	if p.Mode != backend.Direct && p.Mode != backend.Tunnel {
		return kernel.Route{}, false
	}
	return d.Routes[p.Route], true
}

// add adds what another family wants.
func (d *desired) add(o desired) {
	if d.peers == nil && d.Devices == nil {
		*d = o
		return
	}
	for i := range o.paths {
		o.paths[i].Route += int32(len(d.Routes))
	}
	d.State = d.And(o.State)
	d.peers, d.paths, d.given = append(d.peers, o.peers...), append(d.paths, o.paths...), append(d.given, o.given...)
	for f := range d.expect {
		d.expect[f] = append(d.expect[f], o.expect[f]...)
	}
}

// desired asks the backend. Who has no subnet of the family wants nothing.
func (h half) desired(own subnet.Lease, peers []subnet.Lease, around backend.Around) desired {
	own, has := own.For(h.family)
	if !has {
		return desired{}
	}
	state, paths := h.backend.Desired(own, peers, around)
	return desired{State: state, peers: peers, paths: paths}
}

// families are leases as each family sees them.
type families [2][]subnet.Lease

func (l families) of(f inet.Family) []subnet.Lease { return l[f.Index()] }

// pathTimes remember since when each peer is reached as it is.
type pathTimes map[netip.Prefix]pathTime

type pathTime struct {
	mode  backend.Mode
	dev   string
	via   netip.Addr
	since time.Time
}

// update takes over the paths of a pass, and says what is new of them. One that is not
// known is the one that it was.
func (t *pathTimes) update(want desired, now time.Time) (news pathNews) {
	if *t == nil {
		*t = make(pathTimes, len(want.paths))
	}
	reached := 0
	for i, p := range want.paths {
		to := want.peers[i].Subnet
		r, has := want.route(i)
		switch {
		case has:
			reached++
			last, known := (*t)[to]
			if last.via == r.Via && last.dev == r.Dev && last.mode == p.Mode {
				continue
			}
			(*t)[to] = pathTime{p.Mode, r.Dev, r.Via, now}
			if known {
				news.turned = append(news.turned, to)
			} else {
				news.came = append(news.came, to)
			}
		case p.Reason != backend.OnLinkUnknown:
			delete(*t, to)
		}
	}
	if len(*t) > reached {
		still := make(map[netip.Prefix]bool, len(want.peers))
		for _, p := range want.peers {
			still[p.Subnet] = true
		}
		for p := range *t {
			if !still[p] {
				news.left = append(news.left, p)
				delete(*t, p)
			}
		}
		slices.SortFunc(news.left, netip.Prefix.Compare)
	}
	return news
}
