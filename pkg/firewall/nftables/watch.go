package nftables

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Watcher signals that nf_tables has changed in this network namespace, no matter by
// which program, including this one.
type Watcher struct {
	socket  *os.File // nil: this kernel has no netfilter to watch
	changed chan struct{}
}

// receiveBuffer holds the messages of some thousand rules that change at once. If it
// overflows, the kernel reports that, which counts as a change.
const receiveBuffer = 1 << 20 // bytes

// Watch subscribes to the changes; none that happens from now on is missed. On a
// kernel without nf_tables there are none.
func Watch() (*Watcher, error) {
	w := &Watcher{changed: make(chan struct{}, 1)}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return w, nil
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to changes of nftables: %w", err)
	}
	// The default would be net.core.rmem_default.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	group := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)}
	if err := unix.Bind(fd, group); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("subscribe to changes of nftables: %w", err)
	}
	w.socket = os.NewFile(uintptr(fd), "netlink")
	return w, nil
}

// Changed signals that something changed; a burst of changes is one signal.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

func (w *Watcher) String() string { return "nftables watcher" }

// Run listens until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	if w.socket == nil {
		<-ctx.Done()
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = w.socket.Close() })()
	defer w.socket.Close()
	// The content of messages does not matter, so they may be truncated.
	buffer := make([]byte, 4<<10)
	for {
		_, err := w.socket.Read(buffer)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("listen for changes of nftables: %w", err)
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}
