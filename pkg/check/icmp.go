package check

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
	"golang.org/x/sys/unix"
)

// headers are those of IPv4 and ICMP, in bytes.
const headers = 20 + 8

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

// The refusals of ICMP (RFC 792, RFC 1812 section 5.2.7.1).
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
	return ping(src, dst, small, hops+1, wait)
}

// ping sends a packet that at most ttl routers pass on; 0: as many as usual.
func ping(src, dst netip.Addr, size, ttl int, wait time.Duration) (Answer, error) {
	conn, err := listen(src, ttl)
	if err != nil {
		return Answer{}, fmt.Errorf("open a raw socket at %v: %w", src, err)
	}
	defer conn.Close()
	id := os.Getpid() & 0xffff
	seq := int(time.Now().UnixNano()) & 0xffff
	echo := icmp.Echo{ID: id, Seq: seq, Data: make([]byte, max(0, size-headers))}
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &echo}
	packet, err := message.Marshal(nil)
	if err != nil {
		return Answer{}, err
	}
	if err := conn.SetDeadline(time.Now().Add(wait)); err != nil {
		return Answer{}, err
	}
	switch _, err := conn.WriteTo(packet, &net.IPAddr{IP: dst.AsSlice()}); {
	case errors.Is(err, unix.EMSGSIZE):
		return Answer{Text: string(TooLong)}, nil
	case errors.Is(err, unix.EPERM):
		return Answer{Text: "iptables of this host drops it"}, nil
	case err != nil:
		return Answer{Text: err.Error()}, nil
	}
	return await(conn, dst, id, seq)
}

func listen(src netip.Addr, ttl int) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
			if ttl > 0 {
				failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl))
			}
		})
		return errors.Join(err, failed)
	}}
	return config.ListenPacket(context.Background(), "ip4:icmp", src.String())
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
		addr, _ := netip.AddrFromSlice(from.(*net.IPAddr).IP.To4())
		if a, ours := answer(buffer[:n], dst, id, seq); ours {
			a.From = addr
			return a, nil
		}
	}
}

// answer reads an ICMP message (RFC 792).
func answer(packet []byte, dst netip.Addr, id, seq int) (Answer, bool) {
	m, err := icmp.ParseMessage(1, packet)
	if err != nil {
		return Answer{}, false
	}
	var original []byte
	switch body := m.Body.(type) {
	case *icmp.Echo:
		return Answer{Answered: true, Echo: true}, m.Type == ipv4.ICMPTypeEchoReply && body.ID == id && body.Seq == seq
	case *icmp.DstUnreach:
		original = body.Data
	case *icmp.TimeExceeded:
		original = body.Data
	default:
		return Answer{}, false
	}
	h, err := ipv4.ParseHeader(original)
	if err != nil || len(original) < h.Len+8 || !h.Dst.Equal(net.IP(dst.AsSlice())) {
		return Answer{}, false
	}
	echo := original[h.Len:]
	if int(echo[4])<<8|int(echo[5]) != id || int(echo[6])<<8|int(echo[7]) != seq {
		return Answer{}, false
	}
	a := Answer{Answered: true, Refusal: refusal(m)}
	if a.Text = string(a.Refusal); a.Text == "" {
		a.Text = fmt.Sprintf("it cannot be delivered (code %d)", m.Code)
	}
	return a, true
}

func refusal(m *icmp.Message) Refusal {
	if m.Type == ipv4.ICMPTypeTimeExceeded {
		return Expired
	}
	switch m.Code {
	case 4:
		return TooLong
	case 9, 10, 13:
		return Forbidden
	case 0, 6, 11:
		return NoNetwork
	case 1, 7, 12:
		return NoHost
	case 3:
		return NoPort
	}
	return ""
}
