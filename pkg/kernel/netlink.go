package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/udptunnel"
	"flanneld/pkg/wgdevice"
)

// Netlink is the kernel of the network namespace in which it was opened,
// through a few sockets of its own. It is for one goroutine.
type Netlink struct {
	// Store keeps the descriptors of devices of user space for the next start of this program. Nil:
	// nobody does.
	Store udptunnel.Store

	families []inet.Family // that it was opened for
	looks    []inet.Family // those of them that are looked at
	watcher  *Watcher      // nil: there is none
	handle   *netlink.Handle
	index    map[string]int        // interfaces by name, as last listed or made
	names    map[int]string        // the reverse
	kinds    map[string]DeviceKind // of those that have one
	socket   *socket               // for what there are many of
	offload  *offload

	wireguard *wgdevice.Control
	wgRead    map[string][]FoundPeer // by device, as Links has read them and Entries has not told yet
	guarded   map[string]bool        // the WireGuard devices that are ours, as last listed or made
	tunnels   map[string]*tunnel     // of user space, by device
	served    map[string]int         // the indexes of the devices of user space that this process serves
}

var _ Conn = (*Netlink)(nil)

// Open connects to the kernel, to see and write what is of these families. A kernel
// without one of them has nothing of it.
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
		families: families, looks: families, handle: h,
		index: map[string]int{}, names: map[int]string{}, kinds: map[string]DeviceKind{},
		socket: s, offload: o,
		wireguard: wgdevice.New(), wgRead: map[string][]FoundPeer{}, guarded: map[string]bool{},
		tunnels: map[string]*tunnel{}, served: map[string]int{},
	}, nil
}

// Look implements Conn. A Watcher tells of the same families from then on.
func (n *Netlink) Look(families ...inet.Family) []inet.Family {
	looks := slices.DeleteFunc(slices.Clone(n.families), func(f inet.Family) bool {
		return len(families) > 0 && !slices.Contains(families, f)
	})
	if !slices.Equal(looks, n.looks) {
		n.looks = looks
		if n.watcher != nil {
			n.watcher.look(looks)
		}
	}
	return looks
}

// Close ends the connection. What was written stays, but for what this process carries itself:
// its devices wait for the next one to take them up.
func (n *Netlink) Close() {
	for dev := range n.tunnels {
		n.unserve(dev)
	}
	n.wireguard.Close()
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

func toAddr(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}
