package etcdconn

import (
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/pkg/printable"
)

// Dialer makes connections within limit that end when their other end says
// nothing more: after silence where data is under way, and after twice that
// where none is. The kernel sees to that, at no cost to this process.
func Dialer(limit, silence time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         limit,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: silence, Interval: max(silence/3, time.Second), Count: 3},
		Control:         userTimeout(silence),
	}
}

// userTimeout bounds how long sent data, or a keep-alive probe, may go without
// an answer (TCP_USER_TIMEOUT, RFC 5482).
func userTimeout(limit time.Duration) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
		})
		return errors.Join(err, failed)
	}
}

// Printable is a text of etcd's as it may stand in a log: one line, of 200 bytes at
// the most.
func Printable(s string) string { return printable.Bounded(s, 200) }
