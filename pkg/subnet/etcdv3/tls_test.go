package etcdv3

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
)

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

func TestTLS(t *testing.T) {
	ca, other := lab.NewCA(t, "ca"), lab.NewCA(t, "other")
	etcd := startEtcd(t, lab.EtcdOptions{TLS: ca, Newest: true})
	plain := lab.StartEtcd(t, lab.EtcdOptions{})
	good, expired, foreign := ca.Client("client", time.Hour), ca.Client("expired", -time.Hour), other.Client("foreign", time.Hour)
	https := func(ca *lab.CA, cert lab.Cert) Config {
		c := Config{Endpoints: etcd.Endpoints(), CertFile: cert.CertFile, KeyFile: cert.KeyFile}
		if ca != nil {
			c.CAFile = ca.File
		}
		return c
	}
	for _, tt := range []struct {
		name   string
		config Config
		says   []string
	}{
		{"another CA", https(other, good), []string{"none of the authorities in the CA file " + other.File + " has signed its certificate"}},
		{"no CA file", https(nil, good), []string{"no authority that this system knows has signed its certificate; name the cluster's by --etcd-cafile"}},
		{"no client certificate", https(ca, lab.Cert{}), []string{"demands a client certificate; name it by --etcd-certfile and --etcd-keyfile"}},
		{"a client certificate of another CA", https(ca, foreign), []string{"refuses the client certificate " + foreign.CertFile}},
		{"an expired client certificate", https(ca, expired), []string{"refuses the client certificate " + expired.CertFile, "it expired on 20"}},
		{"http for https", Config{Endpoints: []string{"http" + etcd.Endpoints()[0][len("https"):]}}, []string{"closes the connection without an answer; is it http:// or https://?"}},
		{"https for http", Config{Endpoints: []string{"https" + plain.Endpoints()[0][len("http"):]}}, []string{"closes the connection without an answer; is it http:// or https://?"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 20 { // the refusal of a certificate comes after the handshake
				r := open(t, tt.config)
				_, err := r.List(t.Context())
				saysWhat(t, err, append(tt.says, "list "+prefix+": "+tt.config.Endpoints[0]+": ")...)
				r.Close()
			}
		})
	}

	t.Run("files replaced while it runs", func(t *testing.T) {
		dir := t.TempDir()
		c := Config{
			Endpoints: etcd.Endpoints(),
			CAFile:    filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "client.pem"), KeyFile: filepath.Join(dir, "client-key.pem"),
		}
		copyFile(t, other.File, c.CAFile)
		copyFile(t, expired.CertFile, c.CertFile)
		copyFile(t, expired.KeyFile, c.KeyFile)
		r := open(t, c)
		soonSays := func(what string) {
			t.Helper()
			lab.Eventually(t, patience, "an error about "+what, func() error {
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
		lab.Eventually(t, patience, "a list", func() error { _, err := r.List(t.Context()); return err })
		w := follow(t, r, list(t, r).Index).stands()
		etcd.Set(prefix+"/config", "a")
		w.next("a")
		w.end()
	})
}

// TestServerCertificates meets servers whose certificates are not theirs.
func TestServerCertificates(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	for _, tt := range []struct {
		name string
		cert lab.Cert
		says string
	}{
		{"expired", ca.Server("expired", -time.Hour, "127.0.0.1"), "its own certificate has expired, or a clock is wrong: current time"},
		{"elsewhere", ca.Server("elsewhere", time.Hour, "127.0.0.9"), "certificate is valid for 127.0.0.9, not 127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pair, err := tls.LoadX509KeyPair(tt.cert.CertFile, tt.cert.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			server.Config.ErrorLog = log.New(io.Discard, "", 0)
			server.TLS.NextProtos = []string{"h2"}
			server.StartTLS()
			defer server.Close()
			_, err = open(t, Config{Endpoints: []string{server.URL}, CAFile: ca.File}).List(t.Context())
			saysWhat(t, err, server.URL+": ", tt.says)
		})
	}
}

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
		config Config
		says   []string
	}{
		{"no CA file", Config{CAFile: absent}, []string{"read the CA file of etcd: open " + absent + ": no such file or directory"}},
		{"a folder", Config{CAFile: dir}, []string{"CA file of etcd", dir + ": is a directory"}},
		{"the CA file is something else", Config{CAFile: garbage}, []string{"the CA file of etcd, " + garbage + ", is not a PEM file"}},
		{"the CA file holds nonsense", Config{CAFile: wrong}, []string{"the CA file of etcd, " + wrong + ", holds no certificate"}},
		{"no certificate", Config{CertFile: absent, KeyFile: a.KeyFile}, []string{"read the client certificate for etcd: open " + absent}},
		{"no key", Config{CertFile: a.CertFile, KeyFile: absent}, []string{"read the client key for etcd: open " + absent}},
		{"the certificate is something else", Config{CertFile: garbage, KeyFile: a.KeyFile}, []string{"the client certificate for etcd, " + garbage + ", is not a PEM file"}},
		{"the key is something else", Config{CertFile: a.CertFile, KeyFile: garbage}, []string{"the client key for etcd, " + garbage + ", is not a PEM file"}},
		{"the certificate holds nonsense", Config{CertFile: wrong, KeyFile: a.KeyFile}, []string{wrong, a.KeyFile, "malformed certificate"}},
		{"another one's key", Config{CertFile: a.CertFile, KeyFile: b.KeyFile}, []string{a.CertFile, b.KeyFile, "private key does not match public key"}},
		{"swapped", Config{CertFile: a.KeyFile, KeyFile: a.CertFile}, []string{a.CertFile, a.KeyFile, "PEM inputs may have been switched"}},
	} {
		tt.config.Endpoints = []string{"http://127.0.0.1:1", "https://127.0.0.1:2"}
		_, err := New(tt.config)
		saysWhat(t, err, tt.says...)
		tt.config.Endpoints = tt.config.Endpoints[:1]
		if _, err := New(tt.config); err != nil {
			t.Errorf("%s: without https: %v", tt.name, err)
		}
	}
}

func TestBadEndpoints(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:2379", "http://", "ftp://127.0.0.1", "http://u:s3cret@127.0.0.1:2379", "http://u:s3cret", "http://u:%s3cret@h", ""} {
		_, err := New(Config{Endpoints: []string{"http://127.0.0.1:2379", endpoint}})
		saysWhat(t, err, "etcd endpoint 2 of 2 is not of the form https://10.4.7.12:2379")
	}
	_, err := New(Config{})
	saysWhat(t, err, "endpoints")
}
