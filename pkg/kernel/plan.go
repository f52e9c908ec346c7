package kernel

import (
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/inet"
)

// found is what a pass has read from the kernel.
type found struct {
	looks    []inet.Family // of which routes, addresses and neighbours were read
	links    []Link
	routes   []FoundRoute
	nexthops []FoundNexthop     // read before the routes
	entries  map[string]Entries // of the wanted devices that exist

	byNexthops [2]bool // routes are to be written by next hop objects, by family
	at         time.Time
	waits      func(Op) bool // it is contested, and its turn has not come; nil: nothing is
}

func (f found) takesNexthops(a netip.Addr) bool { return f.byNexthops[inet.Of(a).Index()] }

func (f found) link(name string) (Link, bool) {
	i := slices.IndexFunc(f.links, func(l Link) bool { return l.Name == name })
	if i < 0 {
		return Link{}, false
	}
	return f.links[i], true
}

// plan is the heart of a pass: what to write so that the kernel becomes as
// wanted, in order, what stands in the way, and what is to be done later. It does no
// I/O. Into was it notes what it recognizes as ours from before a restart, and into
// wanted the next hop objects that it uses.
func plan(want State, wanted *memory, have found, was *memory) (ops []Op, others Others, later []Op) {
	p := &planner{want: want, wanted: wanted, have: have, was: was, created: map[string]bool{}}
	p.ground = Ground{Own: want.Own, Networks: want.Networks, Devices: want.Devices}
	ops = p.deviceOps()
	p.recognize()
	ops, dropPeers := p.peerOps(ops)
	ops, dropFDB := p.fdbOps(ops)
	ops, dropHops := p.neighbourOps(ops)
	p.findNexthops()
	routes, dropRoutes := p.routeOps()
	gatewaysFirst(routes)
	pave, unpave := p.pavements(routes)
	ops = slices.Concat(ops, pave, p.nexthops.writes, routes, unpave, dropRoutes, p.nexthopDrops())
	wanted.nexthops = p.knownNexthops()
	ops = append(ops, dropHops...)
	ops = append(ops, dropFDB...)
	ops = append(ops, dropPeers...)
	p.findForeign()
	return append(ops, p.staleDevices()...), p.others, p.later
}

type planner struct {
	want     State
	wanted   *memory // the same, by key
	have     found
	was      *memory
	created  map[string]bool // devices that are being created: what was on them is gone
	ground   Ground
	others   Others
	nexthops nexthops

	unconnected map[string]bool // devices without a carrier; nil: not asked for yet
	later       []Op            // what is not to be done yet
}

// Others is what somebody else has put where it is in the way, and what stays.
type Others struct {
	Conflicts []Conflict
	Foreign   []Foreign
}

func (p *planner) wants(dev string) bool { return p.ground.wants(dev) }

// findForeign notes what others have put on our devices, but for what stands in the
// place of a wanted route, which is told as that.
func (p *planner) findForeign() {
	p.others.Foreign = slices.DeleteFunc(p.ground.Foreign(p.have.links, p.have.routes), func(f Foreign) bool {
		if f.Addr.IsValid() {
			return p.created[f.Dev] || p.was.addrs[Address{f.Dev, f.Addr}]
		}
		return p.created[f.Dev] || p.wanted.routes.has(f.Route.Dst)
	})
}
