package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offload reads and switches transmit checksum offload, for which rtnetlink has
// no message (linux/ethtool.h: ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM).
type offload struct{ socket int }

func openOffload() (*offload, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a socket for ethtool requests: %w", err)
	}
	return &offload{fd}, nil
}

func (o *offload) close() { _ = unix.Close(o.socket) }

// on reports whether dev leaves checksums to the NIC; true where it is unknown.
func (o *offload) on(dev string) bool {
	value, err := o.call(dev, unix.ETHTOOL_GTXCSUM, 0)
	return err != nil || value != 0
}

func (o *offload) set(dev string, on uint32) error {
	_, err := o.call(dev, unix.ETHTOOL_STXCSUM, on)
	return err
}

func (o *offload) call(dev string, command, value uint32) (uint32, error) {
	request := struct{ command, value uint32 }{command, value}
	ifreq := struct { // struct ifreq of netdevice(7)
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&request)}
	copy(ifreq.name[:unix.IFNAMSIZ-1], dev)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(o.socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq)))
	if errno != 0 {
		return 0, errno
	}
	return request.value, nil
}
