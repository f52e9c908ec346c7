package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
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
		s = slices.Grow(s, max(64, len(s)))
	}
	return append(s, x)
}

// routes lists those of the main table that take wants; protocol 0: any. Left
// out are routes of one type of service (TOS), which stand beside ours, and
// those that the kernel has derived from others.
func (n *Netlink) routes(protocol uint8, take func(routeMessage) bool) ([]FoundRoute, error) {
	names := make(map[int]string, len(n.index))
	for name, index := range n.index {
		names[index] = name
	}
	begin := func() {
		m := nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Table: unix.RT_TABLE_MAIN, Protocol: protocol}}
		n.socket.begin(unix.RTM_GETROUTE, unix.NLM_F_DUMP, m.Serialize())
	}
	return list(n.socket, begin, func(body []byte) (FoundRoute, bool) {
		r, ok := readRoute(body)
		if !ok || r.Table != unix.RT_TABLE_MAIN || r.Tos != 0 || r.Flags&unix.RTM_F_CLONED != 0 || !take(r) {
			return FoundRoute{}, false
		}
		return r.found(names), true
	})
}

// Routes implements Conn.
func (n *Netlink) Routes() ([]FoundRoute, error) {
	return n.routes(0, func(routeMessage) bool { return true })
}

// DefaultDev is the interface of the IPv4 default route with the lowest metric;
// "" if there is none.
func (n *Netlink) DefaultDev() (string, error) {
	routes, err := n.routes(0, func(r routeMessage) bool { return r.Dst_len == 0 })
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	var best FoundRoute
	for _, r := range routes {
		if r.Dev != "" && (best.Dev == "" || r.Metric < best.Metric) {
			best = r
		}
	}
	return best.Dev, nil
}

// Ours reports whether the kernel holds anything that an earlier run wrote.
func (n *Netlink) Ours() (bool, error) {
	links, err := n.Links()
	if err != nil {
		return false, fmt.Errorf("list interfaces: %w", err)
	}
	ours := slices.ContainsFunc(links, func(l Link) bool { return l.Alias == Alias })
	_, err = n.routes(Protocol, func(r routeMessage) bool {
		ours = ours || r.Protocol == Protocol
		return false
	})
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	return ours, nil
}

// Direct reports whether the kernel reaches ip through dev without a gateway.
func (n *Netlink) Direct(ip netip.Addr, dev string) (bool, error) {
	m := nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Dst_len: 32}}
	n.socket.begin(unix.RTM_GETROUTE, 0, m.Serialize())
	n.socket.add(unix.RTA_DST, ip.AsSlice())
	direct := false
	err := n.socket.ask(func(body []byte) {
		r, ok := readRoute(body)
		direct = ok && r.Type == unix.RTN_UNICAST && !r.via.IsValid() && r.index != 0 && r.index == n.index[dev]
	})
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return false, nil // no route, or one that forbids (ip-route(8): unreachable, prohibit, blackhole)
	case err != nil:
		return false, fmt.Errorf("ask for the route to %v: %w", ip, err)
	}
	return direct, nil
}

// Entries implements Conn.
func (n *Netlink) Entries(dev Link) (e Entries, err error) {
	e.Neighbours, err = list(n.socket, n.neighbours(unix.AF_INET, dev), func(body []byte) (FoundNeighbour, bool) {
		m, ok := readNeighbour(body)
		return FoundNeighbour{Neighbour{dev.Name, m.dst, m.mac}, m.permanent}, ok && m.index == dev.Index
	})
	if err != nil {
		return e, err
	}
	e.FDB, err = list(n.socket, n.neighbours(unix.AF_BRIDGE, dev), func(body []byte) (FoundFDB, bool) {
		m, ok := readNeighbour(body)
		return FoundFDB{FDB{dev.Name, m.mac, m.dst}, m.permanent && !m.elsewhere}, ok && m.index == dev.Index && m.self
	})
	return e, err
}

// neighbours asks for the neighbours on dev, or for its forwarding entries.
func (n *Netlink) neighbours(family uint8, dev Link) func() {
	return func() {
		m := netlink.Ndmsg{Family: family}
		n.socket.begin(unix.RTM_GETNEIGH, unix.NLM_F_DUMP, m.Serialize())
		n.socket.addNumber(unix.NDA_IFINDEX, dev.Index)
	}
}
