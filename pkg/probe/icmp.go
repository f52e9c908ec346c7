// Package probe sends packets that ask for an answer.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// wire is how a family sends packets that ask for an answer.
type wire struct {
	network     string // as net.ListenPacket has it
	filter      string // the program that forbids packets
	protocol    int    // of ICMP (IANA)
	echo, reply icmp.Type
	headers     int // of IP and ICMP, in bytes
	level       int // of these options of a socket:
	whole, hops int // never cut into pieces; how many routers may pass it on
	original    func(packet []byte) (dst net.IP, icmp []byte)
	refusals    map[icmp.Type]map[int]Refusal // by their codes
}

// Small is the size of a packet as ping sends them, in bytes.
const Small = 84

const protocolOfIPv6 = 58 // of ICMP (IANA)

// anyCode stands for all codes of a type.
const anyCode = -1

// wires are those of RFC 792 and RFC 1812 section 5.2.7.1, and of RFC 4443. Of IPv6's
// packets the kernel computes the checksum, which is over the addresses as well, and
// verifies it (RFC 3542 section 3.1).
var wires = map[inet.Family]wire{
	inet.IPv4: {
		network: "ip4:icmp", filter: "iptables", protocol: 1, echo: ipv4.ICMPTypeEcho, reply: ipv4.ICMPTypeEchoReply, headers: 20 + 8,
		level: unix.IPPROTO_IP, whole: unix.IP_MTU_DISCOVER, hops: unix.IP_TTL, original: originalOfIPv4,
		refusals: map[icmp.Type]map[int]Refusal{
			ipv4.ICMPTypeTimeExceeded: {anyCode: Expired},
			ipv4.ICMPTypeDestinationUnreachable: {
				4: TooLong, 9: Forbidden, 10: Forbidden, 13: Forbidden, 0: NoNetwork, 6: NoNetwork, 11: NoNetwork,
				1: NoHost, 7: NoHost, 12: NoHost, 3: NoPort,
			},
		},
	},
	inet.IPv6: {
		network: "ip6:ipv6-icmp", filter: "ip6tables", protocol: protocolOfIPv6,
		echo: ipv6.ICMPTypeEchoRequest, reply: ipv6.ICMPTypeEchoReply, headers: ipv6.HeaderLen + 8,
		level: unix.IPPROTO_IPV6, whole: unix.IPV6_MTU_DISCOVER, hops: unix.IPV6_UNICAST_HOPS, original: originalOfIPv6,
		refusals: map[icmp.Type]map[int]Refusal{
			ipv6.ICMPTypeTimeExceeded: {anyCode: Expired},
			ipv6.ICMPTypePacketTooBig: {anyCode: TooLong},
			ipv6.ICMPTypeDestinationUnreachable: {
				0: NoNetwork, 6: NoNetwork, 1: Forbidden, 5: Forbidden, 2: NoHost, 3: NoHost, 4: NoPort,
			},
		},
	},
}

// Answer is what comes back of a packet.
type Answer struct {
	Answered bool       // anything at all
	From     netip.Addr // who says it
	Echo     bool       // by the target itself; else Text is what was sent instead
	Refusal  Refusal    // what Text means, where a router or a host has said it
	Text     string
}

// Refusal is why a packet did not arrive.
type Refusal string

// The refusals of ICMP; see wires.
const (
	Expired   Refusal = "it went in a circle"
	TooLong   Refusal = "it is longer than a packet on this path may be"
	Forbidden Refusal = "a firewall forbids it"
	NoNetwork Refusal = "there is no route to that network"
	NoHost    Refusal = "there is no such host"
	NoPort    Refusal = "there is no such port"
)

// Network sends packets that ask for an answer.
type Network interface {
	// Ping sends one of size bytes, headers included, that must not be cut
	// into pieces on its way.
	Ping(src, dst netip.Addr, size int, wait time.Duration) (Answer, error)
	// Step sends a small one that the router behind so many others drops and answers.
	Step(src, dst netip.Addr, hops int, wait time.Duration) (Answer, error)
	// Connect begins a TCP connection, which may be refused.
	Connect(src, dst netip.Addr, wait time.Duration) (Answer, error)
	// ProbeUDP sends a datagram to a UDP port. A tunnel does not answer, only one
	// that is not there.
	ProbeUDP(src netip.Addr, to netip.AddrPort, wait time.Duration) (Answer, error)
}

// Host is the network of this host.
type Host struct{}

var _ Network = Host{}

// Ping implements Network by a raw socket, which needs CAP_NET_RAW.
func (Host) Ping(src, dst netip.Addr, size int, wait time.Duration) (Answer, error) {
	return ping(src, dst, size, 0, wait)
}

// Step implements Network. A router that a packet ends at by its TTL says so
// before its firewall sees the packet.
func (Host) Step(src, dst netip.Addr, hops int, wait time.Duration) (Answer, error) {
	return ping(src, dst, Small, hops+1, wait)
}

// ping sends a packet that at most ttl routers pass on; 0: as many as usual.
func ping(src, dst netip.Addr, size, ttl int, wait time.Duration) (Answer, error) {
	w := wires[inet.Of(dst)]
	conn, err := w.listen(src, ttl)
	if err != nil {
		return Answer{}, fmt.Errorf("open a raw socket at %v: %w", src, err)
	}
	defer conn.Close()
	id := os.Getpid() & 0xffff
	seq := int(time.Now().UnixNano()) & 0xffff
	packet, err := w.packet(size, id, seq)
	if err != nil {
		return Answer{}, err
	}
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return Answer{}, err
	}
	if _, err := conn.WriteTo(packet, &net.IPAddr{IP: dst.AsSlice()}); err != nil {
		return w.unsent(err), nil
	}
	return await(conn, dst, id, seq)
}

// packet is an echo request of size bytes, the headers included.
func (w wire) packet(size, id, seq int) ([]byte, error) {
	echo := icmp.Echo{ID: id, Seq: seq, Data: make([]byte, max(0, size-w.headers))}
	message := icmp.Message{Type: w.echo, Body: &echo}
	return message.Marshal(nil)
}

// unsent is the answer of this host where a packet does not leave it.
func (w wire) unsent(err error) Answer {
	switch {
	case errors.Is(err, unix.EMSGSIZE):
		return Answer{Refusal: TooLong, Text: string(TooLong)}
	case errors.Is(err, unix.EPERM):
		return Answer{Text: w.filter + " of this host drops it"}
	}
	return Answer{Text: err.Error()}
}

// setTTL sets how many hosts may have the packets that a socket sends; 0: as many as usual.
func (w wire) setTTL(socket, ttl int) error {
	if ttl == 0 {
		ttl = -1 // what the host's setting says
	}
	return unix.SetsockoptInt(socket, w.level, w.hops, ttl)
}

func (w wire) listen(src netip.Addr, ttl int) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), w.level, w.whole, unix.IP_PMTUDISC_DO)
			if ttl > 0 {
				failed = errors.Join(failed, w.setTTL(int(fd), ttl))
			}
		})
		return errors.Join(err, failed)
	}}
	return config.ListenPacket(context.Background(), w.network, src.String())
}

// await reads what comes until it is the answer to our packet.
func await(conn net.PacketConn, dst netip.Addr, id, seq int) (Answer, error) {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return Answer{}, nil
		}
		if err != nil {
			return Answer{}, fmt.Errorf("read answers from %v: %w", dst, err)
		}
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if a, ours := answer(buffer[:n], addr.Unmap(), dst, id, seq); ours {
			return a, nil
		}
	}
}

// answer reads an ICMP message of dst's family.
func answer(packet []byte, from, dst netip.Addr, id, seq int) (Answer, bool) {
	m, ok := wires[inet.Of(dst)].read(packet, from)
	return m.Answer, ok && m.isTo(dst, id, seq)
}

// message is what ICMP says of an echo request.
type message struct {
	Answer
	id, seq int
	about   net.IP // whom the request was sent to; nil: a reply does not say
}

// isTo reports whether it is about a request to dst. Who gets one may guess the numbers of
// others: an echo must be from whom it was asked of.
func (m message) isTo(dst netip.Addr, id, seq int) bool {
	if m.id != id || m.seq != seq {
		return false
	}
	if m.about == nil {
		return m.From == dst || anycast(dst)
	}
	return m.about.Equal(net.IP(dst.AsSlice()))
}

// anycast reports whether an address may be the one of all routers of a subnet, who answer from
// addresses of their own (RFC 4291, section 2.6.1). A subnet of /127 has none (RFC 6164).
func anycast(a netip.Addr) bool { return a.Is6() && a.As16()[15]&3 == 0 }

// read reads what is about an echo request, whoever's.
func (w wire) read(packet []byte, from netip.Addr) (message, bool) {
	m, err := icmp.ParseMessage(w.protocol, packet)
	if err != nil {
		return message{}, false
	}
	var original []byte
	switch body := m.Body.(type) {
	case *icmp.Echo:
		return message{Answer: Answer{Answered: true, Echo: true, From: from}, id: body.ID, seq: body.Seq}, m.Type == w.reply
	case *icmp.DstUnreach:
		original = body.Data
	case *icmp.TimeExceeded:
		original = body.Data
	case *icmp.PacketTooBig:
		original = body.Data
	default:
		return message{}, false
	}
	to, echo := w.original(original)
	if len(echo) < 8 || to == nil {
		return message{}, false
	}
	a := Answer{Answered: true, From: from, Refusal: w.refusal(m)}
	if a.Text = string(a.Refusal); a.Text == "" {
		a.Text = fmt.Sprintf("it cannot be delivered (code %d)", m.Code)
	}
	return message{Answer: a, id: int(echo[4])<<8 | int(echo[5]), seq: int(echo[6])<<8 | int(echo[7]), about: to}, true
}

func originalOfIPv4(packet []byte) (dst net.IP, icmp []byte) {
	h, err := ipv4.ParseHeader(packet)
	if err != nil || len(packet) < h.Len {
		return nil, nil
	}
	return h.Dst, packet[h.Len:]
}

func originalOfIPv6(packet []byte) (dst net.IP, icmp []byte) {
	h, err := ipv6.ParseHeader(packet)
	if err != nil || h.NextHeader != protocolOfIPv6 { // ours have no others in between
		return nil, nil
	}
	return h.Dst, packet[ipv6.HeaderLen:]
}

func (w wire) refusal(m *icmp.Message) Refusal {
	of := w.refusals[m.Type]
	if r, all := of[anyCode]; all {
		return r
	}
	return of[m.Code]
}
