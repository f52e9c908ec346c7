package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Netlink is the kernel of the network namespace in which it was opened,
// through one rtnetlink socket. It is for one goroutine.
type Netlink struct {
	handle  *netlink.Handle
	index   map[string]int // interfaces by name, as last listed or made
	offload *offload
}

var _ Conn = (*Netlink)(nil)

// Open connects to the kernel.
func Open() (*Netlink, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	o, err := openOffload()
	if err != nil {
		h.Close()
		return nil, err
	}
	return &Netlink{handle: h, index: map[string]int{}, offload: o}, nil
}

// Close ends the connection. What was written stays.
func (n *Netlink) Close() {
	n.handle.Close()
	n.offload.close()
}

// dump retries a list that the kernel changed while it was read: it may lack
// entries that were there all the time.
func dump[T any](list func() ([]T, error)) ([]T, error) {
	for range 10 {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, errors.New("the kernel changed faster than it can be read")
}

// Links implements Conn.
func (n *Netlink) Links() ([]Link, error) {
	links, err := dump(n.handle.LinkList)
	if err != nil {
		return nil, err
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return n.handle.AddrList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, err
	}
	clear(n.index)
	byIndex := map[int]*Link{}
	out := make([]Link, len(links))
	for i, l := range links {
		out[i] = readLink(l)
		n.index[out[i].Name] = out[i].Index
		byIndex[out[i].Index] = &out[i]
	}
	for _, a := range addrs {
		if l := byIndex[a.LinkIndex]; l != nil {
			l.Addrs = append(l.Addrs, readAddr(a))
		}
	}
	for i, l := range links {
		if v, ok := l.(*netlink.Vxlan); ok {
			out[i].VXLAN = n.readVXLAN(v, byIndex)
		}
	}
	return out, nil
}

func readLink(l netlink.Link) Link {
	a := l.Attrs()
	out := Link{Name: a.Name, Index: a.Index, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Kind: l.Type(), Alias: a.Alias}
	copy(out.MAC[:], a.HardwareAddr)
	return out
}

func readAddr(a netlink.Addr) Addr {
	ip := toAddr(a.IP)
	bits, _ := a.Mask.Size()
	return Addr{
		Prefix:    netip.PrefixFrom(ip, bits),
		LinkLocal: netlink.Scope(a.Scope) == netlink.SCOPE_LINK || ip.IsLinkLocalUnicast(),
	}
}

func (n *Netlink) readVXLAN(v *netlink.Vxlan, byIndex map[int]*Link) *VXLAN {
	out := &VXLAN{
		Name: v.Name, VNI: v.VxlanId, Port: v.Port, Local: toAddr(v.SrcAddr), GBP: v.GBP, Learning: v.Learning, MTU: v.MTU,
		NoChecksumOffload: !n.offload.on(v.Name),
	}
	copy(out.MAC[:], v.HardwareAddr)
	if parent := byIndex[v.VtepDevIndex]; parent != nil {
		out.Parent = parent.Name
	}
	return out
}

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// Routes implements Conn.
func (n *Netlink) Routes() ([]FoundRoute, error) {
	names := make(map[int]string, len(n.index))
	for name, index := range n.index {
		names[index] = name
	}
	return dump(func() (out []FoundRoute, err error) {
		err = n.handle.RouteListFilteredIter(netlink.FAMILY_V4, nil, 0, func(r netlink.Route) bool {
			if f, ok := readRoute(&r); ok {
				f.Dev = names[r.LinkIndex]
				out = append(out, f)
			}
			return true
		})
		return out, err
	})
}

// readRoute reads a route that may be ours or stand in the way of ours; that of
// a connected network is neither.
func readRoute(r *netlink.Route) (FoundRoute, bool) {
	if r.Dst == nil || r.Gw == nil && r.Protocol == unix.RTPROT_KERNEL {
		return FoundRoute{}, false
	}
	bits, _ := r.Dst.Mask.Size()
	f := FoundRoute{
		Route: Route{
			Dst: netip.PrefixFrom(toAddr(r.Dst.IP), bits), Via: toAddr(r.Gw), OnLink: r.Flags&unix.RTNH_F_ONLINK != 0,
		},
		Protocol: int(r.Protocol), Metric: r.Priority,
		Odd: r.Type != unix.RTN_UNICAST || r.Tos != 0 || r.Src != nil || len(r.MultiPath) > 0 || r.Encap != nil || r.Via != nil ||
			r.MTU != 0 || r.AdvMSS != 0 || r.Hoplimit != 0 || r.Window != 0 || r.Scope != netlink.SCOPE_UNIVERSE,
	}
	return f, f.Dst.IsValid()
}

// Entries implements Conn.
func (n *Netlink) Entries(dev Link) (Entries, error) {
	var e Entries
	list := func(family int) ([]netlink.Neigh, error) {
		return dump(func() ([]netlink.Neigh, error) { return n.handle.NeighList(dev.Index, family) })
	}
	neighbours, err := list(netlink.FAMILY_V4)
	if err != nil {
		return e, err
	}
	for _, x := range neighbours {
		found := FoundNeighbour{Neighbour{Dev: dev.Name, Addr: toAddr(x.IP)}, x.State&unix.NUD_PERMANENT != 0}
		copy(found.MAC[:], x.HardwareAddr)
		e.Neighbours = append(e.Neighbours, found)
	}
	fdb, err := list(unix.AF_BRIDGE)
	if err != nil {
		return e, err
	}
	for _, x := range fdb {
		found := FoundFDB{FDB{Dev: dev.Name, Dst: toAddr(x.IP)}, x.State&unix.NUD_PERMANENT != 0}
		copy(found.MAC[:], x.HardwareAddr)
		e.FDB = append(e.FDB, found)
	}
	return e, nil
}

// Direct reports whether the kernel reaches ip through dev without a gateway.
func (n *Netlink) Direct(ip netip.Addr, dev string) bool {
	routes, err := n.handle.RouteGet(net.IP(ip.AsSlice()))
	return err == nil && slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return r.Gw == nil && len(r.MultiPath) == 0 && r.LinkIndex == n.index[dev] && r.Type == unix.RTN_UNICAST
	})
}

// DefaultDev is the interface of the IPv4 default route with the lowest metric;
// "" if there is none.
func (n *Netlink) DefaultDev() (string, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return n.handle.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	best, metric := 0, 0
	for _, r := range routes {
		isDefault := r.Dst == nil || r.Dst.IP.IsUnspecified() && isZero(r.Dst.Mask)
		if isDefault && r.LinkIndex != 0 && (best == 0 || r.Priority < metric) {
			best, metric = r.LinkIndex, r.Priority
		}
	}
	for name, index := range n.index {
		if index == best && best != 0 {
			return name, nil
		}
	}
	return "", nil
}

func isZero(m net.IPMask) bool {
	bits, _ := m.Size()
	return bits == 0
}

// Ours reports whether the kernel holds anything that an earlier run wrote.
func (n *Netlink) Ours() (bool, error) {
	links, err := n.Links()
	if err != nil {
		return false, fmt.Errorf("list interfaces: %w", err)
	}
	routes, err := n.Routes()
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	return slices.ContainsFunc(links, func(l Link) bool { return l.Alias == Alias }) ||
		slices.ContainsFunc(routes, func(r FoundRoute) bool { return r.Protocol == Protocol }), nil
}
