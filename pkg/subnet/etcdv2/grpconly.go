package etcdv2

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"flanneld/pkg/subnet/etcdconn"
)

// A URL that etcd keeps for gRPC (--listen-client-http-urls names others for
// HTTP) has no word for a v2 request. In the clear it begins with a frame of
// HTTP/2, whatever it is asked. By TLS it wants HTTP/2 to be agreed on (ALPN),
// and otherwise closes the connection after the handshake, as any server may
// that is in trouble. So there the same is asked once more by HTTP/2, to which
// gRPC answers that this is no call.

// errOnlyGRPC says that an endpoint is such a URL.
var errOnlyGRPC = fmt.Errorf("%w, as it speaks gRPC alone: name one of etcd's --listen-client-http-urls, "+
	"or use --etcd-api=3", ErrNotServed)

// firstReply is a connection that knows by the first reply whether HTTP/1 is
// spoken at its other end.
type firstReply struct {
	net.Conn
	once sync.Once
	read chan struct{} // closed after the first read
	err  error         // the first read's
}

func watchFirstReply(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return &firstReply{Conn: conn, read: make(chan struct{})}, nil
}

func (c *firstReply) Read(p []byte) (n int, err error) {
	first := false
	c.once.Do(func() {
		first = true
		n, err = c.readFirst(p)
		c.err = err
		close(c.read)
	})
	switch {
	case first:
		return n, err
	case c.err != nil:
		return 0, c.err
	}
	return c.Conn.Read(p)
}

func (c *firstReply) readFirst(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && p[0] == 0 && n < frameHeader && len(p) >= frameHeader { // HTTP/1 has no such byte
		var more int
		more, err = io.ReadFull(c.Conn, p[n:frameHeader])
		n += more
	}
	switch {
	case isSettings(p[:n]):
		return 0, errOnlyGRPC
	case err == io.EOF: // which net/http would take for the end of an idle connection
		return n, fmt.Errorf("no reply: %w", err)
	}
	return n, err
}

// Write leaves it to the reader to say why a connection is closed: who writes
// may learn of it first.
func (c *firstReply) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		select {
		case <-c.read:
			err = cmp.Or(c.err, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return n, err
}

// frameHeader is the length of what each frame of HTTP/2 begins with (RFC 9113, 4.1).
const frameHeader = 9

// typeSettings is the type of such a frame (RFC 9113, 6.5).
const typeSettings = 4

// isSettings knows the frame with which a server of HTTP/2 begins (RFC 9113,
// 3.4 and 6.5): SETTINGS, without flags, on stream 0, with six bytes for each.
func isSettings(begin []byte) bool {
	if len(begin) < frameHeader {
		return false
	}
	length := int(begin[0])<<16 | int(begin[1])<<8 | int(begin[2])
	return length%6 == 0 && bytes.Equal(begin[3:frameHeader], []byte{typeSettings, 0, 0, 0, 0, 0})
}

// explain says why there is no reply to a request.
func (t *transport) explain(request *http.Request, err error) error {
	silent := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	switch {
	case errors.Is(err, errOnlyGRPC):
		return errOnlyGRPC
	case etcdconn.NoProtocol(err):
		return fmt.Errorf("%w: its TLS wants another protocol than HTTP/1 (%w)", ErrNotServed, err)
	case silent && request.URL.Scheme == "https" && t.onlyGRPC(request):
		return errOnlyGRPC
	}
	return t.files.Explain(err)
}

// onlyGRPC asks for the same by HTTP/2, and tells whether gRPC has answered. An
// etcd that serves v2 answers by it as by HTTP/1. The password stays here.
func (t *transport) onlyGRPC(request *http.Request) bool {
	ctx, cancel := context.WithTimeout(request.Context(), t.header)
	defer cancel()
	address := net.JoinHostPort(request.URL.Hostname(), cmp.Or(request.URL.Port(), "443"))
	wire := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return t.files.Dial(ctx, t.dialer, network, address, "h2")
	}, Protocols: &http.Protocols{}}
	wire.Protocols.SetUnencryptedHTTP2(true) // as far as net/http knows
	defer wire.CloseIdleConnections()
	again := request.Clone(ctx) // with the channel by which client/v2 gives a request up
	again.Method, again.Header, again.Host = http.MethodGet, http.Header{}, ""
	again.URL = &url.URL{Scheme: "http", Host: address, Path: request.URL.Path}
	again.Body, again.GetBody, again.ContentLength, again.TransferEncoding = nil, nil, 0, nil
	response, err := wire.RoundTrip(again)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return isNoCall(response)
}

// isNoCall knows gRPC's reply to what is no call, also where a proxy has put it
// into HTTP/1.
func isNoCall(r *http.Response) bool {
	return r.StatusCode/100 == 4 && r.Header.Get("Grpc-Status") != ""
}
