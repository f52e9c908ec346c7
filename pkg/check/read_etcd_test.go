package check

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
	"flanneld/pkg/condition"
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

// TestTroubles has servers that do not answer as flanneld asks: what is wrong is told by
// the types of errors, and by trying what else there may be.
func TestTroubles(t *testing.T) {
	now := time.Now()
	ca, other := lab.NewCA(t, "ca"), lab.NewCA(t, "other")
	good, stranger := ca.Client("client", time.Hour), other.Client("stranger", time.Hour)
	serve := func(cert *lab.Cert, demands bool) string {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(s.Close)
		if cert == nil {
			s.Start()
			return s.URL
		}
		pair, err := tls.LoadX509KeyPair(cert.CertFile, cert.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		if demands {
			pem, err := os.ReadFile(ca.File)
			if err != nil {
				t.Fatal(err)
			}
			s.TLS.ClientAuth, s.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			s.TLS.ClientCAs.AppendCertsFromPEM(pem)
		}
		s.StartTLS()
		return s.URL
	}
	server := ca.Between("server", now.Add(-time.Hour), now.Add(time.Hour), "127.0.0.1")
	elsewhere := ca.Between("elsewhere", now.Add(-time.Hour), now.Add(time.Hour), "10.9.9.9", "10.9.9.10")
	old := ca.Between("old", now.Add(-2*time.Hour), now.Add(-time.Hour), "127.0.0.1")
	plain, secure, strict := serve(nil, false), serve(&server, false), serve(&server, true)
	gone := httptest.NewServer(nil)
	gone.Close()
	// A server that accepts connections and says nothing, or ends them.
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	sh(t, "ip link set lo up; iptables -A INPUT -p tcp --dport 7777 -j DROP; iptables -A INPUT -p tcp --dport 7778 -j REJECT --reject-with icmp-host-prohibited; "+
		"ip address add 192.0.2.1/24 dev lo; iptables -A INPUT -d 192.0.2.2 -j DROP")
	t.Cleanup(func() { sh(t, "iptables -F; ip address del 192.0.2.1/24 dev lo") })
	schemeless := func(u string) string { _, rest, _ := strings.Cut(u, "://"); return rest }

	for _, tt := range []struct {
		name, url string
		ca        string
		cert      lab.Cert
		want      Trouble
	}{
		{"all is well", secure, ca.File, lab.Cert{}, ""},
		{"and by a client certificate", strict, ca.File, good, ""},
		{"http against https", "http://" + schemeless(secure), ca.File, lab.Cert{}, SpeaksTLS},
		{"http against https that wants a certificate", "http://" + schemeless(strict), ca.File, lab.Cert{}, SpeaksTLS},
		{"https against http", "https://" + schemeless(plain), ca.File, lab.Cert{}, SpeaksPlain},
		{"no authority", secure, "", lab.Cert{}, UnknownSigner},
		{"another authority", secure, other.File, lab.Cert{}, UnknownSigner},
		{"another name", serve(&elsewhere, false), ca.File, lab.Cert{}, OtherName},
		{"an old certificate is another step's", serve(&old, false), ca.File, lab.Cert{}, ""},
		{"no client certificate", strict, ca.File, lab.Cert{}, RefusesClient},
		{"another authority's client certificate", strict, ca.File, stranger, RefusesClient},
		{"nobody listens", gone.URL, ca.File, lab.Cert{}, Refused},
		{"a firewall drops", "http://127.0.0.1:7777", "", lab.Cert{}, Filtered},
		{"a firewall rejects", "http://127.0.0.1:7778", "", lab.Cert{}, Filtered},
		{"the host is down", "http://192.0.2.2:2379", "", lab.Cert{}, Dead},
		{"no route", "http://198.51.100.1:2379", "", lab.Cert{}, NoRoute},
		{"a name without an address", "http://etcd.invalid:2379", "", lab.Cert{}, NoAddress},
		{"a server that hangs", "http://" + mute.Addr().String(), "", lab.Cert{}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := Facts{Status: &status.Status{Etcd: status.Etcd{Endpoints: []string{tt.url}, CAFile: tt.ca, CertFile: tt.cert.CertFile, KeyFile: tt.cert.KeyFile}}}
			is(&f, condition.EtcdUnreadable, "whatever")
			f.readMembers(t.Context())
			m := f.Members[0]
			if m.Trouble != tt.want {
				t.Errorf("%q, %v; want %q", m.Trouble, m.Err, tt.want)
			}
			why, fix := f.fixReads(f.Status.Conditions[0])
			if m.Trouble != "" && (!strings.Contains(why, string(tt.want)) || strings.Contains(strings.Join(fix, ""), "journalctl")) {
				t.Errorf("%s: %q", why, fix)
			}
			if tt.want == OtherName && !slices.Equal(m.Names, []string{"10.9.9.9", "10.9.9.10"}) {
				t.Errorf("%q", m.Names)
			}
		})
	}
}

// Where somebody listens on etcd's own port, that one is meant.
func TestUsualPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:2379")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := Facts{Status: &status.Status{Etcd: status.Etcd{Endpoints: []string{"http://127.0.0.1:4001"}}}}
	is(&f, condition.EtcdUnreadable, "whatever")
	f.readMembers(t.Context())
	if m := f.Members[0]; m.Trouble != Refused || !m.UsualPort {
		t.Errorf("%+v", m)
	}
}

// Files are looked at as the daemon sees them, and a key must belong to its certificate.
func TestDaemonsFiles(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	a, b := ca.Client("a", time.Hour), ca.Client("b", time.Hour)
	read := func(u user, cert, key string) (errs []error) {
		f := Facts{PID: os.Getpid(), user: u, Status: &status.Status{Etcd: status.Etcd{CertFile: cert, KeyFile: key, CAFile: ca.File}}}
		f.readCertificates()
		for _, c := range f.Certificates {
			if c.Err != nil {
				errs = append(errs, c.Err)
			}
		}
		return errs
	}
	if err := os.Chmod(a.CertFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(ca.File, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(a.KeyFile, 0o600); err != nil {
		t.Fatal(err)
	}
	if errs := read(user{}, a.CertFile, a.KeyFile); errs != nil {
		t.Error(errs)
	}
	if errs := read(user{limited: true, uid: os.Getuid()}, a.CertFile, a.KeyFile); errs != nil {
		t.Error(errs)
	}
	if errs := read(user{limited: true, uid: 977, groups: []int{977}}, a.CertFile, a.KeyFile); len(errs) != 1 || !errors.Is(errs[0], fs.ErrPermission) || !strings.Contains(errs[0].Error(), "open "+a.KeyFile) {
		t.Error(errs)
	}
	if errs := read(user{}, a.CertFile, b.KeyFile); len(errs) != 1 || !strings.Contains(errs[0].Error(), " is no key of the certificate ") {
		t.Error(errs)
	}
	if errs := read(user{}, a.CertFile, "/run/no.pem"); len(errs) != 1 || errs[0].Error() != "open /run/no.pem: no such file or directory" {
		t.Error(errs)
	}
}

func TestFlags(t *testing.T) {
	got := flags([]string{"flanneld", "--etcd-username", "me", "-iface=ens33", "--ip-masq", "--etcd-password=s3cret", "--public-ip="},
		[]string{"A=b", "FLANNELD_ETCD_CERTFILE=/c", "FLANNELD_IFACE=eth9", "FLANNELD_ETCD_PASSWORD=s3cret"})
	want := map[string]string{"etcd-username": "me", "iface": "ens33", "etcd-certfile": "/c", "public-ip": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = unitFlags("ExecStart={ path=/usr/bin/flanneld ; argv[]=/usr/bin/flanneld --iface=ens33 --etcd-keyfile /k ; ignore_errors=no ; start_time=[n/a] ; pid=0 }\nEnvironment=FLANNELD_ETCD_CAFILE=/ca A=b\n")
	if diff := cmp.Diff(map[string]string{"iface": "ens33", "etcd-keyfile": "/k", "etcd-cafile": "/ca"}, got); diff != "" {
		t.Error(diff)
	}
}

// TestReadUnit has a unit whose certificate is missing, and whose authority is none. That
// no endpoint is https does not help.
func TestReadUnit(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'ExecStart={ path=x ; argv[]=flanneld --etcd-certfile=/run/no.pem --etcd-cafile=" + dir + "/systemctl ; pid=0 }'\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	f := Facts{}
	f.readUnit(t.Context())
	if len(f.Missing) != 2 || f.Missing[1].Flag != "etcd-cafile" || f.Missing[0].Flag != "etcd-certfile" || f.Missing[0].File != "/run/no.pem" || !errors.Is(f.Missing[0].Err, fs.ErrNotExist) {
		t.Errorf("%+v", f.Missing)
	}
}
