package etcdv3

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// members are the endpoints, and what is known of each. gRPC's errors do not say
// which of them it has asked; so connections bear their endpoint's name, and what
// goes wrong with them is noted here.
//
// There is one connection, to the first in turn that takes one, as each costs etcd
// about as much as a watch does. gRPC keeps it until it ends. So a member that does
// not do its work is left: its turn comes last from then on.
type members struct {
	files  etcdconn.Files
	dialer *net.Dialer
	urls   map[string]string // host:port → URL
	order  []string          // host:port, as configured

	mu      sync.Mutex
	turns   []string             // host:port, as they are to be tried
	silent  map[string]time.Time // URL → when a call overran its time there
	faults  map[string]error     // URL → why there is no connection
	spoken  map[string]bool      // URLs that something came from
	lack    map[string]bool      // URLs at which the API is not served
	current string               // URL of the last to answer
	open    map[*namedConn]bool
}

func newMembers(c Config, l limits) *members {
	m := &members{
		files: c.Files(), dialer: c.Files().Dialer(l.connect, l.silence),
		urls: map[string]string{}, faults: map[string]error{}, spoken: map[string]bool{}, open: map[*namedConn]bool{},
		silent: map[string]time.Time{},
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
	m.turns = slices.Clone(m.order)
	rand.Shuffle(len(m.turns), func(i, j int) { // hosts spread over the members
		m.turns[i], m.turns[j] = m.turns[j], m.turns[i]
	})
	return m
}

// addresses are the endpoints as client/v3 shall know them: in turn, and without
// TLS, which it leaves to dial.
func (m *members) addresses() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, address := range m.turns {
		all = append(all, "http://"+address)
	}
	return all
}

// first is the URL of the first in turn.
func (m *members) first() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.urls[m.turns[0]]
}

// postpone makes a member the last in turn.
func (m *members) postpone(url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, address := range m.turns {
		if m.urls[address] == url {
			m.turns = append(slices.Delete(m.turns, i, i+1), address)
			return
		}
	}
}

// silentFor is how long a member is not turned to after it was silent.
const silentFor = 30 * time.Second

// overran notes that a call has overrun its time at a member.
func (m *members) overran(url string) {
	m.note(url, m.files.Explain(subnet.ErrSilent))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent[url] = time.Now()
}

// another tells whether there is a member to turn to instead of one: where the others were as
// silent, etcd is busy as a whole, and a new connection would be one more thing for it to do.
// url "" stands for the first in turn.
func (m *members) another(url string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	url = cmp.Or(url, m.urls[m.turns[0]])
	for _, other := range m.urls {
		if at, silent := m.silent[other]; other != url && (!silent || time.Since(at) > silentFor) {
			return true
		}
	}
	return false
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
		if !errors.Is(context.Cause(ctx), context.Canceled) { // another member was faster
			m.note(url, m.files.Explain(err))
		}
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

// answered notes who gave an answer. What was wrong with the others is old by the
// time that it is of interest: they are tried again first.
func (m *members) answered(url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = url
	clear(m.faults)
}

func (m *members) last() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// hangUp ends the connection to a member, for a reason that is worth telling or nil.
func (m *members) hangUp(url string, why error) {
	m.mu.Lock()
	var useless []*namedConn
	for c := range m.open {
		if c.url == url {
			useless = append(useless, c)
		}
	}
	m.mu.Unlock()
	for _, c := range useless {
		c.ended(why)
		_ = c.Close() // gRPC learns of it as if the member had done it
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
