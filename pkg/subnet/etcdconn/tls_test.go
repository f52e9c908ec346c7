package etcdconn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet/etcdconn"
)

func TestBadTLSFiles(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	a, b := ca.Client("a", time.Hour), ca.Client("b", time.Hour)
	dir := t.TempDir()
	absent, garbage, wrong := filepath.Join(dir, "absent.pem"), filepath.Join(dir, "garbage.pem"), filepath.Join(dir, "wrong.pem")
	for path, content := range map[string]string{garbage: "hello", wrong: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		config etcdconn.Config
		says   []string
	}{
		{"no CA file", etcdconn.Config{CAFile: absent}, []string{"read the CA file of etcd: open " + absent + ": no such file or directory"}},
		{"a folder", etcdconn.Config{CAFile: dir}, []string{"CA file of etcd", dir + ": is a directory"}},
		{"the CA file is something else", etcdconn.Config{CAFile: garbage}, []string{"the CA file of etcd, " + garbage + ", is not a PEM file"}},
		{"the CA file holds nonsense", etcdconn.Config{CAFile: wrong}, []string{"the CA file of etcd, " + wrong + ", holds no certificate"}},
		{"no certificate", etcdconn.Config{CertFile: absent, KeyFile: a.KeyFile}, []string{"read the client certificate for etcd: open " + absent}},
		{"no key", etcdconn.Config{CertFile: a.CertFile, KeyFile: absent}, []string{"read the client key for etcd: open " + absent}},
		{"the certificate is something else", etcdconn.Config{CertFile: garbage, KeyFile: a.KeyFile}, []string{"the client certificate for etcd, " + garbage + ", is not a PEM file"}},
		{"the key is something else", etcdconn.Config{CertFile: a.CertFile, KeyFile: garbage}, []string{"the client key for etcd, " + garbage + ", is not a PEM file"}},
		{"the certificate holds nonsense", etcdconn.Config{CertFile: wrong, KeyFile: a.KeyFile}, []string{wrong, a.KeyFile, "malformed certificate"}},
		{"another one's key", etcdconn.Config{CertFile: a.CertFile, KeyFile: b.KeyFile}, []string{a.CertFile, b.KeyFile, "private key does not match public key"}},
		{"swapped", etcdconn.Config{CertFile: a.KeyFile, KeyFile: a.CertFile}, []string{a.CertFile, a.KeyFile, "PEM inputs may have been switched"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Endpoints = []string{"http://127.0.0.1:1", "https://127.0.0.1:2"}
			etcdtest.WantError(t, tt.config.Check(), tt.says...)
			_, err := tt.config.Files().Dial(t.Context(), etcdconn.Dialer(time.Second, time.Second), "tcp", "127.0.0.1:2") // replaced since
			etcdtest.WantError(t, err, tt.says...)
			tt.config.Endpoints = tt.config.Endpoints[:1]
			etcdtest.WantError(t, tt.config.Check(), append(tt.says, "no endpoint of etcd is https")...) // as for flannel
		})
	}
}

// serve starts a server that wants client certificates of an authority, and
// speaks up to this version of TLS.
func serve(t *testing.T, ca *lab.CA, own lab.Cert, version uint16) (address string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(own.CertFile, own.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: version, NextProtos: []string{"one", "two"},
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// TestExplain meets what can be wrong with either side's certificate.
func TestExplain(t *testing.T) {
	ca, other := lab.NewCA(t, "ca"), lab.NewCA(t, "other")
	server := ca.Server("server", time.Hour, "127.0.0.1")
	good, expired, foreign := ca.Client("good", time.Hour), ca.Client("expired", -time.Hour), other.Client("foreign", time.Hour)
	for _, tt := range []struct {
		name   string
		server lab.Cert
		ca     string
		client lab.Cert
		says   string // "": nothing is wrong
	}{
		{"all is well", server, ca.File, good, ""},
		{"another authority", server, other.File, good, "none of the authorities in the CA file " + other.File + " has signed its certificate ("},
		{"no authority", server, "", good, "no authority that this system knows has signed its certificate; name the cluster's by --etcd-cafile ("},
		{"the server's has expired", ca.Server("old", -time.Hour, "127.0.0.1"), ca.File, good, "its own certificate has expired, or a clock is wrong: current time "},
		{"the server's is for elsewhere", ca.Server("else", time.Hour, "127.0.0.9"), ca.File, good, "certificate is valid for 127.0.0.9, not 127.0.0.1"},
		{"no client certificate", server, ca.File, lab.Cert{}, "it demands a client certificate; name it by --etcd-certfile and --etcd-keyfile ("},
		{"a foreign client certificate", server, ca.File, foreign, "it refuses the client certificate " + foreign.CertFile + " ("},
		{"an expired client certificate", server, ca.File, expired, ": it expired on 20"},
	} {
		for version, name := range map[uint16]string{tls.VersionTLS12: "TLS 1.2", tls.VersionTLS13: "TLS 1.3"} {
			t.Run(tt.name+" by "+name, func(t *testing.T) {
				files := etcdconn.Files{CA: tt.ca, Cert: tt.client.CertFile, Key: tt.client.KeyFile}
				conn, err := files.Dial(t.Context(), etcdconn.Dialer(time.Minute, time.Minute), "tcp", serve(t, ca, tt.server, version))
				if err == nil { // in TLS 1.3 the server judges afterwards
					defer conn.Close()
					if _, err = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err == nil {
						_, err = conn.Read(make([]byte, 1))
					}
				}
				if tt.says == "" && err == nil {
					return
				}
				etcdtest.WantError(t, files.Explain(err), tt.says)
			})
		}
	}
}

// TestRefusalReachesTheWriter has a client's certificate refused when only its
// reader listens: who writes afterwards must hear the reason too.
func TestRefusalReachesTheWriter(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	files := etcdconn.Files{CA: ca.File}
	at := serve(t, ca, ca.Server("server", time.Hour, "127.0.0.1"), tls.VersionTLS13)
	conn, err := files.Dial(t.Context(), etcdconn.Dialer(time.Minute, time.Minute), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Fatal("not refused")
	}
	for err == nil { // the first writes may still go into a buffer
		_, err = io.WriteString(conn, "hello")
	}
	etcdtest.WantError(t, files.Explain(err), "it demands a client certificate")
}

// TestProtocols agrees on one.
func TestProtocols(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	good := ca.Client("good", time.Hour)
	files := etcdconn.Files{CA: ca.File, Cert: good.CertFile, Key: good.KeyFile}
	at := serve(t, ca, ca.Server("server", time.Hour, "127.0.0.1"), tls.VersionTLS13)
	conn, err := files.Dial(t.Context(), etcdconn.Dialer(time.Minute, time.Minute), "tcp", at, "two", "three")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState().NegotiatedProtocol; got != "two" {
		t.Errorf("agreed on %q", got)
	}
}

// TestNobodyThere has no TLS at the other end.
func TestNobodyThere(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := etcdconn.Files{}.Dial(ctx, etcdconn.Dialer(time.Minute, time.Minute), "tcp", mute.Addr().String())
		done <- err
	}()
	conn, err := mute.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel() // in the middle of the handshake
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a handshake that was given up: %v", err)
	}
	mute.Close()
	_, err = etcdconn.Files{}.Dial(t.Context(), etcdconn.Dialer(time.Minute, time.Minute), "tcp", mute.Addr().String())
	if err = (etcdconn.Files{}).Explain(err); !errors.Is(err, syscall.ECONNREFUSED) || err.Error() != "connect: connection refused" {
		t.Errorf("nobody there: %v", err)
	}
	etcdtest.WantError(t, etcdconn.Files{}.Explain(io.EOF), "it closes the connection without an answer; is it http:// or https://?")
	if _, err = (etcdconn.Files{}).Dial(t.Context(), etcdconn.Dialer(time.Minute, time.Minute), "tcp", "127.0.0.1"); err == nil {
		t.Error("dialled without a port")
	}
	if other := errors.New("another"); (etcdconn.Files{}).Explain(other) != other {
		t.Error("something else is not left as it is")
	}
}
