package etcdv3

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// members are the endpoints, and what is known of each. gRPC asks any of them
// for whom it has a connection, and its errors do not say which; so connections
// bear their endpoint's name, and what goes wrong with them is noted here.
type members struct {
	files  etcdconn.Files
	dialer *net.Dialer
	urls   map[string]string // host:port → URL
	order  []string          // host:port

	mu      sync.Mutex
	faults  map[string]error // URL → why there is no connection
	spoken  map[string]bool  // URLs that something came from
	lack    map[string]bool  // URLs at which the API is not served
	current string           // URL of the last to answer
	open    map[*namedConn]bool
}

func newMembers(c Config, l limits) *members {
	m := &members{
		files: c.Files(), dialer: c.Files().Dialer(l.connect, l.silence),
		urls: map[string]string{}, faults: map[string]error{}, spoken: map[string]bool{}, open: map[*namedConn]bool{},
	}
	for _, endpoint := range c.Endpoints {
		u, err := url.Parse(endpoint)
		if err != nil {
			continue // it was checked
		}
		address := u.Host
		if u.Port() == "" {
			address = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		}
		if m.urls[address] == "" {
			m.order = append(m.order, address)
		}
		m.urls[address] = endpoint
	}
	return m
}

// addresses are the endpoints as client/v3 shall know them: it leaves TLS to dial.
func (m *members) addresses() (all []string) {
	for _, address := range m.order {
		all = append(all, "http://"+address)
	}
	return all
}

// dial connects to a member, by TLS where its URL says so.
func (m *members) dial(ctx context.Context, address string) (net.Conn, error) {
	url := m.urls[address]
	connect := func(ctx context.Context, network, address string) (net.Conn, error) {
		return m.files.Connect(ctx, m.dialer, network, address)
	}
	if strings.HasPrefix(url, "https:") {
		connect = func(ctx context.Context, network, address string) (net.Conn, error) {
			return m.files.Dial(ctx, m.dialer, network, address, "h2")
		}
	}
	conn, err := connect(ctx, "tcp", address)
	if err != nil {
		m.note(url, m.files.Explain(err))
		return nil, err
	}
	return m.name(conn, url), nil
}

// note keeps why there is no connection to a member; nil: there is one.
func (m *members) note(url string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		delete(m.faults, url)
		m.spoken[url] = true
		return
	}
	m.faults[url] = err
}

// worked tells whether anything ever came from a member.
func (m *members) worked(url string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spoken[url]
}

func (m *members) answered(url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = url
}

func (m *members) last() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// hangUp ends the connection to a member that is silent: gRPC asks it no more
// until it speaks on a new one.
func (m *members) hangUp(url string) {
	m.mu.Lock()
	var silent []*namedConn
	for c := range m.open {
		if c.url == url {
			silent = append(silent, c)
		}
	}
	m.mu.Unlock()
	for _, c := range silent {
		c.ended(subnet.ErrSilent)
		_ = c.Conn.Close() // gRPC learns of it as if the member had done it
	}
}

// respondent is the member that was asked.
type respondent struct{ peer peer.Peer }

// option is for a request with one reply.
func (a *respondent) option() grpc.CallOption { return grpc.Peer(&a.peer) }

// learn is for a stream, after the first reply.
func (a *respondent) learn(stream context.Context) {
	if p, ok := peer.FromContext(stream); ok {
		a.peer = *p
	}
}

// member is the URL; "" where nobody was asked.
func (a *respondent) member() string {
	if a.peer.Addr == nil {
		return ""
	}
	return a.peer.Addr.String()
}
