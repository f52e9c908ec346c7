package check

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/status"
)

// A file may hold a chain: what ends first counts.
func TestCertificate(t *testing.T) {
	now := time.Now()
	ca := lab.NewCA(t, "ca")
	cert := ca.Between("client", now.Add(-time.Hour), now.Add(time.Hour))
	write := func(name string, parts ...string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(strings.Join(parts, "")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	content := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, tt := range []struct {
		name, file string
		ends       time.Time // zero: an error
	}{
		{"one", cert.CertFile, now.Add(time.Hour)},
		{"a chain", write("chain.pem", "a comment\n", content(ca.File), content(cert.CertFile)), now.Add(time.Hour)},
		{"a key", cert.KeyFile, time.Time{}},
		{"nonsense", write("x.pem", "?"), time.Time{}},
		{"no file", "/run/no.pem", time.Time{}},
	} {
		c := (&Facts{}).certificate(tt.file)
		if c.File != tt.file || (c.Err == nil) != !tt.ends.IsZero() || c.Err == nil && tt.ends.Sub(c.NotAfter).Abs() > 2*time.Second {
			t.Errorf("%s: %+v", tt.name, c)
		}
	}
}

// Members tell their time, and show their certificate to whom they know.
func TestMembers(t *testing.T) {
	now := time.Now()
	ca := lab.NewCA(t, "ca")
	client := ca.Client("client", time.Hour)
	pair, err := tls.LoadX509KeyPair(client.CertFile, client.KeyFile) // will do for a server
	if err != nil {
		t.Fatal(err)
	}
	dated := func(at time.Time) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Date"] = nil
			if !at.IsZero() {
				w.Header().Set("Date", at.UTC().Format(http.TimeFormat))
			}
		}
	}
	secure := httptest.NewUnstartedServer(dated(now.Add(time.Hour)))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert}
	secure.StartTLS()
	defer secure.Close()
	silent := httptest.NewServer(dated(time.Time{}))
	defer silent.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	f := Facts{Status: &status.Status{Etcd: status.Etcd{Endpoints: []string{secure.URL, silent.URL, gone.URL, "http://[bad"}, CertFile: client.CertFile, KeyFile: client.KeyFile, CAFile: ca.File}}}
	f.readCertificates()
	f.readMembers(t.Context())
	if len(f.Certificates) != 2 || f.Certificates[0].Err != nil || f.Certificates[1].Err != nil {
		t.Errorf("%+v", f.Certificates)
	}
	first := f.Members[0]
	if first.Err != nil || first.URL != secure.URL || (first.Ahead-time.Hour).Abs() > time.Minute || first.Certificate == nil || (first.Certificate.NotAfter.Sub(now)-time.Hour).Abs() > time.Minute {
		t.Errorf("%+v", first)
	}
	if x := f.Members[1]; x.Err == nil || !strings.Contains(x.Err.Error(), "does not tell the time") {
		t.Errorf("%+v", x)
	}
	for _, x := range f.Members[2:] {
		if x.Err == nil {
			t.Errorf("%+v", x)
		}
	}
}
