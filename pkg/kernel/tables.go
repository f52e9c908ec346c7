package kernel

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// list reads a table that begin asks for. take says what an entry is to the
// caller; false: nothing. The kernel is asked for as little as it can select;
// older ones give more.
func list[T any](s *socket, begin func(), take func(body []byte) (T, bool)) ([]T, error) {
	return dump(func() (out []T, err error) {
		begin()
		err = s.ask(func(body []byte) {
			if x, ok := take(body); ok {
				out = appended(out, x)
			}
		})
		if errors.Is(err, unix.ENOENT) { // a table that nothing was ever put into
			err = nil
		}
		return out, err
	})
}

// appended is append in larger steps, which leave less behind.
func appended[T any](s []T, x T) []T {
	if len(s) == cap(s) {
		s = slices.Grow(s, max(16, len(s)))
	}
	return append(s, x)
}

// routes lists those of a family in the main table that take wants; protocol 0:
// any. Left out are routes of one type of service (TOS) or of one source, which stand
// beside ours, and those that the kernel has derived from others.
func (n *Netlink) routes(f inet.Family, protocol uint8, take func(routeMessage) bool) ([]FoundRoute, error) {
	begin := func() {
		m := nl.RtMsg{RtMsg: unix.RtMsg{Family: numberOf(f), Table: unix.RT_TABLE_MAIN, Protocol: protocol}}
		n.socket.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP, m.Serialize())
	}
	routes, err := list(n.socket, begin, func(body []byte) (FoundRoute, bool) {
		r, ok := readRoute(body)
		if !ok || r.Family != numberOf(f) || r.Table != unix.RT_TABLE_MAIN || r.Tos != 0 || r.Src_len != 0 ||
			r.Flags&unix.RTM_F_CLONED != 0 || !take(r) {
			return FoundRoute{}, false
		}
		return r.found(n.names), true
	})
	if err != nil {
		return nil, err
	}
	return routes, n.follow(routes)
}

// follow fills in where routes lead of which the kernel names only the next hop object.
func (n *Netlink) follow(routes []FoundRoute) error {
	untold := func(r FoundRoute) bool { return r.Nexthop != 0 && !r.Special && r.Dev == "" }
	if !slices.ContainsFunc(routes, untold) {
		return nil
	}
	all, err := n.Nexthops()
	if err != nil {
		return err
	}
	at := make(map[uint32]FoundNexthop, len(all))
	for _, h := range all {
		at[h.ID] = h
	}
	for i := range routes {
		if r := &routes[i]; untold(*r) {
			h, known := at[r.Nexthop]
			r.Via, r.Dev, r.OnLink, r.Special = h.Via, h.Dev, h.OnLink, !known || h.Special
		}
	}
	return nil
}

// Nexthops implements Conn. The kernel lists them of both families at once.
func (n *Netlink) Nexthops() ([]FoundNexthop, error) {
	begin := func() {
		n.socket.begin(unix.RTM_GETNEXTHOP, unix.NLM_F_DUMP, make([]byte, unix.SizeofNhmsg))
	}
	all, err := list(n.socket, begin, func(body []byte) (FoundNexthop, bool) {
		m, ok := readNexthop(body)
		return m.found(n.names), ok
	})
	if is(err, unix.EOPNOTSUPP, unix.EINVAL) { // before Linux 5.3
		return nil, nil
	}
	return all, err
}

// each lists something for each family.
func each[T any](families []inet.Family, list func(inet.Family) ([]T, error)) (all []T, err error) {
	for _, f := range families {
		some, err := list(f)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = some
			continue
		}
		all = append(all, some...)
	}
	return all, nil
}

// Routes implements Conn.
func (n *Netlink) Routes() ([]FoundRoute, error) {
	return each(n.looks, func(f inet.Family) ([]FoundRoute, error) {
		return n.routes(f, 0, func(routeMessage) bool { return true })
	})
}

// DefaultDev is the interface of a family's default route with the lowest
// metric; "" if there is none.
func (n *Netlink) DefaultDev(f inet.Family) (string, error) {
	several := map[int]string{} // the first of their interfaces, by metric
	routes, err := n.routes(f, 0, func(r routeMessage) bool {
		if _, known := several[r.metric]; r.Dst_len == 0 && r.first != 0 && !known {
			several[r.metric] = n.names[r.first]
		}
		return r.Dst_len == 0
	})
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	best, metric := "", 0
	for _, r := range routes {
		dev := cmp.Or(r.Dev, several[r.Metric])
		if dev != "" && (best == "" || r.Metric < metric) {
			best, metric = dev, r.Metric
		}
	}
	return best, nil
}

// Ours reports whether the kernel holds anything that an earlier run wrote for one of
// the networks; nil: for any.
func (n *Netlink) Ours(networks []netip.Prefix) (bool, error) {
	links, err := n.Links()
	if err != nil {
		return false, fmt.Errorf("list interfaces: %w", err)
	}
	ours := slices.ContainsFunc(links, func(l Link) bool { return l.leftIn(networks) })
	for _, f := range n.families {
		_, err = n.routes(f, Protocol, func(r routeMessage) bool {
			ours = ours || r.Protocol == Protocol && within(networks, r.dst)
			return false
		})
		if err != nil {
			return false, fmt.Errorf("list routes: %w", err)
		}
	}
	return ours, nil
}

// Entries implements Conn.
func (n *Netlink) Entries(dev Link) (e Entries, err error) {
	e.Neighbours, err = each(n.looks, func(f inet.Family) ([]FoundNeighbour, error) {
		return list(n.socket, n.neighbours(numberOf(f), dev), func(body []byte) (FoundNeighbour, bool) {
			m, ok := readNeighbour(body)
			return FoundNeighbour{Neighbour{dev.Name, m.dst, m.mac}, m.permanent},
				ok && m.index == dev.Index && m.family == numberOf(f)
		})
	})
	if err != nil {
		return e, err
	}
	e.FDB, err = list(n.socket, n.neighbours(unix.AF_BRIDGE, dev), func(body []byte) (FoundFDB, bool) {
		m, ok := readNeighbour(body)
		return FoundFDB{FDB{dev.Name, m.mac, m.dst}, m.permanent && !m.elsewhere}, ok && m.index == dev.Index && m.self
	})
	if err == nil {
		e.Peers, err = n.peers(dev)
	}
	return e, err
}

// neighbours asks for the neighbours of a family on dev, or for its forwarding
// entries.
func (n *Netlink) neighbours(family uint8, dev Link) func() {
	return func() {
		m := netlink.Ndmsg{Family: family}
		n.socket.begin(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, m.Serialize())
		n.socket.addNumber(unix.NDA_IFINDEX, dev.Index)
	}
}
