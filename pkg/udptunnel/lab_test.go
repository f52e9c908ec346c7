package udptunnel_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"flanneld/internal/lab"
	"flanneld/pkg/udptunnel"
)

const soon = 10 * time.Second

// on calls do on a thread in the node's network namespace. What it opens stays there.
func on(t testing.TB, n *lab.Node, do func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and it ends with the goroutine
		ns, err := netns.GetFromName(n.Netns())
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("on %s: %v", n.Name, err)
	}
}

// end is a host with the device, its addresses and routes, as a daemon makes them.
type end struct {
	*lab.Host
	n      int
	box    *lab.Container
	tunnel *udptunnel.Tunnel
}

// newEnd is host 10.4.7.n with the subnet 172.7.n.0/24.
func newEnd(l *lab.Lab, n int) *end { return newEndAt(l, n, fmt.Sprintf("10.4.7.%d/24", n)) }

func newEndAt(l *lab.Lab, n int, addr string) *end {
	h := l.Host(fmt.Sprintf("hdss7-%d", n), addr).SubnetEnv(fmt.Sprintf("172.7.%d.1/24", n))
	h.Shell("sed -i s/MTU=1500/MTU=1472/ " + h.SubnetFile())
	return &end{Host: h, n: n}
}

// external is where its datagrams come from and go to.
func (e *end) external() netip.AddrPort { return netip.AddrPortFrom(e.IP, 8285) }

// own is the device's address.
func (e *end) own() netip.Addr { return netip.AddrFrom4([4]byte{172, 7, byte(e.n), 0}) }

// open opens its tunnel. There is no table yet.
func (e *end) open(t testing.TB, store udptunnel.Store) {
	t.Helper()
	on(t, e.Node, func() (err error) {
		e.tunnel, err = udptunnel.Open(udptunnel.Options{Name: "flannel0", Local: e.external(), Store: store})
		return err
	})
	tunnel := e.tunnel
	t.Cleanup(func() { _ = tunnel.Close() })
	tunnel.SetSource(e.own())
	e.device()
}

// device sets up what the daemon does by netlink.
func (e *end) device() {
	e.Shell(fmt.Sprintf(`ip link set flannel0 mtu 1472 up
		ip addr replace %v/32 dev flannel0
		ip route replace 172.7.0.0/16 dev flannel0`, e.own()))
}

// routes sets the tunnel's table.
func (e *end) routes(t testing.TB, peers ...*end) {
	t.Helper()
	if err := e.tunnel.Set(routesTo(peers...)); err != nil {
		t.Fatal(err)
	}
}

func routesTo(peers ...*end) (routes []udptunnel.Route) {
	for _, p := range peers {
		routes = append(routes, udptunnel.Route{Dst: netip.PrefixFrom(p.own(), 24), To: p.external()})
	}
	return routes
}

// connect opens both tunnels with routes to each other, and gives each host a container.
func connect(t testing.TB, a, b *end) {
	t.Helper()
	for _, e := range []*end{a, b} {
		e.open(t, nil)
		e.box = e.Container("c")
	}
	a.routes(t, b)
	b.routes(t, a)
	a.box.Reach(b.box, soon)
}

// udp is a socket of a node, connected where to is valid.
func udp(t testing.TB, n *lab.Node, from, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	on(t, n, func() (err error) {
		if to.IsValid() {
			conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		} else {
			conn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(from))
		}
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	return conn
}

// receive is the next datagram.
func receive(t testing.TB, conn *net.UDPConn) ([]byte, netip.AddrPort) {
	t.Helper()
	buffer := make([]byte, 1<<16)
	_ = conn.SetReadDeadline(time.Now().Add(soon))
	n, from, err := conn.ReadFromUDPAddrPort(buffer)
	if err != nil {
		t.Fatal(err)
	}
	return buffer[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

func send(t testing.TB, conn *net.UDPConn, b []byte, to netip.AddrPort) {
	t.Helper()
	var err error
	if to.IsValid() {
		_, err = conn.WriteToUDPAddrPort(b, to)
	} else {
		_, err = conn.Write(b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func addrPort(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// keeper is a Store within this process.
type keeper map[string]*os.File
