package etcdtest

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet/etcdconn"
)

// tls has clients that a server refuses, and servers that a client refuses.
func (s Suite) tls(t *testing.T) {
	ca, other := lab.NewCA(t, "ca"), lab.NewCA(t, "other")
	etcd := s.newest(t, func(o *lab.EtcdOptions) { o.TLS = ca })
	secure, plain := etcd.Endpoints()[0], s.newest(t, nil).Endpoints()[0]
	good, expired := ca.Client("client", time.Hour), ca.Client("expired", -time.Hour)
	foreign := other.Client("foreign", time.Hour)
	const notTLS = "closes the connection without an answer; is it http:// or https://?"
	for _, tt := range []struct {
		name     string
		endpoint string
		ca       string
		cert     lab.Cert
		says     []string
	}{
		{"another CA", secure, other.File, good, []string{
			"none of the authorities in the CA file " + other.File + " has signed its certificate",
		}},
		{"no CA file", secure, "", good, []string{
			"no authority that this system knows has signed its certificate; name the cluster's by --etcd-cafile",
		}},
		{"no client certificate", secure, ca.File, lab.Cert{}, []string{
			"demands a client certificate; name it by --etcd-certfile and --etcd-keyfile",
		}},
		{"a client certificate of another CA", secure, ca.File, foreign, []string{
			"refuses the client certificate " + foreign.CertFile,
		}},
		{"an expired client certificate", secure, ca.File, expired, []string{
			"refuses the client certificate " + expired.CertFile, "it expired on 20",
		}},
		{"http for https", "http" + strings.TrimPrefix(secure, "https"), "", lab.Cert{}, []string{notTLS}},
		{"https for http", "https" + strings.TrimPrefix(plain, "http"), "", lab.Cert{}, []string{notTLS}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := etcdconn.Config{
				Endpoints: []string{tt.endpoint}, CAFile: tt.ca, CertFile: tt.cert.CertFile, KeyFile: tt.cert.KeyFile,
			}
			for range 20 { // the refusal of a certificate comes after the handshake
				r := Open(t, c, s.New)
				_, err := r.List(t.Context())
				WantError(t, err, append(tt.says, "list "+Prefix+": "+tt.endpoint+": ")...)
				r.Close()
			}
		})
	}
}

// copyFile puts a file in another one's place.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// appendFile adds a file to the end of another one.
func appendFile(t testing.TB, from, to string) {
	t.Helper()
	var whole []byte
	for _, file := range []string{to, from} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, content...)
	}
	if err := os.WriteFile(to, whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

// tlsFilesAreReplaced fixes one file after the other, while the client runs.
func (s Suite) tlsFilesAreReplaced(t *testing.T) {
	ca, other := lab.NewCA(t, "ca"), lab.NewCA(t, "other")
	etcd := s.newest(t, func(o *lab.EtcdOptions) { o.TLS = ca })
	good, expired := ca.Client("client", time.Hour), ca.Client("expired", -time.Hour)
	dir := t.TempDir()
	c := etcdconn.Config{
		Endpoints: etcd.Endpoints(),
		CAFile:    filepath.Join(dir, "ca.pem"),
		CertFile:  filepath.Join(dir, "client.pem"),
		KeyFile:   filepath.Join(dir, "client-key.pem"),
	}
	copyFile(t, other.File, c.CAFile)
	copyFile(t, expired.CertFile, c.CertFile)
	copyFile(t, expired.KeyFile, c.KeyFile)
	r := Open(t, c, s.New)
	soonSays := func(what string) {
		t.Helper()
		lab.Eventually(t, Patience, "an error about "+what, func() error {
			_, err := r.List(t.Context())
			if err == nil || !strings.Contains(err.Error(), what) {
				return fmt.Errorf("it is: %w", err)
			}
			return nil
		})
	}
	soonSays(c.CAFile)
	copyFile(t, ca.File, c.CAFile)
	soonSays(c.CertFile)
	copyFile(t, good.CertFile, c.CertFile)
	soonSays("private key does not match public key")
	copyFile(t, good.KeyFile, c.KeyFile)
	lab.Eventually(t, Patience, "a list", func() error { _, err := r.List(t.Context()); return err })
	w := Follow(t, r, List(t, r).Index).Stands()
	etcd.Set(Prefix+"/config", "a")
	w.Next("a")
	w.End()
}

// serverCertificates meets servers whose certificates are not theirs.
func (s Suite) serverCertificates(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	for _, tt := range []struct {
		cert lab.Cert
		says string
	}{
		{ca.Server("expired", -time.Hour, "127.0.0.1"), "its own certificate has expired, or a clock is wrong: current time"},
		{ca.Server("elsewhere", time.Hour, "127.0.0.9"), "certificate is valid for 127.0.0.9, not 127.0.0.1"},
	} {
		pair, err := tls.LoadX509KeyPair(tt.cert.CertFile, tt.cert.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		_, err = Open(t, etcdconn.Config{Endpoints: []string{server.URL}, CAFile: ca.File}, s.New).List(t.Context())
		WantError(t, err, server.URL+": ", tt.says)
		server.Close()
	}
}

// refusals are configurations that cannot work, and are refused at once.
func (s Suite) refusals(t *testing.T) {
	for says, c := range map[string]etcdconn.Config{
		"endpoints": {},
		"etcd endpoint 2 of 2 is not of the form": {Endpoints: []string{"http://127.0.0.1:1", "127.0.0.1:2"}},
		"read the CA file of etcd": {
			Endpoints: []string{"http://127.0.0.1:1", "https://127.0.0.1:2"}, CAFile: "/absent.pem",
		},
		"open /absent.pem": {Endpoints: []string{"http://127.0.0.1:1"}, CAFile: "/absent.pem"}, // though of no use
	} {
		_, err := s.New(c)
		WantError(t, err, says)
	}
}
