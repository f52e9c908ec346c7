package kernel

import (
	"fmt"
	"net/netip"
	"slices"
)

// found is what a pass has read from the kernel.
type found struct {
	links   map[string]Link
	routes  map[netip.Prefix][]FoundRoute
	entries map[string]Entries // by vxlan device
}

// memory is what earlier passes left in place: the difference between a repair
// and news, and what is ours where the kernel keeps no mark.
type memory struct {
	devices    map[string]VXLAN
	routes     map[netip.Prefix]Route
	neighbours map[hop]MAC
	fdb        map[port]netip.Addr
}

type hop struct {
	dev  string
	addr netip.Addr
}

type port struct {
	dev string
	mac MAC
}

// plan is the pure heart of a pass: what to write so that the kernel becomes as
// wanted, in order, and what stands in the way.
func plan(want State, have found, was memory) (ops []Op, conflicts []Conflict) {
	p := &planner{want: want, have: have, was: was, fresh: map[string]bool{}}
	p.devices()
	p.trace()
	addFDB, dropFDB := p.fdbOps()
	addHops, dropHops := p.neighbourOps()
	addRoutes, dropRoutes := p.routeOps()
	stale := p.staleDevices()
	return slices.Concat(p.ops, addFDB, addHops, addRoutes, dropRoutes, dropHops, dropFDB, stale), p.conflicts
}

type planner struct {
	want State
	have found
	was  memory

	ops       []Op
	conflicts []Conflict
	fresh     map[string]bool // devices that are being created: what was on them is gone
	hops      map[hop]bool    // ours, wanted or not
	macs      map[port]bool
}

// Conflict is an object that somebody else put where one is wanted.
type Conflict struct {
	Dst   netip.Prefix
	Found FoundRoute
}

func (c Conflict) String() string {
	return fmt.Sprintf("route %v was written by somebody else and stays: to let flanneld reach %v, type: ip route del %v", c.Found, c.Dst, c.Found)
}

func (p *planner) devices() {
	for _, d := range p.want.Devices {
		repair := p.was.devices[d.Name] == d
		add := func(v Verb, object any, why string) { p.ops = append(p.ops, Op{v, object, why, repair}) }
		l, exists := p.have.links[d.Name]
		if exists {
			if why := incompatible(l, d); why != "" {
				add(Delete, VXLAN{Name: d.Name}, why)
				exists = false
			}
		}
		if !exists {
			p.fresh[d.Name] = true
			add(Add, d, "")
			l = Link{Name: d.Name, MAC: d.MAC, MTU: d.MTU, VXLAN: &VXLAN{}}
		}
		if l.Alias != Alias {
			add(Set, Setting{Dev: d.Name, Alias: Alias}, "")
		}
		if l.MAC != d.MAC {
			add(Set, Setting{Dev: d.Name, MAC: d.MAC}, "MAC was "+l.MAC.String())
		}
		if l.MTU != d.MTU {
			add(Set, Setting{Dev: d.Name, MTU: d.MTU}, fmt.Sprint("MTU was ", l.MTU))
		}
		if d.NoChecksumOffload && !l.VXLAN.NoChecksumOffload {
			add(Set, Setting{Dev: d.Name, NoChecksumOffload: true}, "")
		}
		p.address(l, d, add)
		if !l.Up {
			add(Set, Setting{Dev: d.Name, Up: true}, "")
		}
	}
}

// address sees to the device's own address. Others of length 32 are those of
// subnets that this host held before.
func (p *planner) address(l Link, d VXLAN, add func(Verb, any, string)) {
	has := false
	for _, a := range l.Addrs {
		switch {
		case a.Prefix == d.Addr:
			has = true
		case a.Bits() == 32 && !p.want.Partial:
			add(Delete, Address{d.Name, a.Prefix}, "")
		}
	}
	if !has && d.Addr.IsValid() {
		add(Add, Address{d.Name, d.Addr}, "")
	}
}

// incompatible names the attribute that cannot be changed on the existing
// device; "" if there is none.
func incompatible(l Link, d VXLAN) string {
	if l.VXLAN == nil {
		return fmt.Sprintf("it is of kind %q, not vxlan", l.Kind)
	}
	h := *l.VXLAN
	differs := func(what string, has, wants any) string {
		return fmt.Sprintf("its %s is %v, not %v", what, has, wants)
	}
	switch {
	case h.VNI != d.VNI:
		return differs("VNI", h.VNI, d.VNI)
	case h.Port != d.Port:
		return differs("UDP port", h.Port, d.Port)
	case h.Parent != d.Parent:
		return differs("interface", h.Parent, d.Parent)
	case h.Local != d.Local:
		return differs("local address", h.Local, d.Local)
	case h.GBP != d.GBP:
		return differs("GBP", h.GBP, d.GBP)
	case h.Learning != d.Learning:
		return differs("learning", h.Learning, d.Learning)
	}
	return ""
}

// Compatible reports whether an existing interface can serve as d.
func Compatible(l Link, d VXLAN) bool { return incompatible(l, d) == "" }

// staleDevices are those of ours that are not wanted any more.
func (p *planner) staleDevices() (ops []Op) {
	if p.want.Partial {
		return nil
	}
	for _, l := range p.have.links {
		wanted := slices.ContainsFunc(p.want.Devices, func(d VXLAN) bool { return d.Name == l.Name })
		if l.VXLAN != nil && l.Alias == Alias && !wanted {
			ops = append(ops, Op{Delete, VXLAN{Name: l.Name}, "not wanted any more", false})
		}
	}
	return ops
}

// ours reports whether dev is a vxlan device of ours, before or after the pass.
func (p *planner) ours(dev string) bool {
	return p.have.links[dev].Alias == Alias || slices.ContainsFunc(p.want.Devices, func(d VXLAN) bool { return d.Name == dev })
}
