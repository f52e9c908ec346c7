package udptunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"flanneld/pkg/tun"
)

const (
	// startsAfter is how long packets wait in the device's queue for the first table.
	startsAfter = 5 * time.Second
	// endsWithin bounds the time for which Close waits for room in the socket's buffer.
	endsWithin = time.Second
)

// Options say what a tunnel is to be.
type Options struct {
	Name  string         // of the TUN device
	Local netip.AddrPort // IPv4: the external address, and the port of all of the cluster's hosts (8285)
	Store Store          // keeps the descriptors for the next start; nil: nobody does
}

func (o Options) warn(what string, err error) {
	if err != nil {
		klog.ErrorS(err, "Cannot "+what, "device", o.Name, "address", o.Local.String())
	}
}

// Tunnel carries packets between a TUN device and peers. Its methods may be called
// from several goroutines.
type Tunnel struct {
	options Options
	adopted bool
	device  *os.File
	socket  *os.File
	icmp    *errorSender
	prober  prober
	routes  atomic.Pointer[table]
	in, out counters

	begin    sync.Once
	begun    chan struct{} // packets of the device are carried
	stop     chan struct{}
	stopping sync.Once
	stopped  error
	running  sync.WaitGroup
	failing  sync.Once
	failed   chan struct{}
	err      error // read after failed was closed
}

// Open attaches to the TUN device of that name, which it makes where it is not there,
// and carries packets from then on: those of peers at once, the device's own from the
// first Set on, or after five seconds, so that what has waited in its queue over a
// restart finds its route. Addresses, routes, MTU and the device's state are the caller's.
//
// The errors say what to do, and wrap those of tun.Open, or EADDRINUSE and
// EADDRNOTAVAIL of the UDP socket.
func Open(o Options) (*Tunnel, error) {
	if !o.Local.Addr().Is4() || o.Local.Port() == 0 {
		return nil, fmt.Errorf("open a UDP tunnel at %v: it takes an IPv4 address and a port", o.Local)
	}
	if o.Store == nil {
		o.Store = none{}
	}
	t := &Tunnel{options: o, begun: make(chan struct{}), stop: make(chan struct{}), failed: make(chan struct{})}
	t.routes.Store(&table{})
	if err := t.open(); err != nil {
		t.closeFiles()
		return nil, fmt.Errorf("open UDP tunnel %s: %w", o.Name, err)
	}
	return t, nil
}

func (t *Tunnel) open() (err error) {
	if t.icmp, err = newErrorSender(); err != nil {
		return err
	}
	if t.prober, err = newProber(t.options.Local.Addr()); err != nil {
		return err
	}
	var known bool
	if t.socket, known, err = openSocket(t.options); err != nil {
		return err
	}
	if t.device, t.adopted, err = openDevice(t.options); err != nil {
		return err
	}
	t.adopted = t.adopted && known
	var f features
	if err = tun.Control(t.socket, func(fd int) (err error) { f, err = prepare(fd); return err }); err != nil {
		return err
	}
	if err = tun.Control(t.device, offload); err != nil {
		return fmt.Errorf("have the kernel hand over large packets of TUN device %s: %w", t.options.Name, err)
	}
	return t.start(f)
}

// start starts the two loops.
func (t *Tunnel) start(f features) error {
	device, err := t.device.SyscallConn()
	if err != nil {
		return err
	}
	socket, err := t.socket.SyscallConn()
	if err != nil {
		return err
	}
	in := newInbound(socket, newWriter(device, &t.in), t.icmp, &t.in)
	out := newOutbound(device, &t.routes, newSender(socket, &t.out, f, t.prober.mtu), t.icmp)
	t.running.Go(func() { t.fail(in.run()) })
	t.running.Go(func() {
		if t.awaitRoutes() {
			t.fail(out.run())
		}
	})
	return nil
}

// offload has the kernel hand over TCP segments and, since Linux 6.2, UDP datagrams by
// the dozen, without their checksums.
func offload(fd int) error {
	const tcp, udp = unix.TUN_F_CSUM | unix.TUN_F_TSO4, unix.TUN_F_USO4 | unix.TUN_F_USO6
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|udp) == nil {
		return nil
	}
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp)
}

// awaitRoutes reports whether there is anything to do before the tunnel is closed.
func (t *Tunnel) awaitRoutes() bool {
	timer := time.NewTimer(startsAfter)
	defer timer.Stop()
	select {
	case <-t.begun:
	case <-timer.C:
	case <-t.stop:
		return false
	}
	return true
}

// Adopted reports whether device and socket are those of an earlier process, with what
// waited in their queues.
func (t *Tunnel) Adopted() bool { return t.adopted }

// Set replaces the table of routes at once. Of several routes for one prefix the last
// counts. A packet goes by the longest prefix.
func (t *Tunnel) Set(routes []Route) error {
	next, err := newTable(routes)
	if err != nil {
		return fmt.Errorf("set the routes of UDP tunnel %s: %w", t.options.Name, err)
	}
	t.routes.Store(next)
	t.begin.Do(func() { close(t.begun) })
	return nil
}

// SetSource sets the address that ICMP errors come from, the device's own. Without it
// the kernel chooses one.
func (t *Tunnel) SetSource(a netip.Addr) { t.icmp.setSource(a) }

// Stats are the counters since Open.
func (t *Tunnel) Stats() Stats { return Stats{Out: t.out.read(), In: t.in.read()} }

// Failed is closed when the tunnel has stopped by itself, as when its device is
// deleted. Err says why. Close it then, and open another one.
func (t *Tunnel) Failed() <-chan struct{} { return t.failed }

// Err is why the tunnel has stopped by itself; nil as long as it has not.
func (t *Tunnel) Err() error {
	select {
	case <-t.failed:
		return t.err
	default:
		return nil
	}
}

func (t *Tunnel) fail(err error) {
	if err != nil {
		t.failing.Do(func() {
			t.err = fmt.Errorf("UDP tunnel %s: %w", t.options.Name, err)
			close(t.failed)
		})
	}
}

// Close stops carrying packets, and returns when that has ended. The device stays,
// without a carrier; where the store keeps the descriptors, with it and its queue.
func (t *Tunnel) Close() error {
	t.stopping.Do(func() {
		close(t.stop)
		now := time.Now() // what was read is carried still
		t.stopped = errors.Join(t.device.SetReadDeadline(now), t.socket.SetReadDeadline(now),
			t.socket.SetWriteDeadline(now.Add(endsWithin)))
		t.running.Wait()
		t.closeFiles()
	})
	return t.stopped
}

func (t *Tunnel) closeFiles() {
	files := []*os.File{t.device, t.socket, t.prober.socket}
	if t.icmp != nil {
		files = append(files, t.icmp.socket)
	}
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}
