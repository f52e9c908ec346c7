package kernel

import (
	"fmt"
	"net/netip"
	"slices"
)

func (d Device) key() string { return d.Name }

func (p *planner) deviceOps() (ops []Op) {
	for _, d := range p.want.Devices {
		l, exists := p.have.link(d.Name)
		before, _ := p.was.devices.get(d.Name)
		repair := before == d
		add := func(a Action, object Object, why string) {
			ops = append(ops, Op{a, object, why, repair && a != Delete})
		}
		if exists {
			if why := incompatible(l, d); why != "" {
				add(Delete, Device{Name: d.Name}, why)
				exists = false
			}
		}
		switch {
		case !exists:
			p.created[d.Name] = true
			add(Add, d, "")
			l = Link{Name: d.Name, MAC: d.MAC, MTU: d.MTU, Kind: d.Kind}
		case l.Unserved: // what is on it stays
			add(Add, d, "no process carried its packets")
			l.Kind, l.MTU = d.Kind, d.MTU
		}
		p.settings(l, d, add)
	}
	return ops
}

// settings sees to what can be changed on a device.
func (p *planner) settings(l Link, d Device, add func(a Action, object Object, why string)) {
	if l.Alias != Alias {
		add(Set, Setting{Dev: d.Name, Alias: Alias}, "")
	}
	if d.MAC != (MAC{}) && l.MAC != d.MAC {
		add(Set, Setting{Dev: d.Name, MAC: d.MAC}, "it was "+l.MAC.String())
		if e, read := p.have.entries[d.Name]; read {
			e.Neighbours = nil // a new MAC makes the kernel forget them
			p.have.entries[d.Name] = e
		}
	}
	if l.Kind != d.Kind {
		add(Set, Setting{Dev: d.Name, Kind: d.Kind}, d.Kind.Differs(l.Kind))
	}
	if l.MTU != d.MTU {
		add(Set, Setting{Dev: d.Name, MTU: d.MTU}, fmt.Sprint("it was ", l.MTU))
	}
	if d.NoChecksumOffload && !l.NoChecksumOffload {
		add(Set, Setting{Dev: d.Name, NoChecksumOffload: true}, "")
	}
	p.addresses(l, d, add)
	if !l.Up {
		add(Set, Setting{Dev: d.Name, Up: true}, "")
	}
}

// addresses sees to the device's own addresses. Those of subnets that this host
// held before go last, since a device without any address loses its routes and
// neighbours.
func (p *planner) addresses(l Link, d Device, add func(a Action, object Object, why string)) {
	for _, a := range l.Addrs {
		if d.Addrs.lengthOff(a.Prefix) {
			add(Delete, Address{d.Name, a.Prefix}, "its length is wrong")
		}
	}
	for _, a := range d.Addrs {
		if a.IsValid() && !slices.ContainsFunc(l.Addrs, func(has Addr) bool { return has.Prefix == a.Prefix }) {
			add(Add, Address{d.Name, a.Prefix}, "")
		}
	}
	for _, a := range l.Addrs {
		ours := p.was.addrs[Address{d.Name, a.Prefix}] || d.Addrs.former(a.Prefix)
		if ours && !d.Addrs.Has(a.Prefix) && !d.Addrs.lengthOff(a.Prefix) && !p.want.Partial {
			add(Delete, Address{d.Name, a.Prefix}, "")
		}
	}
}

// leftIn tells a device that an earlier run has made for one of the networks.
func (l Link) leftIn(networks []netip.Prefix) bool {
	return l.Alias == Alias && (networks == nil ||
		slices.ContainsFunc(l.Addrs, func(a Addr) bool { return within(networks, a.Prefix) }))
}

// staleDevices are those of ours that are not wanted any more. What is on them
// goes with them.
func (p *planner) staleDevices() (ops []Op) {
	for _, l := range p.have.links {
		if p.stale(l) {
			ops = append(ops, Op{Delete, Device{Name: l.Name}, "not wanted any more", false})
		}
	}
	return ops
}

func (p *planner) stale(l Link) bool {
	return !p.want.Partial && l.Kind != nil && (p.was.devices.has(l.Name) || l.leftIn(p.want.Networks)) && !p.wants(l.Name)
}

// goes tells a route that goes with a stale device, whosever it is.
func (p *planner) goes(r *FoundRoute) bool {
	l, exists := p.have.link(r.Dev)
	return exists && p.stale(l)
}
