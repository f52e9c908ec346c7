package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Discard is a port where nobody listens (RFC 863): a host answers that it
// refuses.
const Discard = 9

// Connect implements Network.
func (Host) Connect(src, dst netip.Addr, wait time.Duration) (Answer, error) {
	return connect(context.Background(), src, dst, wait)
}

func connect(ctx context.Context, src, dst netip.Addr, wait time.Duration) (Answer, error) {
	dialer := net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{IP: src.AsSlice()}}
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(dst, Discard).String())
	if err == nil {
		conn.Close()
		return Answer{Answered: true, Echo: true, From: dst}, nil
	}
	return refused(err, dst), nil
}

// refused is the answer that an error of a socket stands for.
func refused(err error, by netip.Addr) Answer {
	for _, refusal := range []error{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ECONNRESET, unix.EACCES} {
		if errors.Is(err, refusal) {
			return Answer{Answered: true, Echo: refusal == unix.ECONNREFUSED, From: by, Text: refusal.Error()}
		}
	}
	return Answer{}
}

// ProbeUDP implements Network. The datagram is eight zeros, which a vxlan device
// ignores as they lack the flag I (RFC 7348, section 5).
func (Host) ProbeUDP(src netip.Addr, to netip.AddrPort, wait time.Duration) (Answer, error) {
	conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0)), net.UDPAddrFromAddrPort(to))
	if err != nil {
		return refused(err, to.Addr()), nil
	}
	defer conn.Close()
	buffer := make([]byte, 8)
	if _, err := conn.Write(buffer); err != nil {
		return refused(err, to.Addr()), nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return Answer{}, err
	}
	_, err = conn.Read(buffer)
	return refused(err, to.Addr()), nil
}
