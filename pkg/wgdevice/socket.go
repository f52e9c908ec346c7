package wgdevice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// sockets is where wg(8) and wgctrl look for devices in user space, NAME.sock.
const sockets = "/var/run/wireguard"

// listen lets wg(8) at the device. A socket that an earlier run has left is replaced;
// another process's is not, for the folder may be shared by network namespaces.
func (u *userspace) listen() error {
	if err := os.MkdirAll(sockets, 0o700); err != nil {
		return fmt.Errorf("make the folder of WireGuard's sockets: %w", err)
	}
	path := filepath.Join(sockets, u.name+".sock")
	listener, err := listenAt(path)
	if errors.Is(err, unix.EADDRINUSE) {
		if peer, dialErr := net.Dial("unix", path); dialErr == nil {
			peer.Close()
			return fmt.Errorf("listen at %s: another process does", path)
		}
		if err = os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
			listener, err = listenAt(path)
		}
	}
	if err != nil {
		return fmt.Errorf("listen at %s: %w", path, err)
	}
	u.socket = listener
	u.serving.Go(u.serve)
	return nil
}

// listenAt makes a socket for its owner alone: who can connect to it, gets the keys. A
// socket's mode before it is bound is its file's.
func listenAt(path string) (*net.UnixListener, error) {
	var config net.ListenConfig
	config.Control = func(_, _ string, raw syscall.RawConn) error {
		var inner error
		err := raw.Control(func(fd uintptr) { inner = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, inner)
	}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return listener.(*net.UnixListener), nil
}

func (u *userspace) serve() {
	for {
		c, err := u.socket.Accept()
		if err != nil {
			return
		}
		client := &client{Conn: c, of: u}
		if !u.clients.add(client) {
			c.Close()
			return
		}
		u.serving.Go(func() {
			u.device.IpcHandle(client) // closes it
			u.clients.remove(client)
		})
	}
}

func (u *userspace) unlisten() {
	if u.socket == nil {
		return
	}
	u.socket.Close()
	u.clients.close()
	u.serving.Wait()
}

// client is a connection to the socket.
type client struct {
	net.Conn
	of     *userspace
	editor bool // it has said something else than that it wants to read
}

func (c *client) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !bytes.Equal(b[:n], []byte("get=1\n\n")) {
		c.editor = true
	}
	return n, err
}

// Write answers a request, which has been done by then.
func (c *client) Write(b []byte) (int, error) {
	if c.editor {
		c.of.edited.Add(1)
	}
	return c.Conn.Write(b)
}

// Close counts too: a request may have failed half-way.
func (c *client) Close() error {
	if c.editor {
		c.of.edited.Add(1)
	}
	return c.Conn.Close()
}

// clients are the connections that are open.
type clients struct {
	mu     sync.Mutex
	open   map[*client]bool
	closed bool
}

func (c *clients) add(one *client) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if c.open == nil {
		c.open = map[*client]bool{}
	}
	c.open[one] = true
	return true
}

func (c *clients) remove(one *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, one)
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for one := range c.open {
		one.Conn.Close()
	}
}
