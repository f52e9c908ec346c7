package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// Netlink is the kernel of the network namespace in which it was opened,
// through a few sockets of its own. It is for one goroutine.
type Netlink struct {
	families []inet.Family // whose addresses, routes and neighbours are looked at
	handle   *netlink.Handle
	index    map[string]int        // interfaces by name, as last listed or made
	names    map[int]string        // the reverse
	kinds    map[string]DeviceKind // of those that have one
	socket   *socket               // for what there are many of
	offload  *offload
}

var _ Conn = (*Netlink)(nil)

// Open connects to the kernel, to see and write what is of these families.
func Open(families ...inet.Family) (*Netlink, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	s, err := openSocket()
	if err != nil {
		h.Close()
		return nil, err
	}
	o, err := openOffload()
	if err != nil {
		h.Close()
		s.close()
		return nil, err
	}
	return &Netlink{
		families: families, handle: h, index: map[string]int{}, names: map[int]string{}, kinds: map[string]DeviceKind{},
		socket: s, offload: o,
	}, nil
}

// Close ends the connection. What was written stays.
func (n *Netlink) Close() {
	n.handle.Close()
	n.socket.close()
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
	clear(n.index)
	clear(n.names)
	clear(n.kinds)
	byIndex := make(map[int]*Link, len(links))
	out := make([]Link, len(links))
	for i, l := range links {
		out[i] = readLink(l)
		n.index[out[i].Name], n.names[out[i].Index] = out[i].Index, out[i].Name
		byIndex[out[i].Index] = &out[i]
	}
	for _, f := range n.families {
		addrs, err := dump(func() ([]netlink.Addr, error) { return n.handle.AddrList(nil, int(numberOf(f))) })
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if l := byIndex[a.LinkIndex]; l != nil {
				l.Addrs = append(l.Addrs, readAddr(a))
			}
		}
	}
	n.readKinds(links, out)
	return out, nil
}

// readKinds fills in what names others, or is read for devices like ours alone.
func (n *Netlink) readKinds(links []netlink.Link, out []Link) {
	known := kinds()
	for i, l := range links {
		out[i].Master = n.names[l.Attrs().MasterIndex]
		for _, k := range known {
			if k.Type() == out[i].Type {
				out[i].Kind = k.read(l, n.names)
			}
		}
		if out[i].Kind != nil {
			n.kinds[out[i].Name] = out[i].Kind
			out[i].NoChecksumOffload = !n.offload.on(out[i].Name)
		}
	}
}

func readLink(l netlink.Link) Link {
	a := l.Attrs()
	return Link{
		Name: a.Name, Index: a.Index, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0,
		NoCarrier: a.RawFlags&(unix.IFF_UP|unix.IFF_LOWER_UP) == unix.IFF_UP,
		Type:      l.Type(), MAC: toMAC(a.HardwareAddr), Alias: a.Alias,
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

func toMAC(a net.HardwareAddr) (m MAC) {
	copy(m[:], a)
	return m
}

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
