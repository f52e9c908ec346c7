package udptunnel

import (
	"errors"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"flanneld/pkg/tun"
)

// Store keeps descriptors for the next daemon, which then finds what waits in the
// device's queue and in the socket's. Names are of letters, digits, '.' and '-'.
type Store interface {
	// Take hands over what is kept under a name, by this process or an earlier one, or
	// nil. It is kept on: where a tunnel is closed and opened anew, the store still has the
	// device, to which nobody else can attach then.
	Take(name string) *os.File
	// Keep keeps a file, which the caller may use and close.
	Keep(name string, f *os.File) error
	// Forget keeps what has the name no longer.
	Forget(name string) error
}

// none keeps nothing.
type none struct{}

func (none) Take(string) *os.File        { return nil }
func (none) Keep(string, *os.File) error { return nil }
func (none) Forget(string) error         { return nil }

func deviceKey(name string) string { return "tun-" + name }
func socketKey(name string) string { return "udp-" + name }

// Forget has a store forget what it keeps of a device of that name, which no Tunnel is to have
// any more.
func Forget(s Store, name string) error {
	return errors.Join(s.Forget(deviceKey(name)), s.Forget(socketKey(name)))
}

// openDevice takes the device's descriptor over from the store, or attaches anew.
// What the store could not do costs the next start its packets, and nothing else.
func openDevice(o Options) (f *os.File, adopted bool, err error) {
	key := deviceKey(o.Name)
	if kept := o.Store.Take(key); kept != nil {
		if name, err := tun.Name(kept); err == nil && name == o.Name {
			return kept, true, nil
		}
		_ = kept.Close()
		o.warn("forget a descriptor of a device that is gone", o.Store.Forget(key))
	}
	f, err = tun.Open(o.Name)
	if err == nil {
		o.warn("keep the device's descriptor for the next start", o.Store.Keep(key, f))
	}
	return f, false, err
}

// openSocket does the same with the UDP socket.
func openSocket(o Options) (f *os.File, adopted bool, err error) {
	key := socketKey(o.Name)
	if kept := o.Store.Take(key); kept != nil {
		if boundTo(kept, o.Local) {
			return kept, true, nil
		}
		_ = kept.Close()
		o.warn("forget the descriptor of a socket of another address", o.Store.Forget(key))
	}
	f, err = listen(o.Local)
	if err == nil {
		o.warn("keep the socket's descriptor for the next start", o.Store.Keep(key, f))
	}
	return f, false, err
}

// boundTo reports whether f is a UDP socket at that address.
func boundTo(f *os.File, local netip.AddrPort) bool {
	var at unix.Sockaddr
	var kind int
	err := tun.Control(f, func(fd int) (err error) {
		if kind, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err == nil {
			at, err = unix.Getsockname(fd)
		}
		return err
	})
	bound, four := at.(*unix.SockaddrInet4)
	return err == nil && kind == unix.IPPROTO_UDP && four &&
		netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port)) == local
}
