package etcdv2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

const (
	clusterHeader = "X-Etcd-Cluster-Id"
	indexHeader   = "X-Etcd-Index"
	raftHeader    = "X-Raft-Index"
	termHeader    = "X-Raft-Term"
)

// transport carries every request, and lets only replies pass that come from an
// etcd that serves the v2 API and has something to say. Everything else is an
// error that names the endpoint; client/v2 then turns to the next one.
type transport struct {
	dialer   *net.Dialer
	files    etcdconn.Files
	username string // empty: none
	header   time.Duration
	connect  time.Duration
	longest  int // reply, in bytes
	avoided

	mu       sync.Mutex
	wire     http.RoundTripper
	password string
	reply    reply
}

// reply is what is remembered of the last one to client/v2, all of whose
// requests go through the cluster's log.
type reply struct {
	member  string // URL
	cluster string
	term    uint64 // raft's
	taken   bool   // the member was named to a watch
}

func newTransport(c Config, l limits) *transport {
	files := c.Files()
	members := len(slices.Compact(slices.Sorted(slices.Values(c.Endpoints))))
	t := &transport{
		dialer: files.Dialer(l.connect, l.silence), files: files, username: c.Username, password: c.Password,
		header: l.header, connect: l.connect, longest: l.reply, avoided: avoided{members: members},
	}
	t.wire = t.newWire()
	return t
}

// newWire has no connections yet.
func (t *transport) newWire() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return watchFirstReply(t.files.Connect(ctx, t.dialer, network, addr))
		},
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, t.header)
			defer cancel()
			return watchFirstReply(t.files.Dial(ctx, t.dialer, network, addr))
		},
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// carrier is what requests go over at the moment.
func (t *transport) carrier() http.RoundTripper {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wire
}

// closeIdle closes the connections of wire over which no request is under way.
func closeIdle(wire http.RoundTripper) { (&http.Client{Transport: wire}).CloseIdleConnections() }

// authenticate sends the password along (RFC 7617).
func (t *transport) authenticate(request *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.username != "" {
		request.SetBasicAuth(t.username, t.password)
	}
}

// renew has all that follows go over the connections of another transport, with its password.
func (t *transport) renew(by *transport) {
	t.mu.Lock()
	former := t.wire
	t.wire, t.password = by.wire, by.password
	t.mu.Unlock()
	closeIdle(former) // those in use go by IdleConnTimeout afterwards
}

// number is that in a header; 0: there is none.
func number(reply *http.Response, header string) uint64 {
	n, _ := strconv.ParseUint(reply.Header.Get(header), 10, 64)
	return n
}

// CancelRequest is never called; client/v2 wants it.
func (t *transport) CancelRequest(*http.Request) {}

// RoundTrip carries client/v2's requests.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	at := member(request)
	if err := t.skip(at); err != nil {
		return nil, err
	}
	begun := time.Now()
	request = request.Clone(request.Context())
	t.authenticate(request)
	response, err := t.send(request)
	if err != nil {
		t.forgive()
		if time.Since(begun) > min(t.header, t.connect)*3/4 { // client/v2 or the dialer has lost patience
			t.avoid(at)
		}
		return nil, err
	}
	response.Body.(*body).silence, response.Body.(*body).hung = t.header, func() { t.avoid(at) }
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reply = reply{member: at, cluster: response.Header.Get(clusterHeader), term: number(response, termHeader)}
	return response, nil
}

// last is the last reply.
func (t *transport) last() reply {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reply
}

// take names the member that gave the last reply, and whether it is the first
// to do so since that reply.
func (t *transport) take() (member string, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh = t.reply.member != "" && !t.reply.taken
	t.reply.taken = true
	return t.reply.member, fresh
}

// member is the URL of the member that a request goes to.
func member(request *http.Request) string {
	u, _, _ := strings.Cut(request.URL.String(), "/v2/keys")
	return u
}

// send carries one request. Redirects are not followed: etcd sends none, and
// they would take the password along.
func (t *transport) send(request *http.Request) (*http.Response, error) {
	response, err := t.carrier().RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", member(request), t.explain(request, err))
	}
	if err := vet(response); err != nil {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %w", member(request), err)
	}
	response.Body = &body{
		member: member(request), rest: t.longest,
		document: newClip(response.Body, subnet.LongestValue), Closer: response.Body,
	}
	return response, nil
}

// ErrNotServed says that an endpoint knows nothing of the v2 API.
var ErrNotServed = errors.New("does not serve etcd's v2 API")

// vet says what is wrong with a reply as a whole.
func vet(r *http.Response) error {
	fromEtcd := r.Header.Get(clusterHeader) != ""
	if fromEtcd && (r.StatusCode/100 == 2 || r.StatusCode/100 == 4) {
		return nil
	}
	begin, _ := io.ReadAll(io.LimitReader(r.Body, 1000))
	said := fmt.Sprintf("HTTP %d %q", r.StatusCode, firstLine(string(begin)))
	var e client.Error
	switch {
	case r.StatusCode/100 == 3:
		return fmt.Errorf("sends elsewhere, to %q: if that is right, name it as endpoint", r.Header.Get("Location"))
	case isNoCall(r), r.StatusCode == http.StatusHTTPVersionNotSupported, r.StatusCode == http.StatusUpgradeRequired:
		return fmt.Errorf("%w (%s)", errOnlyGRPC, said)
	case r.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%w (%s): start etcd with --enable-v2, which 3.4 and 3.5 have and later releases do not",
			ErrNotServed, said)
	case json.Unmarshal(begin, &e) == nil && e.Code > 0:
		return fmt.Errorf("cannot answer: %s", inWords(e))
	case fromEtcd || r.StatusCode/100 == 5:
		return fmt.Errorf("cannot answer: %s", said)
	}
	return fmt.Errorf("is not etcd (%s)", said)
}

// firstLine is the first line of a text, or the beginning of it.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line[:min(len(line), 100)]
}
