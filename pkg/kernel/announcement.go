package kernel

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// change is what a message means to us.
type change int

const (
	irrelevant change = iota
	ofOurs            // something that we write may have changed
	ofRouting         // and peers may be reached another way
)

// judge decides from a message what it means (rtnetlink(7)), and of which
// interface it speaks, where that is easy to tell.
func (w *Watcher) judge(h unix.NlMsghdr, body []byte) (is change, dev string) {
	switch kind := h.Type; kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return w.link(kind, body)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return w.address(kind, body)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r, ok := readRoute(body)
		switch {
		case !ok || r.Table != unix.RT_TABLE_MAIN && r.Table != unix.RT_TABLE_COMPAT:
			return irrelevant, ""
		case scoped(r.dst.Addr()): // each interface has it, also each of a container
			return irrelevant, ""
		case r.Protocol == Protocol:
			return ofOurs, ""
		}
		return ofRouting, ""
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		// With it go its routes, or lead elsewhere. Of those that go the kernel says nothing, and of the
		// others nothing where net.ipv4.nexthop_compat_mode is 0.
		n, ok := readNexthop(body)
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case !w.looksAt(n.family):
		case ok && ownID(n.id):
			return ofOurs, ""
		case kind == unix.RTM_DELNEXTHOP || h.Flags&unix.NLM_F_REPLACE != 0:
			return ofRouting, ""
		}
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n, ok := readNeighbour(body)
		w.mu.Lock()
		defer w.mu.Unlock()
		if dev = w.names[n.index]; ok && w.devices[dev] && w.looksAt(n.family) {
			return ofOurs, dev
		}
	}
	return irrelevant, dev
}

// addrKey is what a Watcher knows an address by.
type addrKey struct {
	index int
	addr  netip.Prefix
}

// scoped tells an IPv6 address that means something on one link alone.
func scoped(a netip.Addr) bool { return a.Is6() && a.IsLinkLocalUnicast() }

// address notes an interface's address. That it lasts longer, as each advertisement of a
// router's has it, is no news. Nor are those that the kernel gives to each interface, but
// by those of the interfaces that matter it is heard that they take IPv6 addresses again.
func (w *Watcher) address(kind uint16, body []byte) (change, string) {
	a, ok := readAddress(body)
	if !ok {
		return ofRouting, ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	name, key := w.names[a.index], addrKey{a.index, a.Prefix}
	if scoped(a.Addr.Addr()) && w.links != nil && !w.links[name] {
		return irrelevant, name
	}
	before, known := w.addrs[key]
	if kind == unix.RTM_DELADDR {
		delete(w.addrs, key)
		return ofRouting, name
	}
	w.addrs[key] = a.Addr
	if known && before == a.Addr {
		return irrelevant, name
	}
	return ofRouting, name
}

// link notes an interface's name.
func (w *Watcher) link(kind uint16, body []byte) (change, string) {
	l, ok := readLinkMessage(body)
	if !ok {
		return irrelevant, ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	former := w.names[l.index]
	if l.name != "" {
		w.names[l.index] = l.name
	}
	name := w.names[l.index]
	if kind == unix.RTM_DELLINK && !l.bridge {
		delete(w.names, l.index)
	}
	if w.links[former] || w.links[name] {
		w.deafen()
	}
	if w.links == nil || w.links[name] || w.links[former] {
		return ofRouting, name
	}
	return irrelevant, name
}

// messageName is what the log calls a message.
func messageName(kind uint16) string {
	switch kind {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return "link"
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return "address"
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return "route"
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		return "next hop"
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return "neighbour"
	}
	return fmt.Sprint("message ", kind)
}
