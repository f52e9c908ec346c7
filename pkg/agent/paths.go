package agent

import (
	"maps"
	"net/netip"
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
	d.peers, d.paths = append(d.peers, o.peers...), append(d.paths, o.paths...)
}

// desired asks the backend. Who has no subnet of the family wants nothing.
func (h half) desired(own subnet.Lease, peers []subnet.Lease, onLink func(netip.Addr) backend.Answer) desired {
	own, has := own.For(h.family)
	if !has {
		return desired{}
	}
	state, paths := h.backend.Desired(own, peers, onLink)
	return desired{state, peers, paths}
}

// families are leases as each family sees them.
type families [2][]subnet.Lease

func (l families) of(f inet.Family) []subnet.Lease { return l[f.Index()] }

// pathTimes remember since when each peer is reached as it is.
type pathTimes map[netip.Prefix]pathTime

type pathTime struct {
	mode  backend.Mode
	via   netip.Addr
	since time.Time
}

// update takes over the paths of a pass. One that is not known is the one that it
// was.
func (t *pathTimes) update(want desired, now time.Time) {
	if *t == nil {
		*t = make(pathTimes, len(want.paths))
	}
	for i, p := range want.paths {
		to := want.peers[i].Subnet
		switch {
		case p.Mode != backend.None:
			via := want.Routes[p.Route].Via
			if last := (*t)[to]; last.via != via || last.mode != p.Mode {
				(*t)[to] = pathTime{p.Mode, via, now}
			}
		case p.Reason != backend.OnLinkUnknown:
			delete(*t, to)
		}
	}
	if len(*t) > len(want.Routes) {
		still := make(map[netip.Prefix]bool, len(want.peers))
		for _, p := range want.peers {
			still[p.Subnet] = true
		}
		maps.DeleteFunc(*t, func(p netip.Prefix, _ pathTime) bool { return !still[p] })
	}
}
