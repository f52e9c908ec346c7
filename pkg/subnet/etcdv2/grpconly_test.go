package etcdv2

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet/etcdconn"
)

// sends is the address of a server that sends these pieces to whoever connects.
func sends(t *testing.T, pieces ...string) string {
	t.Helper()
	return etcdtest.Listen(t, func(conn *net.TCPConn) {
		for _, piece := range pieces {
			_, _ = io.WriteString(conn, piece)
			time.Sleep(10 * time.Millisecond)
		}
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	})
}

// TestWhatIsNotHTTP1 has servers that are no HTTP/1, and tells those apart that
// speak another protocol from those that say nothing.
func TestWhatIsNotHTTP1(t *testing.T) {
	const settings = "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00"
	files := etcdconn.Config{CAFile: lab.NewCA(t, "ca").File}
	for _, tt := range []struct {
		name      string
		scheme    string
		pieces    []string
		notServed bool
		says      string
	}{
		{"settings", "http", []string{settings}, true, "does not serve etcd's v2 API, as it speaks gRPC alone: name one of"},
		{"settings in pieces", "http", []string{settings[:1], settings[1:8], settings[8:]}, true, "gRPC alone"},
		{"no settings", "http", []string{"\x00\x00\x00\x04\x00\x00\x00\x00\x00"}, true, "gRPC alone"},
		{"another frame", "http", []string{"\x00\x00\x06\x07" + settings[4:]}, false, ""},
		{"a part of a frame", "http", []string{settings[:8]}, false, ""},
		{"nothing", "http", nil, false, "closes the connection without an answer"},
		{"no common protocol", "https", []string{"\x15\x03\x03\x00\x02\x02\x78"}, true, "wants another protocol than HTTP/1"},
		{"nothing by TLS", "https", nil, false, "closes the connection without an answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := files
			c.Endpoints = []string{tt.scheme + "://" + sends(t, tt.pieces...)}
			_, err := etcdtest.Open(t, c, New).List(t.Context())
			etcdtest.WantError(t, err, c.Endpoints[0], tt.says)
			if errors.Is(err, ErrNotServed) != tt.notServed {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestProxiedGRPC has proxies that answer by HTTP/1 for what speaks none.
func TestProxiedGRPC(t *testing.T) {
	for _, tt := range []struct {
		status    int
		grpc      string
		notServed bool
	}{
		{http.StatusUnsupportedMediaType, "13", true}, {http.StatusMethodNotAllowed, "13", true},
		{http.StatusUpgradeRequired, "", true}, {http.StatusHTTPVersionNotSupported, "", true},
		{http.StatusUnsupportedMediaType, "", false}, {http.StatusServiceUnavailable, "14", false},
	} {
		s := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if tt.grpc != "" {
				w.Header().Set("Grpc-Status", tt.grpc)
			}
			w.WriteHeader(tt.status)
		})
		_, err := etcdtest.Open(t, etcdconn.Config{Endpoints: []string{s.URL}}, New).List(t.Context())
		if err == nil || errors.Is(err, ErrNotServed) != tt.notServed {
			t.Errorf("HTTP %d, grpc-status %q: %v", tt.status, tt.grpc, err)
		}
	}
}
