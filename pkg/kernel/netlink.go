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
// through a few sockets of its own. It is for one goroutine.
type Netlink struct {
	handle  *netlink.Handle
	index   map[string]int // interfaces by name, as last listed or made
	batch   *batch
	offload *offload
}

var _ Conn = (*Netlink)(nil)

// Open connects to the kernel.
func Open() (*Netlink, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	b, err := openBatch()
	if err != nil {
		h.Close()
		return nil, err
	}
	o, err := openOffload()
	if err != nil {
		h.Close()
		b.close()
		return nil, err
	}
	return &Netlink{handle: h, index: map[string]int{}, batch: b, offload: o}, nil
}

// Close ends the connection. What was written stays.
func (n *Netlink) Close() {
	n.handle.Close()
	n.batch.close()
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
	return Link{
		Name: a.Name, Index: a.Index, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Kind: l.Type(), MAC: toMAC(a.HardwareAddr), Alias: a.Alias,
	}
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
		Name: v.Name, VNI: v.VxlanId, Port: v.Port, Local: toAddr(v.SrcAddr), GBP: v.GBP, Learning: v.Learning,
		MAC: toMAC(v.HardwareAddr), MTU: v.MTU, NoChecksumOffload: !n.offload.on(v.Name),
	}
	if parent := byIndex[v.VtepDevIndex]; parent != nil {
		out.Parent = parent.Name
	}
	return out
}

func toMAC(a net.HardwareAddr) (m MAC) {
	copy(m[:], a)
	return m
}

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// Routes implements Conn. Routes of one type of service (TOS) are left out:
// they stand beside ours.
func (n *Netlink) Routes() ([]FoundRoute, error) {
	names := make(map[int]string, len(n.index))
	for name, index := range n.index {
		names[index] = name
	}
	return dump(func() (out []FoundRoute, err error) {
		err = n.handle.RouteListFilteredIter(netlink.FAMILY_V4, &netlink.Route{}, 0, func(r netlink.Route) bool {
			if r.Tos == 0 {
				out = append(out, readRoute(&r, names))
			}
			return true
		})
		return out, err
	})
}

func readRoute(r *netlink.Route, names map[int]string) FoundRoute {
	bits, _ := r.Dst.Mask.Size()
	return FoundRoute{
		Route: Route{
			Dst: netip.PrefixFrom(toAddr(r.Dst.IP), bits), Via: toAddr(r.Gw), Dev: names[r.LinkIndex],
			OnLink: r.Flags&unix.RTNH_F_ONLINK != 0,
		},
		Protocol: int(r.Protocol), Metric: r.Priority, Odd: odd(r),
	}
}

func odd(r *netlink.Route) bool {
	numbers := r.Realm | r.MTU | r.AdvMSS | r.Window | r.Hoplimit | r.Rtt | r.RttVar | r.RtoMin | r.Ssthresh | r.Cwnd | r.InitCwnd | r.InitRwnd |
		r.Reordering | r.QuickACK | r.Features | r.FastOpenNoCookie
	return numbers != 0 || r.Congctl != "" || r.Type != unix.RTN_UNICAST || r.Scope != netlink.SCOPE_UNIVERSE ||
		r.Src != nil || r.Via != nil || r.Encap != nil || len(r.MultiPath) > 0
}

// Entries implements Conn.
func (n *Netlink) Entries(dev Link) (e Entries, err error) {
	list := func(family int) ([]netlink.Neigh, error) {
		return dump(func() ([]netlink.Neigh, error) { return n.handle.NeighList(dev.Index, family) })
	}
	neighbours, err := list(netlink.FAMILY_V4)
	if err != nil {
		return e, err
	}
	e.Neighbours = make([]FoundNeighbour, 0, len(neighbours))
	for _, x := range neighbours {
		e.Neighbours = append(e.Neighbours, FoundNeighbour{
			Neighbour{Dev: dev.Name, Addr: toAddr(x.IP), MAC: toMAC(x.HardwareAddr)}, x.State&unix.NUD_PERMANENT != 0,
		})
	}
	fdb, err := list(unix.AF_BRIDGE)
	if err != nil {
		return e, err
	}
	e.FDB = make([]FoundFDB, 0, len(fdb))
	for _, x := range fdb {
		if x.Flags&unix.NTF_SELF == 0 {
			continue // of a bridge that the device is a port of
		}
		e.FDB = append(e.FDB, FoundFDB{
			FDB{Dev: dev.Name, MAC: toMAC(x.HardwareAddr), Dst: toAddr(x.IP)}, x.State&unix.NUD_PERMANENT != 0 && x.VNI == 0,
		})
	}
	return e, nil
}

// Direct reports whether the kernel reaches ip through dev without a gateway.
func (n *Netlink) Direct(ip netip.Addr, dev string) (bool, error) {
	routes, err := n.handle.RouteGet(net.IP(ip.AsSlice()))
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return false, nil // no route, or one that forbids (ip-route(8): unreachable, prohibit, blackhole)
	case err != nil:
		return false, fmt.Errorf("ask for the route to %v: %w", ip, err)
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return r.Gw == nil && len(r.MultiPath) == 0 && r.LinkIndex == n.index[dev] && r.Type == unix.RTN_UNICAST
	}), nil
}

// DefaultDev is the interface of the IPv4 default route with the lowest metric;
// "" if there is none.
func (n *Netlink) DefaultDev() (string, error) {
	routes, err := n.Routes()
	if err != nil {
		return "", fmt.Errorf("list routes: %w", err)
	}
	var best FoundRoute
	for _, r := range routes {
		if r.Dst.Bits() == 0 && r.Dev != "" && (best.Dev == "" || r.Metric < best.Metric) {
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
	routes, err := n.Routes()
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	return slices.ContainsFunc(links, func(l Link) bool { return l.Alias == Alias }) ||
		slices.ContainsFunc(routes, func(r FoundRoute) bool { return r.Protocol == Protocol }), nil
}
