package etcdv3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"flanneld/pkg/subnet/etcdconn"
)

// namedConn is a connection whose other end is called by its URL, and which
// notes what ends it: gRPC's errors name neither.
type namedConn struct {
	net.Conn
	url     string
	members *members

	// The first read begins at once. gRPC writes before it reads, and a server
	// that refuses a client certificate (in TLS 1.3, after the handshake) says so
	// and closes the connection: the next write would end all before the reason
	// was read.
	early    chan struct{} // closed when the first read is done
	first    []byte
	firstErr error

	mu    sync.Mutex
	shut  bool // by us
	noted bool // what ended it
}

// earlySize holds what a server says first.
const earlySize = 1 << 10

func (m *members) name(conn net.Conn, url string) *namedConn {
	c := &namedConn{Conn: conn, url: url, members: m, early: make(chan struct{})}
	m.mu.Lock()
	m.open[c] = true
	m.mu.Unlock()
	go func() {
		defer close(c.early)
		buffer := make([]byte, earlySize)
		n, err := conn.Read(buffer)
		c.first, c.firstErr = buffer[:n], err
		switch {
		case bytes.HasPrefix(c.first, []byte("HTTP/1.")):
			c.ended(fmt.Errorf("%w: it answers by HTTP/1", etcdconn.ErrProtocol))
		case n > 0:
			m.note(url, nil)
		default:
			c.ended(m.unanswered(url, err))
		}
	}()
	return c
}

// unanswered is the error of a connection over which nothing ever came.
func (m *members) unanswered(url string, err error) error {
	switch {
	case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE):
		return err
	case m.worked(url):
		return errClosed
	}
	return io.EOF
}

// RemoteAddr is what gRPC calls the peer.
func (c *namedConn) RemoteAddr() net.Addr { return named(c.url) }

type named string

func (named) Network() string  { return "etcd" }
func (n named) String() string { return string(n) }

func (c *namedConn) Read(p []byte) (int, error) {
	<-c.early
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	if err := c.firstErr; err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		c.ended(errClosed)
		return n, err
	}
	c.ended(err)
	return n, err
}

var errClosed = errors.New("it has closed the connection")

func (c *namedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		select { // the reader knows why
		case <-c.early:
		case <-time.After(100 * time.Millisecond):
		}
		c.ended(err)
	}
	return n, err
}

// ended notes what ended the connection, the first time that it is told.
func (c *namedConn) ended(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil || c.shut || c.noted {
		return
	}
	c.noted = true
	c.members.note(c.url, c.members.files.Explain(err))
}

func (c *namedConn) Close() error {
	c.mu.Lock()
	c.shut = true
	c.mu.Unlock()
	c.members.mu.Lock()
	delete(c.members.open, c)
	c.members.mu.Unlock()
	return c.Conn.Close()
}
