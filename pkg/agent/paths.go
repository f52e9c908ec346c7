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
	peers []subnet.Lease
	paths []backend.Path // in the peers' order
}

// desired asks the backend for each family.
func (u *setup) desired(own subnet.Lease, peers []subnet.Lease, onLink func(netip.Addr) backend.Answer) (all desired) {
	families := u.config.Families()
	for i, f := range families {
		mine, theirs := own, peers
		if len(families) > 1 {
			mine, theirs = leasesOf(f, own, peers)
		}
		state, paths := u.backend.Desired(f, mine, theirs, onLink)
		if i == 0 {
			all = desired{state, theirs, paths}
			continue
		}
		for j := range paths {
			paths[j].Route += int32(len(all.Routes))
		}
		all.State = all.And(state)
		all.peers, all.paths = append(all.peers, theirs...), append(all.paths, paths...)
	}
	return all
}

// leasesOf are the leases as a family sees them: those that have a subnet of it.
func leasesOf(f inet.Family, own subnet.Lease, peers []subnet.Lease) (subnet.Lease, []subnet.Lease) {
	own, _ = own.For(f)
	seen := make([]subnet.Lease, 0, len(peers))
	for _, p := range peers {
		if p, has := p.For(f); has {
			seen = append(seen, p)
		}
	}
	return own, seen
}

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
