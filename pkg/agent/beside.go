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

// Hosts change from one backend to another at different moments, and some stay on the old one for long. So
// while this host changes, several setups are at work: the current one, the next one and those that were
// left. Each peer is reached by the first of them whose tunnel has an end on both hosts; by the current
// one if there is none, which is a plain route or no way at all. What all of them need to be reached is
// there for all peers, so that a peer may be ahead of this host or behind.

// end is a setup beside the current one, as one family sees it.
type end struct {
	half
	left *leftSetup // nil: it is the next one
	open bool       // peers are given to it
}

// beside are the setups beside the current one, in the order in which peers are given to them. Of one type
// only the first one gets any: what a lease says does not tell two of them apart.
func (a *Agent) beside(f inet.Family, now time.Time) (all []end) {
	kinds := []string{a.current.kind()}
	add := func(u *setup, l *leftSetup) {
		h, used := u.of(f)
		if !used {
			return
		}
		first := !slices.Contains(kinds, u.kind())
		kinds = append(kinds, u.kind())
		known := a.untilKnown(u, now) <= 0 && (l == nil || a.spoken(l, now)) // and peers are not told to forget it
		all = append(all, end{h, l, first && known})
	}
	if a.next != a.current {
		add(a.next, nil)
	}
	for _, l := range a.left {
		add(l.setup, l)
	}
	return all
}

// desired is what this host wants of the kernel, by the kernel's answers.
func (a *Agent) desired(own subnet.Lease, peers families, now time.Time) (all desired) {
	for _, h := range a.current.halves {
		beside := a.beside(h.family, now)
		other := func(e end) bool { return e.config.BackendType != a.current.kind() }
		// Routes to single peers that an earlier run has left go before one to all, and would lead by what it had.
		alone := a.resumed.left(now) <= 0 && !slices.ContainsFunc(beside, other)
		whole := alone && a.whole(h, peers.of(h.family))
		all.add(a.place(h.family).onLink.desired(a.Kernel, func(onLink func(netip.Addr) backend.Answer) desired {
			around := backend.Around{OnLink: onLink, Whole: whole}
			if len(beside) == 0 {
				return h.desired(own, peers.of(h.family), around)
			}
			news := func(p *subnet.Lease) (by string, fresh bool) { return a.paths[p.Subnet].dev, a.news.fresh(p, now) }
			return h.shared(own, peers.of(h.family), beside, news, around)
		}))
	}
	return all
}

// shared is what a family wants where setups are at work beside its current one. News says by which device a
// peer has been reached, "" if by none, and whether it may not have heard yet of what this host says.
func (h half) shared(
	own subnet.Lease, peers []subnet.Lease, beside []end, news func(*subnet.Lease) (string, bool), around backend.Around,
) desired {
	mine, has := own.For(h.family)
	if !has {
		return desired{}
	}
	ends := append([]end{{half: h, open: true}}, beside...)
	attrs := h.backend.Attrs()
	kind := attrs.Type()
	share, by := make([][]subnet.Lease, len(ends)), make([]int, len(peers))
	for i := range peers {
		by[i] = meets(kind, ends, &mine, &peers[i])
		if dev, fresh := news(&peers[i]); fresh {
			by[i] = metBefore(ends, by[i], dev, &mine, &peers[i], around.OnLink)
		}
		share[by[i]] = append(share[by[i]], peers[i])
	}
	all := desired{peers: peers, paths: make([]backend.Path, len(peers))}
	for n, e := range ends {
		if n > 0 {
			around.Whole = false
		}
		// What peers need to reach this host is there for all of them.
		every, paths := e.backend.Desired(mine, peers, around)
		all.expect[h.family.Index()] = devicesOf(all.expect[h.family.Index()], every.Routes)
		given := kernel.State{}
		switch {
		case len(share[n]) == len(peers):
			given = every
		case len(share[n]) > 0:
			given, paths = e.backend.Desired(mine, share[n], around)
		}
		given.Devices, given.Peers = every.Devices, every.Peers
		next, before := 0, int32(len(all.Routes))
		for i := range peers {
			if by[i] == n {
				all.paths[i] = paths[next]
				all.paths[i].Route += before
				next++
			}
		}
		if e.left != nil && (len(share[n]) > 0 || e.sentBy(peers)) {
			all.given = append(all.given, e.left)
		}
		all.State = all.State.And(given)
	}
	return all
}

// sentBy tells whether a peer sends to us by a setup that was left, as it is current there: however we reach
// the peer, it needs our end.
func (e end) sentBy(peers []subnet.Lease) bool {
	return e.open && slices.ContainsFunc(peers, func(p subnet.Lease) bool {
		return p.Type() == e.config.BackendType
	})
}

// meets is which of the ends a peer is given to: the first that both have. A peer that has changed to what
// is current here is met by that, tunnel or not.
func meets(current string, ends []end, own, peer *subnet.Lease) int {
	if peer.Type() == current {
		return 0
	}
	for n, e := range ends {
		if e.open && e.backend.Meets(own, peer) {
			return n
		}
	}
	return 0
}

// metBefore is the end by which a peer was met before it said something new, by a device, if it still is.
func metBefore(ends []end, now int, dev string, own, peer *subnet.Lease, onLink func(netip.Addr) backend.Answer) int {
	for n, e := range ends {
		if e.left == nil || !e.open || dev != "" && !e.leadsBy(dev) {
			continue
		}
		plain := e.left.worked && e.backend.Endpoint() == "" && onLink(peer.PublicIP) == backend.Yes
		if plain || e.backend.Meets(own, peer) {
			return n
		}
	}
	return now
}

// leadsBy tells whether routes of a setup that was left may lead by a device.
func (e end) leadsBy(dev string) bool {
	return dev == e.host.Link.Name || slices.ContainsFunc(e.left.devices, func(d kernel.Device) bool { return d.Name == dev })
}

// devicesOf are those of routes, beside some.
func devicesOf(devices []string, routes []kernel.Route) []string {
	for i := range routes {
		if !slices.Contains(devices, routes[i].Dev) {
			devices = append(devices, routes[i].Dev)
		}
	}
	return devices
}

// ahead are devices of the next setup that take the place of the current one's before it does: what can be
// changed on a device, and peers hear of by our lease, is so by the time they do.
func (a *Agent) ahead(own subnet.Lease) (all []kernel.Device) {
	if a.current == nil || a.next == a.current || a.next.attrs() == a.current.attrs() {
		return nil
	}
	has := a.current.devices(own)
	for _, d := range a.next.devices(own) {
		i := slices.IndexFunc(has, func(h kernel.Device) bool { return h.Name == d.Name })
		if i >= 0 && has[i].Kind != d.Kind && has[i].Kind.Type() == d.Kind.Type() && d.Kind.Incompatible(has[i].Kind) == "" {
			all = append(all, d)
		}
	}
	return all
}
