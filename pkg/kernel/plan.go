package kernel

import (
	"fmt"
	"net/netip"
	"slices"
)

// found is what a pass has read from the kernel.
type found struct {
	links   []Link
	routes  []FoundRoute
	entries map[string]Entries // of the wanted devices that exist
}

func (f found) link(name string) (Link, bool) {
	i := slices.IndexFunc(f.links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return f.links[i], true
}

// plan is the heart of a pass: what to write so that the kernel becomes as
// wanted, in order, and what stands in the way. It does no I/O. Into was it
// notes what it recognizes as ours from before a restart.
func plan(want State, wanted memory, have found, was *memory) (ops []Op, conflicts []Conflict) {
	p := &planner{want: want, wanted: wanted, have: have, was: was, created: map[string]bool{}}
	ops = p.deviceOps()
	p.recognize()
	ops, dropFDB := p.fdbOps(ops)
	ops, dropHops := p.neighbourOps(ops)
	ops, dropRoutes := p.routeOps(ops)
	ops = append(ops, dropRoutes...)
	ops = append(ops, dropHops...)
	ops = append(ops, dropFDB...)
	return append(ops, p.staleDevices()...), p.conflicts
}

type planner struct {
	want      State
	wanted    memory // the same, by key
	have      found
	was       *memory
	created   map[string]bool // devices that are being created: what was on them is gone
	conflicts []Conflict
}

// Conflict is an object that somebody else put where one is wanted.
type Conflict struct {
	Dst   netip.Prefix
	Found FoundRoute
}

func (c Conflict) String() string {
	return fmt.Sprintf("route %v was written by somebody else and stays: to leave %v to flanneld, type: ip route del %v",
		c.Found, c.Dst, c.Found)
}

func (p *planner) wants(dev string) bool {
	return slices.ContainsFunc(p.want.Devices, func(d Device) bool { return d.Name == dev })
}
