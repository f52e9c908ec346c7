package udptunnel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"flanneld/pkg/tun"
)

// bufferSize is that of the socket's buffers in bytes: some milliseconds of traffic at
// the speed of a fast network, which come while the loop waits for its CPU.
const bufferSize = 4 << 20

// listen opens the UDP socket at an address of this host.
func listen(local netip.AddrPort) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("open a UDP socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(local.Port()), Addr: local.Addr().As4()})
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("receive at UDP %v: %w", local, withAdvice(err, local))
	}
	return os.NewFile(uintptr(fd), "udp "+local.String()), nil
}

func withAdvice(err error, local netip.AddrPort) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another program has the port: stop it, or set another Port in the config key's Backend "+
			"(ss -lunp 'sport = %d' shows which)", err, local.Port())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w: no interface of this host has the address", err)
	}
	return err
}

// features are what the kernel does for a socket.
type features struct {
	split bool // several datagrams of one size in one message (UDP_SEGMENT, Linux 4.18)
	join  bool // the same on receipt (UDP_GRO, Linux 5.0)
}

// prepare sets the socket up. None of it is vital but the first.
//
// The datagrams may be fragmented, as those of vxlan and WireGuard may: a path that is
// narrower than it says then still carries them, where with DF they were lost.
func prepare(fd int) (f features, err error) {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT); err != nil {
		return f, fmt.Errorf("let datagrams be fragmented: %w", err)
	}
	for forced, plain := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, forced, bufferSize) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, bufferSize)
		}
	}
	f.split = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 0) == nil
	f.join = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil
	return f, nil
}

// prober asks the kernel for the MTU of paths. It is a socket of its own, as it has to
// be connected to whom it asks about (ip(7), IP_MTU).
type prober struct{ socket *os.File }

func newProber(from netip.Addr) (prober, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return prober{}, fmt.Errorf("open a socket to ask for paths' MTUs: %w", err)
	}
	_ = unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}) // the path may depend on it
	return prober{os.NewFile(uintptr(fd), "path MTU")}, nil
}

// mtu is that of the path to a peer; 0 where the kernel does not know.
func (p prober) mtu(to *target) int {
	const discard = 9 // a port; nothing is sent
	mtu := 0
	err := tun.Control(p.socket, func(fd int) (err error) {
		if err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr, Port: discard}); err == nil {
			mtu, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU)
		}
		return err
	})
	if err != nil {
		return 0
	}
	return mtu
}
