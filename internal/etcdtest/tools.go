package etcdtest

import (
	"net"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

const (
	Prefix   = "/coreos.com/network"
	Lease    = "subnets/172.7.21.0-24" // below it
	Patience = 30 * time.Second        // for what should take much less

	promptly = 10 * time.Second // for what must not wait for a call's deadline of 20
)

// Open makes a Registry that ends with t. Without a prefix it is one over [Prefix].
func Open[R Registry](t testing.TB, c etcdconn.Config, client func(etcdconn.Config) (R, error)) R {
	t.Helper()
	if c.Prefix == "" {
		c.Prefix = Prefix
	}
	r, err := client(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// WantError fails the test unless an error is one line that contains all of
// these, and not the password of the tests.
func WantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error\n%v\nlacks %q", err, part)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r") || strings.Contains(err.Error(), password) {
		t.Errorf("error %q", err)
	}
}

func List(t testing.TB, r subnet.Registry) subnet.Snapshot {
	t.Helper()
	s, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func Put(t testing.TB, r subnet.Registry, e subnet.Entry) subnet.Entry {
	t.Helper()
	stored, err := r.Put(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// Listen hands every connection to serve, and closes it then. It returns the
// address, and ends with t.
func Listen(t testing.TB, serve func(*net.TCPConn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}
