package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
)

// newPacket is an IPv4 packet with a UDP datagram without a checksum, written by hand (RFC 791, RFC 768).
func newPacket(from, to string, ttl byte, payload string) []byte {
	p := make([]byte, 28, 28+len(payload))
	p[0], p[8], p[9] = 0x45, ttl, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(payload)))
	binary.BigEndian.PutUint16(p[4:], 0x1234)
	source, target := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(p[12:], source[:])
	copy(p[16:], target[:])
	binary.BigEndian.PutUint16(p[20:], 4000)
	binary.BigEndian.PutUint16(p[22:], 4001)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	return sealed(append(p, payload...))
}

// hops is the packet once so many routers have passed it on.
func hops(p []byte, n byte) []byte {
	p = bytes.Clone(p)
	p[8] -= n
	return sealed(p)
}

// sealed has the header's checksum right (RFC 1071).
func sealed(p []byte) []byte {
	p[10], p[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(p[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(p[10:], ^uint16(sum))
	return p
}

// rawSocket sends whole IPv4 packets from a node, and takes in those of a protocol.
type rawSocket struct {
	t  *testing.T
	fd int
}

func newRawSocket(t *testing.T, n *lab.Node, protocol int) *rawSocket {
	t.Helper()
	s := &rawSocket{t: t}
	if err := n.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	second := unix.NsecToTimeval(int64(time.Second))
	for _, err := range []error{unix.SetsockoptInt(s.fd, unix.IPPROTO_IP, unix.IP_HDRINCL, 1), unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *rawSocket) send(p []byte) {
	s.t.Helper()
	if err := unix.Sendto(s.fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}); err != nil {
		s.t.Fatal(err)
	}
}

// await waits for a packet that passes, while again is done every second.
func (s *rawSocket) await(what string, again func(), passes func(p []byte) bool) []byte {
	s.t.Helper()
	buffer := make([]byte, 1<<16)
	for end := time.Now().Add(soon); time.Now().Before(end); {
		again()
		for {
			n, _, err := unix.Recvfrom(s.fd, buffer, 0)
			if err == unix.EAGAIN {
				break
			}
			if err != nil && err != unix.EINTR {
				s.t.Fatal(err)
			}
			if err == nil && passes(buffer[:n]) {
				return bytes.Clone(buffer[:n])
			}
		}
	}
	s.t.Fatalf("waited %v for %s", soon, what)
	return nil
}

// crosses sends a packet from one container to another, and compares what comes there.
func crosses(t *testing.T, from, to *lab.Container, routers byte, size int) {
	t.Helper()
	packet := newPacket(from.IP.String(), to.IP.String(), 64, string(bytes.Repeat([]byte{'x'}, size-28)))
	out, in := newRawSocket(t, from.Node, unix.IPPROTO_RAW), newRawSocket(t, to.Node, unix.IPPROTO_UDP)
	got := in.await(fmt.Sprintf("%d bytes from %s at %s", size, from, to), func() { out.send(packet) }, func(p []byte) bool { return p[9] == unix.IPPROTO_UDP })
	if want := hops(packet, routers); !bytes.Equal(got, want) {
		t.Errorf("from %s at %s came\n%x, want\n%x", from, to, got, want)
	}
}

// unreachable sends to a subnet that nobody has: the host says so (RFC 792, type 3, code 0).
func unreachable(t *testing.T, box *lab.Container, source string) {
	t.Helper()
	packet := newPacket(box.IP.String(), "172.7.99.2", 64, "is anybody there?")
	out, in := newRawSocket(t, box.Node, unix.IPPROTO_RAW), newRawSocket(t, box.Node, unix.IPPROTO_ICMP)
	got := in.await("an answer for a subnet that nobody has", func() { out.send(packet) }, func(p []byte) bool {
		const header, quoted = 20, 28
		return p[header] == 3 && bytes.Contains(p[quoted:], packet[16:20]) // not a late one for an earlier packet
	})
	if from := netip.AddrFrom4([4]byte(got[12:16])).String(); from != source || got[21] != 0 {
		t.Errorf("the answer comes from %s, want %s: %x", from, source, got)
	}
}

// carries moves some megabytes by TCP, and compares them.
func carries(t *testing.T, from, to *lab.Container) {
	t.Helper()
	content := make([]byte, 4<<20)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	listener := to.Listen("tcp", net.JoinHostPort(to.IP.String(), "5000"))
	defer listener.Close()
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		c, err := from.Dial(t.Context(), "tcp", listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := c.Write(content); err != nil {
			t.Error(err)
		}
	})
	c, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(soon))
	var got bytes.Buffer
	if _, err := got.ReadFrom(c); err != nil || !bytes.Equal(got.Bytes(), content) {
		t.Errorf("from %s to %s: %d bytes of %d came, or others; %v", from, to, got.Len(), len(content), err)
	}
}

// sniffer sees all frames of a card.
type sniffer struct {
	pattern []byte
	frames  atomic.Int64
	hits    atomic.Int64
	dropped func() uint32 // since the last call
}

// sniff counts the frames on a host's card, and those that have a text in them.
func sniff(t *testing.T, n *lab.Node, card, pattern string) *sniffer {
	t.Helper()
	s := &sniffer{pattern: []byte(pattern)}
	var fd int
	err := n.Do(func() (err error) {
		link, err := net.InterfaceByName(card)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xffff, Ifindex: link.Index})
	})
	if err != nil {
		t.Fatalf("sniff on %s: %v", n, err)
	}
	socket := os.NewFile(uintptr(fd), "sniffer")
	s.dropped = func() uint32 {
		var stats *unix.TpacketStats
		raw, err := socket.SyscallConn()
		if err == nil {
			_ = raw.Control(func(fd uintptr) {
				stats, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
			})
		}
		if err != nil {
			t.Error(err)
			return 0
		}
		return stats.Drops
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		frame := make([]byte, 1<<16)
		for {
			n, err := socket.Read(frame)
			if err != nil {
				return
			}
			s.frames.Add(1)
			if bytes.Contains(frame[:n], s.pattern) {
				s.hits.Add(1)
			}
		}
	})
	t.Cleanup(func() { socket.Close(); reading.Wait() })
	return s
}
