package udptunnel_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
	"flanneld/pkg/udptunnel"
)

// packet is an IPv4 packet as a container's kernel makes it, byte by byte.
func packet(id uint16, ttl, protocol byte, from, to netip.Addr, payload []byte) []byte {
	p := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, ttl, protocol, 0, 0}
	p = append(append(p, from.AsSlice()...), to.AsSlice()...)
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(payload)))
	binary.BigEndian.PutUint16(p[4:], id)
	binary.BigEndian.PutUint16(p[10:], checksum(p))
	return append(p, payload...)
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

// datagram is UDP's payload of an IPv4 packet, with its checksum.
func datagram(from, to netip.AddrPort, content []byte) []byte {
	u := make([]byte, 8, 8+len(content))
	binary.BigEndian.PutUint16(u, from.Port())
	binary.BigEndian.PutUint16(u[2:], to.Port())
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(content)))
	u = append(u, content...)
	front := append(append(from.Addr().AsSlice(), to.Addr().AsSlice()...), 0, 17, u[4], u[5])
	binary.BigEndian.PutUint16(u[6:], checksum(append(front, u...)))
	return u
}

// scripted is a host with a tunnel, and one with a plain socket in place of flannel's.
func scripted(t *testing.T) (a *end, peer *net.UDPConn, b *end) {
	l := lab.New(t)
	a, b = newEnd(l, 21), newEnd(l, 22)
	a.open(t, nil)
	a.box = a.Container("c")
	a.routes(t, b)
	return a, udp(t, b.Node, b.external(), netip.AddrPort{}), b
}

// TestOnTheWire: what a peer of flannel's sends arrives, and what it gets is what
// flannel sends: one packet in a datagram, with a time to live that is two less, one by
// the host's kernel and one by the tunnel.
func TestOnTheWire(t *testing.T) {
	a, peer, _ := scripted(t)
	inner := udp(t, a.box.Node, addrPort(a.box.IP, 7), netip.AddrPort{})
	far := netip.MustParseAddrPort("172.7.22.2:9000")
	content := bytes.Repeat([]byte("0123456789"), 144) // of the largest packet that the device takes: 1,468 bytes
	for _, size := range []int{1, 100, 1440} {
		in := packet(5, 64, 17, far.Addr(), a.box.IP, datagram(far, addrPort(a.box.IP, 7), content[:size]))
		send(t, peer, in, a.external())
		if got, from := receive(t, inner); !bytes.Equal(got, content[:size]) || from != far {
			t.Fatalf("the container gets %d bytes from %v: %q", len(got), from, got)
		}
		send(t, inner, content[:size], far)
		got, from := receive(t, peer)
		want := packet(binary.BigEndian.Uint16(got[4:]), 62, 17, a.box.IP, far.Addr(), datagram(addrPort(a.box.IP, 7), far, content[:size]))
		if !bytes.Equal(got, want) || from != a.external() {
			t.Fatalf("the peer gets from %v\n% x, want\n% x", from, got, want)
		}
	}
}

// TestTimeToLiveInwards: the tunnel takes one of what the container sees, its host's
// kernel another one.
func TestTimeToLiveInwards(t *testing.T) {
	a, peer, _ := scripted(t)
	inner := udp(t, a.box.Node, addrPort(a.box.IP, 7), netip.AddrPort{})
	with := ipv4.NewPacketConn(inner)
	if err := with.SetControlMessage(ipv4.FlagTTL, true); err != nil {
		t.Fatal(err)
	}
	far := netip.MustParseAddrPort("172.7.22.2:9000")
	send(t, peer, packet(5, 64, 17, far.Addr(), a.box.IP, datagram(far, addrPort(a.box.IP, 7), []byte("x"))), a.external())
	_ = inner.SetReadDeadline(time.Now().Add(soon))
	if _, control, _, err := with.ReadFrom(make([]byte, 100)); err != nil || control.TTL != 62 {
		t.Errorf("%v, %v", control, err)
	}
}

// TestManyAtOnce: datagrams that a container hands to its kernel as one (as QUIC does)
// arrive as single ones, and all in their order.
func TestManyAtOnce(t *testing.T) {
	a, peer, _ := scripted(t)
	far := netip.MustParseAddrPort("172.7.22.2:9000")
	inner := udp(t, a.box.Node, addrPort(a.box.IP, 7), far)
	raw, err := inner.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000) })
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 40*1000+1)
	for i := range content {
		content[i] = byte(i / 1000)
	}
	send(t, inner, content, netip.AddrPort{})
	for i := range 41 {
		want := content[i*1000 : min(i*1000+1000, len(content))]
		got, _ := receive(t, peer)
		whole := packet(binary.BigEndian.Uint16(got[4:]), 62, 17, a.box.IP, far.Addr(), datagram(addrPort(a.box.IP, 7), far, want))
		whole[6] = 0 // such ones may be fragmented
		binary.BigEndian.PutUint16(whole[10:], 0)
		binary.BigEndian.PutUint16(whole[10:], checksum(whole[:20]))
		if !bytes.Equal(got, whole) {
			t.Fatalf("datagram %d is\n% x, want\n% x", i, got[:60], whole[:60])
		}
	}
}

// TestGarbageIsDropped: what is no packet from one host to another never reaches the
// device, and is counted.
func TestGarbageIsDropped(t *testing.T) {
	a, peer, _ := scripted(t)
	inner := udp(t, a.box.Node, addrPort(a.box.IP, 7), netip.AddrPort{})
	far, near := netip.MustParseAddrPort("172.7.22.2:9000"), addrPort(a.box.IP, 7)
	good := func() []byte {
		return packet(5, 64, 17, far.Addr(), a.box.IP, datagram(far, near, []byte("good")))
	}
	edit := func(at int, b byte) []byte {
		p := good()
		p[at] = b
		return p
	}
	garbage := [][]byte{
		{}, {0x45}, good()[:19], good()[:30], append(good(), 0), edit(0, 0x65), edit(0, 0x44), edit(0, 0x4f), edit(10, 0), edit(3, 20),
		packet(5, 64, 17, netip.MustParseAddr("224.0.0.1"), a.box.IP, datagram(far, near, []byte("bad"))),
		packet(5, 64, 17, far.Addr(), netip.MustParseAddr("255.255.255.255"), datagram(far, near, []byte("bad"))),
		bytes.Repeat([]byte{0xff}, 1400),
	}
	for _, g := range garbage {
		send(t, peer, g, a.external())
	}
	send(t, peer, good(), a.external())
	if got, _ := receive(t, inner); string(got) != "good" {
		t.Errorf("the container gets %q", got)
	}
	counted(t, fmt.Sprintf("%d that were garbage", len(garbage)), func() error {
		if s := a.tunnel.Stats().In; s.Packets != 1 || s.Dropped[udptunnel.Garbage] != uint64(len(garbage)) {
			return fmt.Errorf("%+v", s)
		}
		if n := a.written(); n != 1 {
			return fmt.Errorf("the device has got %d packets", n)
		}
		return nil
	})
}

// hears is the next ICMP message that a node gets, of errors only.
func hears(t testing.TB, conn *icmp.PacketConn) (from string, m *icmp.Message) {
	t.Helper()
	buffer := make([]byte, 2000)
	_ = conn.SetReadDeadline(time.Now().Add(soon))
	n, peer, err := conn.ReadFrom(buffer)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = icmp.ParseMessage(1, buffer[:n]); err != nil {
		t.Fatal(err)
	}
	return peer.String(), m
}

func listenICMP(t testing.TB, n *lab.Node) *icmp.PacketConn {
	t.Helper()
	var conn *icmp.PacketConn
	on(t, n, func() (err error) {
		conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	})
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// TestWhatIsNotCarriedIsSaid, as routers do: where there is no peer, and where the time
// to live ends, at either end.
func TestWhatIsNotCarriedIsSaid(t *testing.T) {
	l := lab.New(t)
	a, b := newEnd(l, 21), newEnd(l, 22)
	connect(t, a, b)
	errors := listenICMP(t, a.box.Node)
	for name, tt := range map[string]struct {
		to   string
		ttl  int
		from string
		kind ipv4.ICMPType
	}{
		"no peer":                  {"172.7.23.2", 64, "172.7.21.0", ipv4.ICMPTypeDestinationUnreachable},
		"ends on the way out":      {"172.7.22.2", 2, "172.7.21.0", ipv4.ICMPTypeTimeExceeded},
		"ends on the way in":       {"172.7.22.2", 3, "172.7.22.0", ipv4.ICMPTypeTimeExceeded},
		"ends at the other kernel": {"172.7.22.2", 4, "172.7.22.0", ipv4.ICMPTypeTimeExceeded},
	} {
		conn := udp(t, a.box.Node, addrPort(a.box.IP, 0), addrPort(netip.MustParseAddr(tt.to), 9))
		if err := ipv4.NewConn(conn).SetTTL(tt.ttl); err != nil {
			t.Fatal(err)
		}
		send(t, conn, []byte("what becomes of it?"), netip.AddrPort{})
		from, m := hears(t, errors)
		if from != tt.from || m.Type != tt.kind || m.Code != 0 {
			t.Errorf("%s: %v (%d) from %s", name, m.Type, m.Code, from)
		}
	}
	counted(t, "one of each that was dropped", func() error {
		out, in := a.tunnel.Stats().Out, b.tunnel.Stats().In
		if out.Dropped[udptunnel.NoRoute] != 1 || out.Dropped[udptunnel.Expired] != 1 || in.Dropped[udptunnel.Expired] != 1 {
			return fmt.Errorf("%+v, %+v", out, in)
		}
		return nil
	})
}

// TestNarrowInterface: the interface takes less than the device's packets need. TCP
// hears of it; what does not hear of it is carried in fragments.
func TestNarrowInterface(t *testing.T) {
	l := lab.New(t)
	a, b := newEnd(l, 21), newEnd(l, 22)
	connect(t, a, b)
	a.Shell("ip link set ens33 mtu 1400")
	whole := udp(t, b.box.Node, addrPort(b.box.IP, 7), netip.AddrPort{})
	conn := udp(t, a.box.Node, addrPort(a.box.IP, 0), addrPort(b.box.IP, 7))
	send(t, conn, make([]byte, 1440), netip.AddrPort{})
	if got, _ := receive(t, whole); len(got) != 1440 {
		t.Errorf("%d bytes arrive", len(got))
	}
	transfer(t, a.box, b.box, 2<<20)
	if route := a.box.Run("ip", "route", "get", b.box.IP.String()); !strings.Contains(route, "mtu 1372") {
		t.Errorf("the container has not heard that the path is narrow:\n%s", route)
	}
}

// TestNarrowPath: a router on the path takes less, and its errors do not arrive. As
// datagrams may be fragmented, it carries them nevertheless.
func TestNarrowPath(t *testing.T) {
	l := lab.New(t)
	router := l.Router("router", "10.4.7.254/24", "10.4.8.254/24")
	router.Shell("ip link set ens34 mtu 1400; iptables -A OUTPUT -p icmp -j DROP")
	a, b := newEndAt(l, 21, "10.4.7.21/24"), newEndAt(l, 22, "10.4.8.22/24")
	connect(t, a, b)
	whole := udp(t, b.box.Node, addrPort(b.box.IP, 7), netip.AddrPort{})
	conn := udp(t, a.box.Node, addrPort(a.box.IP, 0), addrPort(b.box.IP, 7))
	send(t, conn, make([]byte, 1440), netip.AddrPort{})
	if got, _ := receive(t, whole); len(got) != 1440 {
		t.Errorf("%d bytes arrive", len(got))
	}
	transfer(t, a.box, b.box, 1<<20)
}

// transfer sends so many bytes by TCP, and compares what arrives.
func transfer(t testing.TB, from, to *lab.Container, size int) {
	t.Helper()
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var listener net.Listener
	on(t, to.Node, func() (err error) {
		listener, err = net.Listen("tcp4", addrPort(to.IP, 0).String())
		return err
	})
	defer listener.Close()
	got := make(chan []byte, 1)
	go func() {
		var all bytes.Buffer
		if conn, err := listener.Accept(); err == nil {
			_ = conn.SetDeadline(time.Now().Add(2 * soon))
			_, _ = all.ReadFrom(conn)
			_ = conn.Close()
		}
		got <- all.Bytes()
	}()
	on(t, from.Node, func() error {
		conn, err := net.Dial("tcp4", listener.Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * soon))
		_, err = conn.Write(content)
		return err
	})
	if all := <-got; !bytes.Equal(all, content) {
		t.Errorf("%d bytes of %d arrive, or others", len(all), len(content))
	}
}

// TestTransfers by TCP arrive as they were sent, and in few packets of many segments.
func TestTransfers(t *testing.T) {
	l := lab.New(t)
	a, b := newEnd(l, 21), newEnd(l, 22)
	connect(t, a, b)
	transfer(t, a.box, b.box, 20<<20)
	counted(t, "as much to arrive as was sent", func() error {
		out, in := a.tunnel.Stats().Out, b.tunnel.Stats().In
		if out.Packets != in.Packets || out.Bytes != in.Bytes {
			return fmt.Errorf("%+v, but %+v", out, in)
		}
		if n := b.written(); n > in.Packets/4 {
			return fmt.Errorf("%d segments were written in %d packets", in.Packets, n)
		}
		return nil
	})
}

// counted waits for counters: a packet is counted once it was handed on, so who gets
// it may look before that.
func counted(t *testing.T, what string, check func() error) {
	t.Helper()
	lab.Eventually(t, soon, what, check)
}

// written is the number of packets that the device was given.
func (e *end) written() (n uint64) {
	_, _ = fmt.Sscan(e.Shell("ip -s link show flannel0 | awk '/RX:/ { getline; print $2 }'"), &n)
	return n
}
