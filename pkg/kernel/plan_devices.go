package kernel

import "fmt"

func (d VXLAN) key() string { return d.Name }

func (p *planner) deviceOps() (ops []Op) {
	for _, d := range p.want.Devices {
		l, exists := p.have.link(d.Name)
		before, _ := p.was.devices.get(d.Name)
		repair := before == d
		add := func(v Verb, object any, why string) { ops = append(ops, Op{v, object, why, repair && v != Delete}) }
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
		p.settings(l, d, add)
	}
	return ops
}

// settings sees to what can be changed on a device.
func (p *planner) settings(l Link, d VXLAN, add func(v Verb, object any, why string)) {
	if l.Alias != Alias {
		add(Set, Setting{Dev: d.Name, Alias: Alias}, "")
	}
	if l.MAC != d.MAC {
		add(Set, Setting{Dev: d.Name, MAC: d.MAC}, "it was "+l.MAC.String())
		if e, read := p.have.entries[d.Name]; read {
			e.Neighbours = nil // a new MAC makes the kernel forget them
			p.have.entries[d.Name] = e
		}
	}
	if l.MTU != d.MTU {
		add(Set, Setting{Dev: d.Name, MTU: d.MTU}, fmt.Sprint("it was ", l.MTU))
	}
	if d.NoChecksumOffload && !l.VXLAN.NoChecksumOffload {
		add(Set, Setting{Dev: d.Name, NoChecksumOffload: true}, "")
	}
	p.address(l, d, add)
	if !l.Up {
		add(Set, Setting{Dev: d.Name, Up: true}, "")
	}
}

// address sees to the device's own address. Others of length 32 are those of
// subnets that this host held before; they go last, since a device without any
// address loses its routes and neighbours.
func (p *planner) address(l Link, d VXLAN, add func(v Verb, object any, why string)) {
	has := false
	for _, a := range l.Addrs {
		has = has || a.Prefix == d.Addr
	}
	if !has && d.Addr.IsValid() {
		add(Add, Address{d.Name, d.Addr}, "")
	}
	for _, a := range l.Addrs {
		if a.Prefix != d.Addr && a.Bits() == 32 && !p.want.Partial {
			add(Delete, Address{d.Name, a.Prefix}, "")
		}
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

// staleDevices are those of ours that are not wanted any more. What is on them
// goes with them.
func (p *planner) staleDevices() (ops []Op) {
	if p.want.Partial {
		return nil
	}
	for _, l := range p.have.links {
		if l.VXLAN != nil && (p.was.devices.has(l.Name) || l.Alias == Alias) && !p.wants(l.Name) {
			ops = append(ops, Op{Delete, VXLAN{Name: l.Name}, "not wanted any more", false})
		}
	}
	return ops
}
