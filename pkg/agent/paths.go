package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// applied is what the last passes did to the kernel.
type applied struct {
	success time.Time // the last that found or made everything as it should be
	changed time.Time // the last that wrote
	change  string    // what it wrote
}

func (a *Agent) apply(want kernel.State) (kernel.Result, error) {
	start := time.Now()
	result, err := a.syncer.Apply(want)
	now := time.Now()
	if v := klog.V(2); v.Enabled() {
		v.InfoS("Compared the kernel with what is wanted",
			"routes", len(want.Routes), "writes", len(result.Ops), "took", now.Sub(start))
	}
	if a.Applied != nil {
		a.Applied(now.Sub(start), err)
	}
	if err == nil {
		a.latest.success = now
	}
	if n := len(result.Ops); n > 0 {
		a.latest.changed, a.latest.change = now, result.Ops[n-1].String()
		if n > 1 {
			a.latest.change += fmt.Sprintf(" (and %d more)", n-1)
		}
	}
	return result, err
}

// desired is what a mode wants in the kernel for its families, and by it the
// paths to the peers.
type desired struct {
	kernel.State
	peers []subnet.Lease
	paths []backend.Path // in the peers' order
}

// desired asks the backend for each family.
func (m *mode) desired(own subnet.Lease, peers []subnet.Lease, onLink func(netip.Addr) backend.Answer) (all desired) {
	families := m.config.Families()
	for i, f := range families {
		mine, theirs := own, peers
		if len(families) > 1 {
			mine, theirs = leasesOf(f, own, peers)
		}
		state, paths := m.backend.Desired(f, mine, theirs, onLink)
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

// note takes over the paths of a pass. One that is not known is the one that it
// was.
func (t *pathTimes) note(want desired, now time.Time) {
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
