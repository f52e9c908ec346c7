package kernel

import (
	"errors"

	"golang.org/x/sys/unix"
)

// SetOffload switches transmit checksum offload of a device.
func SetOffload(dev string, on bool) error {
	o, err := openOffload()
	if err != nil {
		return err
	}
	defer o.close()
	value := uint32(0)
	if on {
		value = 1
	}
	return o.set(dev, value)
}

// DrawID is drawID.
var DrawID = drawID

// Lax makes the kernel answer as those before 4.20: it checks nothing, and gives more than was asked for.
func (n *Netlink) Lax() error {
	return unix.SetsockoptInt(n.socket.fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 0)
}

// Knows reports whether an interface of that name has been announced.
func (w *Watcher) Knows(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.names {
		if n == name {
			return true
		}
	}
	return false
}

// Heard tells whether a message is news.
func (w *Watcher) Heard(kind uint16, body []byte) bool {
	is, _ := w.judge(unix.NlMsghdr{Type: kind}, body)
	return is != irrelevant
}

// ShrinkBuffer leaves room for only a few announcements.
func (w *Watcher) ShrinkBuffer() error {
	raw, err := w.socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
	return errors.Join(err, failed)
}

// Neighbours counts the messages about neighbours that wait for a Watcher which does not run.
func (w *Watcher) Neighbours() (n int, err error) {
	raw, err := w.socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	buffer := make([]byte, largestMessage)
	err = raw.Control(func(fd uintptr) {
		for {
			size, _, failed := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			if failed != nil {
				return
			}
			for h := range messages(buffer[:size]) {
				if h.Type == unix.RTM_NEWNEIGH || h.Type == unix.RTM_DELNEIGH {
					n++
				}
			}
		}
	})
	return n, err
}
