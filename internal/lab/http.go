package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// requestTime bounds an HTTP request, with the connection that it needs. On a machine whose CPUs
// are all taken, one has taken more than five seconds.
const requestTime = 15 * time.Second

// Listen listens on the node, as net.Listen.
func (n *Node) Listen(network, address string) net.Listener {
	n.lab.t.Helper()
	var listener net.Listener
	err := n.ns.do(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	n.lab.must("listen on "+n.Name, err)
	return listener
}

// Dial connects from the node, as net.Dialer's DialContext, within a few seconds
// at the most. The address must be numeric: there is no DNS in a lab.
func (n *Node) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	// An http.Transport goes on dialing for a request that was given up: the
	// namespace must not be taken away meanwhile.
	n.lab.mu.Lock()
	if n.lab.ctx.Err() != nil {
		n.lab.mu.Unlock()
		return nil, n.lab.ctx.Err()
	}
	n.lab.dialing.Add(1)
	n.lab.mu.Unlock()
	defer n.lab.dialing.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.lab.ctx, cancel)()

	err = n.ns.do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: requestTime}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Client is an HTTP client on the node, with a connection for each request.
func (n *Node) Client() *http.Client {
	transport := &http.Transport{DialContext: n.Dial, DisableKeepAlives: true}
	return &http.Client{Transport: transport, Timeout: requestTime}
}

// Get fetches a URL from the node and returns the body. It ends the test unless
// the status is 200.
func (n *Node) Get(url string) string {
	n.lab.t.Helper()
	body, err := n.TryGet(url)
	n.lab.must("on "+n.Name, err)
	return body
}

// TryGet is Get for a request that may fail.
func (n *Node) TryGet(url string) (string, error) {
	reply, err := n.Client().Get(url)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s", url, reply.Status)
	}
	return string(body), err
}

// URL is that of a web server on a node.
func URL(of Target) string { return "http://" + net.JoinHostPort(of.Address().String(), "80") + "/" }

// HTTPServer is a web server with an access log.
type HTTPServer struct {
	URL string // by its node's first address

	mu      sync.Mutex
	clients []string
}

// HTTPServer starts a web server on port 80 of the node, for each family that it has.
func (n *Node) HTTPServer() *HTTPServer {
	n.lab.t.Helper()
	s := &HTTPServer{URL: URL(n)}
	listener := n.Listen("tcp", ":80")
	server := &http.Server{Handler: s}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	n.lab.onClose(func() {
		server.Close()
		serving.Wait()
	})
	return s
}

// ServeHTTP logs the client's address, and replies with it.
func (s *HTTPServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	client, _, _ := net.SplitHostPort(r.RemoteAddr)
	s.mu.Lock()
	s.clients = append(s.clients, client)
	s.mu.Unlock()
	fmt.Fprintf(w, "hello, %s\n", client)
}

// Clients are the addresses that the server has seen, one for each request.
func (s *HTTPServer) Clients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.clients)
}
