// Package tun attaches to Linux' TUN devices, whose packets a process reads and
// writes (Documentation/networking/tuntap.rst).
package tun

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// path is the device file by which a process attaches to TUN devices.
const path = "/dev/net/tun"

// flags are those of all devices here: packets of IP without a link's header, each
// with a struct virtio_net_hdr in front (HeaderLen), by one queue.
const flags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// HeaderLen is the length in bytes of the struct virtio_net_hdr in front of each
// packet (linux/virtio_net.h).
const HeaderLen = 10

// Open attaches to the TUN device of that name in the calling thread's network
// namespace. A device that is not there is made; it is down then, and has neither
// addresses nor routes. It persists: it outlives the file and the process, with
// its addresses and routes, until it is deleted by netlink. The file is ready for
// Go's poller, each read and write is one packet behind a header of HeaderLen bytes.
//
// The errors say what to do. They wrap ENOENT or ENODEV where the kernel or the
// container has no TUN, EBUSY where another process is attached, EPERM or EACCES
// where a right is missing, EINVAL where the device of that name is of another kind.
func Open(name string) (*os.File, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("attach to TUN device %q: the name must have 1 to %d characters", name, unix.IFNAMSIZ-1)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("attach to TUN device %s: open %s: %w", name, path, withAdvice(err, name))
	}
	if err := attach(fd, name); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("attach to TUN device %s: %w", name, withAdvice(err, name))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// attach makes the device where it is not there, and makes it persist.
func attach(fd int, name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("make it persist: %w", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, HeaderLen); err != nil {
		return fmt.Errorf("set the length of its header: %w", err)
	}
	return nil
}

// withAdvice adds what to do.
func withAdvice(err error, name string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: load the kernel's module tun (modprobe tun); a container needs the device passed to it "+
			"(docker run --device=%s)", err, path)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: %s is attached to it: stop that, or choose another name", err, holder(name))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: it takes CAP_NET_ADMIN, and access to %s (under systemd: DeviceAllow=%[2]s)", err, path)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: a device of that name is there, and is no TUN device of one queue: "+
			"delete it (ip link delete %s), or choose another name", err, name)
	}
	return err
}

// Name is the name of the device to which a file of Open's, from here or from an
// earlier process, is attached now. It fails where the device was deleted, or
// where the file is something else.
func Name(f *os.File) (string, error) {
	request, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	err = Control(f, func(fd int) error { return unix.IoctlIfreq(fd, unix.TUNGETIFF, request) })
	if err != nil {
		return "", fmt.Errorf("ask which TUN device a descriptor is attached to: %w", err)
	}
	if have := request.Uint16(); have&(flags|unix.IFF_TAP) != flags {
		return "", fmt.Errorf("the descriptor of TUN device %s has the flags %#x, and not %#x", request.Name(), have, flags)
	}
	return request.Name(), nil
}

// Control calls do with the file's descriptor.
func Control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}
