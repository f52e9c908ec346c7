package nftables

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// wire is this namespace as a router: "left" leads to senders and "right" to
// receivers.
type wire struct {
	t        testing.TB
	receiver map[inet.Family]*net.UDPConn
	left     netns.NsHandle
	port     int // of the next sender
}

// receiverPort is the port that rules and packets use. All packets arrive at one
// receiver.
const receiverPort = 50

func shell(t testing.TB, script string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, script)
	}
	return string(out)
}

func newWire(t testing.TB) *wire {
	t.Helper()
	emptyRuleset(t)
	shell(t, `ip netns add senders; ip netns add receivers
		ip link add left address 02:00:00:00:00:01 type veth peer name peer netns senders; ip link add right type veth peer name peer address 02:00:00:00:00:02 netns receivers
		ip addr add 10.1.0.1/24 dev left; ip addr add 10.2.0.1/24 dev right; ip link set left up; ip link set right up; ip link set lo up
		sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.left.rp_filter=0 net.ipv4.conf.right.rp_filter=0
		ip -n senders link set peer up; ip -n receivers link set peer up; ip -n receivers link set lo up
		for i in 2 3 4 5; do ip -n senders addr add 10.1.0.$i/24 dev peer; ip -n receivers addr add 10.2.0.$i/24 dev peer; done
		ip -n senders route add default via 10.1.0.1; ip -n receivers route add default via 10.2.0.1
		ip -n senders neigh add 10.1.0.1 lladdr 02:00:00:00:00:01 dev peer nud permanent
		for i in 2 3 4 5; do ip neigh add 10.2.0.$i lladdr 02:00:00:00:00:02 dev right nud permanent; done
		ip addr add fc00:a:1::1/64 dev left nodad; ip addr add fc00:a:2::1/64 dev right nodad; sysctl -qw net.ipv6.conf.all.forwarding=1
		for i in 2 3 4 5; do ip -n senders addr add fc00:a:1::$i/64 dev peer nodad; ip -n receivers addr add fc00:a:2::$i/64 dev peer nodad; done
		ip -n senders route add default via fc00:a:1::1; ip -n receivers route add default via fc00:a:2::1
		ip -n senders neigh add fc00:a:1::1 lladdr 02:00:00:00:00:01 dev peer nud permanent
		for i in 2 3 4 5; do ip neigh add fc00:a:2::$i lladdr 02:00:00:00:00:02 dev right nud permanent; done`)
	t.Cleanup(func() { shell(t, "ip link del left; ip link del right; ip netns del senders; ip netns del receivers") })
	w := &wire{t: t, port: 10_000, receiver: map[inet.Family]*net.UDPConn{}}
	// The next packets' connections must be new.
	err := netlink.ConntrackTableFlush(netlink.ConntrackTable) // of both families
	if err != nil {
		t.Fatal(err)
	}
	if w.left, err = netns.GetFromName("senders"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.left.Close() })
	right, err := netns.GetFromName("receivers")
	if err != nil {
		t.Fatal(err)
	}
	defer right.Close()
	for f, of := range map[inet.Family]struct{ program, network string }{inet.IPv4: {"iptables", "udp4"}, inet.IPv6: {"ip6tables", "udp6"}} {
		// Rules of the receivers' own give it what is for the other ports.
		shell(t, fmt.Sprintf("ip netns exec receivers %s-legacy -t nat -A PREROUTING -p udp -j REDIRECT --to-ports %d", of.program, receiverPort))
		inside(t, right, func() { w.receiver[f], err = net.ListenUDP(of.network, &net.UDPAddr{Port: receiverPort}) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.receiver[f].Close() })
	}
	return w
}

// inside runs f on a thread in a namespace.
func inside(t testing.TB, ns netns.NsHandle, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		t.Fatal(err)
	}
	f()
	if err := netns.Set(home); err != nil {
		panic(err)
	}
}

// send sends one packet of a new connection, with its number as payload.
func (w *wire) send(t testing.TB, from, to netip.Addr, port int) (number int) {
	t.Helper()
	w.port = 10_000 + (w.port-10_000+1)%50_000
	inside(t, w.left, func() {
		domain, address := unix.AF_INET, func(a netip.Addr, port int) unix.Sockaddr { return &unix.SockaddrInet4{Addr: a.As4(), Port: port} }
		if from.Is6() {
			domain, address = unix.AF_INET6, func(a netip.Addr, port int) unix.Sockaddr { return &unix.SockaddrInet6{Addr: a.As16(), Port: port} }
		}
		fd, err := unix.Socket(domain, unix.SOCK_DGRAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, address(from, w.port)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(fd, fmt.Appendf(nil, "%d", w.port), 0, address(to, port)); err != nil {
			t.Fatal(err)
		}
	})
	return w.port
}

// receive waits for packets of a family until as many have come as are expected, and a
// little for more. It returns from whom each came, by its number.
func (w *wire) receive(t testing.TB, f inet.Family, expected int) map[int]netip.Addr {
	t.Helper()
	out, receiver := map[int]netip.Addr{}, w.receiver[f]
	buffer := make([]byte, 100)
	for {
		wait := 2 * time.Second
		if len(out) >= expected {
			wait = 3 * time.Millisecond
		}
		if err := receiver.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, from, err := receiver.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return out
		}
		number := 0
		if _, err := fmt.Sscan(string(buffer[:n]), &number); err != nil {
			t.Fatal(err)
		}
		out[number] = from.Addr().Unmap()
	}
}
