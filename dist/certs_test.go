package dist_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func makeCerts(t *testing.T, shell []string, dir string, args ...string) result {
	t.Helper()
	return run(t, dir, nil, append(append(append([]string{}, shell...), source(t, "certs.sh")), args...)...)
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(read(t, path)))
	if block == nil {
		t.Fatalf("%s is not PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestCertsVerify judges the certificates as flanneld and etcd do.
func TestCertsVerify(t *testing.T) {
	need(t, "openssl", "openssl")
	eachShell(t, func(t *testing.T, shell []string) {
		dir := t.TempDir()
		if r := makeCerts(t, shell, dir, "10.4.7.12", "10.4.7.21,hdss7-21,fd00::21"); r.code != 0 {
			t.Fatal(r)
		}
		want := "ca-key.pem ca.pem client-key.pem client.pem " +
			"server-10.4.7.12-key.pem server-10.4.7.12.pem server-10.4.7.21-key.pem server-10.4.7.21.pem"
		dir = filepath.Join(dir, "cert")
		if got := names(t, dir); got != want {
			t.Fatalf("made %s", got)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the folder: %v, %v", info.Mode(), err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(certificate(t, filepath.Join(dir, "ca.pem")))
		for _, tc := range []struct {
			name  string
			use   x509.ExtKeyUsage
			hosts []string
			ok    bool
		}{
			{"client", x509.ExtKeyUsageClientAuth, nil, true},
			{"client", x509.ExtKeyUsageServerAuth, nil, false},
			{"server-10.4.7.12", x509.ExtKeyUsageServerAuth, []string{"10.4.7.12", "127.0.0.1", "localhost"}, true},
			{"server-10.4.7.12", x509.ExtKeyUsageServerAuth, []string{"10.4.7.21"}, false},
			{"server-10.4.7.21", x509.ExtKeyUsageServerAuth, []string{"10.4.7.21", "hdss7-21", "fd00::21"}, true},
			{"server-10.4.7.21", x509.ExtKeyUsageClientAuth, nil, true}, // members call each other
		} {
			path := filepath.Join(dir, tc.name+".pem")
			cert := certificate(t, path)
			if _, err := tls.LoadX509KeyPair(path, filepath.Join(dir, tc.name+"-key.pem")); err != nil {
				t.Errorf("%s and its key: %v", tc.name, err)
			}
			_, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{tc.use}})
			for _, host := range tc.hosts {
				if err == nil {
					err = cert.VerifyHostname(host)
				}
			}
			if (err == nil) != tc.ok {
				t.Errorf("%s for %v at %v: %v", tc.name, tc.use, tc.hosts, err)
			}
			if valid := cert.NotAfter.Sub(cert.NotBefore); valid != 3650*24*time.Hour {
				t.Errorf("%s is valid for %v", tc.name, valid)
			}
		}
		for name := range strings.FieldsSeq(want) {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || strings.HasSuffix(name, "-key.pem") && info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v", name, info.Mode(), err)
			}
		}
	})
}

// TestCertsKeepsWhatExists: a second run adds, and never replaces.
func TestCertsKeepsWhatExists(t *testing.T) {
	need(t, "openssl", "openssl")
	eachShell(t, func(t *testing.T, shell []string) {
		dir := t.TempDir()
		snapshot := func() string {
			var all []string
			for name := range strings.FieldsSeq(names(t, dir)) {
				all = append(all, name, read(t, filepath.Join(dir, name)))
			}
			return strings.Join(all, "\n")
		}
		if r := makeCerts(t, shell, dir, "-d", ".", "-t", "30", "10.4.7.12"); r.code != 0 {
			t.Fatal(r)
		}
		first := snapshot()
		if r := makeCerts(t, shell, dir, "-d", ".", "10.4.7.12"); r.code != 0 || snapshot() != first {
			t.Errorf("the second run changed something: %+v", r)
		}
		if r := makeCerts(t, shell, dir, "-d", ".", "10.4.7.12", "hdss7-22"); r.code != 0 {
			t.Fatal(r)
		}
		ca := certificate(t, filepath.Join(dir, "ca.pem"))
		if err := certificate(t, filepath.Join(dir, "server-hdss7-22.pem")).CheckSignatureFrom(ca); err != nil {
			t.Errorf("the server added later: %v", err)
		}

		// Half a pair: neither is replaced, and the message names the half.
		if err := os.Remove(filepath.Join(dir, "ca-key.pem")); err != nil {
			t.Fatal(err)
		}
		before := snapshot()
		r := makeCerts(t, shell, dir, "-d", ".", "10.4.7.99")
		if r.code != 1 || !strings.Contains(r.stderr, "./ca.pem exists without the other half") || snapshot() != before {
			t.Errorf("without the CA's key: %+v, now %s", r, names(t, dir))
		}
	})
}

func TestCertsRefuses(t *testing.T) {
	need(t, "openssl", "openssl")
	eachShell(t, func(t *testing.T, shell []string) {
		dir := t.TempDir()
		for _, server := range []string{"", "../x", "a/b", "a b", "a\nCA:TRUE", "$(touch x)", ",a", "a,", "a,,b", ".", "*"} {
			if r := makeCerts(t, shell, dir, server); r.code != 1 || !strings.Contains(r.stderr, "not a list of host names") {
				t.Errorf("server %q: %+v", server, r)
			}
		}
		for _, args := range [][]string{{"-h"}, {"-x"}, {"-d"}, {"-t"}} {
			if r := makeCerts(t, shell, dir, args...); r.code != 1 || !strings.Contains(r.stderr, "usage: certs.sh [-d dir]") {
				t.Errorf("%q: %+v", args, r)
			}
		}
		if r := makeCerts(t, shell, dir, "-t", "1y"); r.code != 1 || !strings.Contains(r.stderr, "not a number of days") {
			t.Errorf("-t 1y: %+v", r)
		}
		if left := names(t, dir); left != "" {
			t.Errorf("made %s", left)
		}
		// What only openssl can judge: its words are passed on, nothing is left half done.
		if r := makeCerts(t, shell, dir, "999.1.1.1"); r.code != 1 || !strings.Contains(r.stderr, "bad ip address") {
			t.Errorf("999.1.1.1: %+v", r)
		}
		if left := names(t, filepath.Join(dir, "cert")); left != "ca-key.pem ca.pem client-key.pem client.pem" {
			t.Errorf("left behind %s", left)
		}
	})
}
