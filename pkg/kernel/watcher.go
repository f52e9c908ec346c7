package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/inet"
)

// Watcher notices that somebody changed the kernel's state. It only says so:
// what changed, the next pass finds out by itself.
type Watcher struct {
	socket  *os.File
	changed chan struct{} // one slot
	routing atomic.Uint64

	mu      sync.Mutex
	ended   bool
	looks   []inet.Family
	addrs   map[addrKey]Addr // as announced last
	devices map[string]bool  // our devices
	links   map[string]bool  // the interfaces whose changes matter; nil: all
	names   map[int]string   // interfaces by index, as announced
	deaf    []int            // those of whose neighbours nothing is heard; see leaveOut
	port    uint32           // of the socket of which nothing is heard
}

// receiveBuffer holds the events of some 20,000 routes that change at once.
const receiveBuffer = 8 << 20 // bytes

// largestMessage is what the kernel gives to a message of an interface at most.
const largestMessage = 32 << 10 // bytes

// Watch subscribes to the changes of this network namespace; nothing that
// happens from now on is missed. The routes and neighbours that n writes are no
// news: after a pass nothing that it wrote needs another look, which would double
// the work of each change. (Of forwarding entries, and of neighbours that go, the
// kernel does not tell by whose request.)
func (n *Netlink) Watch() (*Watcher, error) {
	socket, err := subscribe(n.socket.port, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_NEXTHOP)
	if err != nil {
		return nil, fmt.Errorf("subscribe to changes of the kernel's network state: %w", err)
	}
	w := &Watcher{
		socket: socket, changed: make(chan struct{}, 1), names: map[int]string{}, addrs: map[addrKey]Addr{},
		port: n.socket.port,
	}
	w.look(n.looks)
	n.watcher = w
	links, err := n.Links()
	if err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		w.names[l.Index] = l.Name
	}
	return w, nil
}

// groups are those of the messages that tell of a family's changes alone.
func groups(f inet.Family) []int {
	if f == inet.IPv4 {
		return []int{unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE}
	}
	return []int{unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE}
}

// look has the kernel tell of these families, and of no other: each container that comes
// gives a host with IPv6 a handful of changes.
func (w *Watcher) look(families []inet.Family) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looks = families; w.ended {
		return
	}
	clear(w.addrs) // of a family that is left nothing more is heard
	raw, err := w.socket.SyscallConn()
	if err == nil {
		failed := raw.Control(func(fd uintptr) {
			for _, f := range inet.Families() {
				option := unix.NETLINK_DROP_MEMBERSHIP
				if slices.Contains(families, f) {
					option = unix.NETLINK_ADD_MEMBERSHIP
				}
				for _, g := range groups(f) {
					err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, g))
				}
			}
		})
		err = errors.Join(err, failed)
	}
	if err != nil {
		klog.ErrorS(err, "Could not choose which changes of the kernel to hear of")
	}
}

// looksAt tells a family of the kernel's numbers that is looked at, or none of either.
func (w *Watcher) looksAt(number uint8) bool {
	f, is := familyOf(number)
	return !is || slices.Contains(w.looks, f)
}

// subscribe opens a socket that gets one message for each change, but for what the
// kernel says to be the work of the socket with a port.
func subscribe(ours uint32, groups ...uint) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	// Forcing goes beyond net.core.rmem_max; a user namespace may not.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	leaveOut(fd, ours, nil)
	address := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	for _, g := range groups {
		address.Groups |= 1 << (g - 1)
	}
	if err := unix.Bind(fd, address); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// Changed signals that something changed; a burst of changes is one signal.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Routing counts the changes after which a peer may be reached another way
// than before: of interfaces, addresses and routes that are not ours.
func (w *Watcher) Routing() uint64 { return w.routing.Load() }

// Filter says what matters: our devices, and the interfaces beside them. No
// links: all.
func (w *Watcher) Filter(devices, links []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.devices, w.links = toSet(devices), nil
	if len(links) > 0 {
		w.links = toSet(append(links, devices...))
	}
	w.deafen()
}

func toSet(names []string) map[string]bool {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return set
}

func (w *Watcher) String() string { return "kernel watcher" }

// Run listens until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	end := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
		_ = w.socket.Close()
	}
	defer context.AfterFunc(ctx, end)()
	defer end()
	buffer := make([]byte, largestMessage)
	for {
		n, err := w.socket.Read(buffer)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			klog.InfoS("The kernel changed faster than its changes could be received: everything is compared")
			w.mu.Lock()
			clear(w.addrs)
			w.mu.Unlock()
			w.mark(true)
			continue
		case err != nil:
			return fmt.Errorf("receive changes of the kernel's network state: %w", err)
		case n == len(buffer):
			w.mark(true) // cut short: the rest can mean anything
		}
		for h, body := range messages(buffer[:n]) {
			w.receive(h, body)
		}
	}
}

// receive looks at a message and signals what matters.
func (w *Watcher) receive(h unix.NlMsghdr, body []byte) {
	is, dev := w.judge(h, body)
	if is != irrelevant {
		w.mark(is == ofRouting)
	}
	level := klog.V(4)
	if is != irrelevant {
		level = klog.V(2)
	}
	if level.Enabled() {
		level.InfoS("The kernel announced a change", "of", messageName(h.Type), "dev", dev, "matters", is != irrelevant)
	}
}

func (w *Watcher) mark(routing bool) {
	if routing {
		w.routing.Add(1)
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
