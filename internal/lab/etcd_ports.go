package lab

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// port is a free port at where's address, for a member with --socket-reuse-port. A
// socket that is bound, but does not listen, reserves it until the cluster closes: the
// kernel gives it to no other member or client, also while its own member is down.
func (e *Etcd) port(where EtcdMember) (port int) {
	e.t.Helper()
	ip := netip.MustParseAddr(where.IP)
	family, at := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: ip.As16()})
	if ip.Is4() {
		family, at = unix.AF_INET, &unix.SockaddrInet4{Addr: ip.As4()}
	}
	err := inNetns(where.Netns, func() error {
		holder, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		e.t.Cleanup(func() { _ = unix.Close(holder) })
		if err := unix.SetsockoptInt(holder, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(holder, at); err != nil {
			return err
		}
		bound, err := unix.Getsockname(holder)
		if err != nil {
			return err
		}
		switch b := bound.(type) {
		case *unix.SockaddrInet4:
			port = b.Port
		case *unix.SockaddrInet6:
			port = b.Port
		}
		return nil
	})
	if err != nil {
		e.t.Fatalf("lab: find a port at %s: %v", where.IP, err)
	}
	return port
}
