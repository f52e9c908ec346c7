package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a named network namespace, as `ip netns add` makes it, and a
// netlink socket in it.
type namespace struct {
	name string
	fd   netns.NsHandle
	nl   *netlink.Handle
	ipv6 bool // its interfaces have addresses of it
}

// newNamespace makes a namespace called name, or name-2, name-3… where another
// lab of this process has that name.
func newNamespace(name string) (*namespace, error) {
	n := &namespace{name: name}
	err := onThread(func() (err error) {
		for i := 2; ; i++ {
			n.fd, err = netns.NewNamed(n.name)
			if !errors.Is(err, fs.ErrExist) {
				return err
			}
			n.name = fmt.Sprintf("%s-%d", name, i)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("add network namespace %s: %w", n.name, err)
	}
	if n.nl, err = netlink.NewHandleAt(n.fd, unix.NETLINK_ROUTE); err != nil {
		n.delete()
		return nil, fmt.Errorf("open netlink in %s: %w", n.name, err)
	}
	return n, n.setUp("lo")
}

// delete takes the name away. The namespace itself goes with its last process
// and socket.
func (n *namespace) delete() error {
	if n.nl != nil {
		n.nl.Close()
	}
	return errors.Join(n.fd.Close(), netns.DeleteNamed(n.name))
}

// do runs f on a thread that is in the namespace: sockets that f opens and
// processes that it starts belong there for good.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.fd); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", n.name, err)
		}
		return f()
	})
}

// onThread runs f on a thread of its own and puts that thread's namespace back
// afterwards.
func onThread(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	defer func() {
		// A thread that cannot return stays locked, and ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// sysctl writes one setting: sysctl("net/ipv4/ip_forward", "1").
func (n *namespace) sysctl(key, value string) error {
	return n.do(func() error { return os.WriteFile("/proc/sys/"+key, []byte(value), 0) })
}

// enableIPv6 is called before the namespace gets an interface: what comes from then on
// does not search for duplicates of its addresses, which takes a second each.
func (n *namespace) enableIPv6() error {
	n.ipv6 = true
	return n.sysctl("net/ipv6/conf/default/accept_dad", "0")
}

// awaitLinkLocal waits for a link's own IPv6 address, which the kernel adds a little
// later than the carrier: without it, the kernel asks for no neighbour on behalf of
// packets that it forwards.
func (n *namespace) awaitLinkLocal(link string) error {
	if !n.ipv6 {
		return nil
	}
	for end := time.Now().Add(waitTimeout); ; time.Sleep(200 * time.Microsecond) {
		all, err := n.nl.AddrList(named(link), netlink.FAMILY_V6)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
		for _, a := range all {
			if a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE == 0 {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s has no link-local address after %v", link, waitTimeout)
		}
	}
}

func (n *namespace) setUp(link string) error   { return n.nl.LinkSetUp(named(link)) }
func (n *namespace) setDown(link string) error { return n.nl.LinkSetDown(named(link)) }

// named stands for an existing link in calls that look it up by name.
func named(link string) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: link}}
}

// addBridge adds a bridge that is up and returns its index.
func (n *namespace) addBridge(name string, mtu int) (int, error) {
	bridge := &netlink.Bridge{LinkAttrs: upLink(name, mtu)}
	if err := n.nl.LinkAdd(bridge); err != nil {
		return 0, fmt.Errorf("add bridge %s in %s: %w", name, n.name, err)
	}
	return bridge.Index, nil
}

// plug lays a cable: from port, on the bridge with the given index in n, to nic
// in another namespace. Both ends are up.
func (n *namespace) plug(port string, bridge, mtu int, to *namespace, nic string) error {
	cable := &netlink.Veth{LinkAttrs: upLink(port, mtu), PeerName: nic, PeerNamespace: netlink.NsFd(to.fd)}
	cable.MasterIndex = bridge
	err := n.nl.LinkAdd(cable)
	if err == nil {
		err = to.setUp(nic)
	}
	if err == nil {
		err = n.awaitCarrier(port)
	}
	if err == nil {
		err = to.awaitLinkLocal(nic)
	}
	if err != nil {
		return fmt.Errorf("connect %s in %s to %s in %s: %w", nic, to.name, port, n.name, err)
	}
	return nil
}

// awaitCarrier waits until the kernel has noticed that both ends are up, which
// it does a little later: until then the bridge drops what comes, and a lost ARP
// request costs its sender a second.
func (n *namespace) awaitCarrier(port string) error {
	for end := time.Now().Add(waitTimeout); ; time.Sleep(200 * time.Microsecond) {
		link, err := n.nl.LinkByName(port)
		if err != nil || link.Attrs().OperState == netlink.OperUp {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the link is %v after %v", link.Attrs().OperState, waitTimeout)
		}
	}
}

func upLink(name string, mtu int) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Flags = name, mtu, net.FlagUp
	return attrs
}
