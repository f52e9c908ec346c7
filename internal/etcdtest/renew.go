package etcdtest

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// renewed wants a watch to end because the credentials were replaced, and another to go on
// without a list.
func renewed(t *testing.T, w *Watch, r subnet.Registry, seen uint64) *Watch {
	t.Helper()
	if err := w.Fails(); !errors.Is(err, subnet.ErrRenewed) {
		t.Fatalf("the watch ended with %v", err)
	}
	return resumes(t, r, seen).Stands()
}

// RenewedBeforeItBegins wants a watch to end for the reason that it is to begin anew, and for no fault
// of etcd's, also where etcd has not answered yet. open returns what watches at an endpoint, and what
// ends its watches.
func RenewedBeforeItBegins(t *testing.T, open func(endpoint string) (r subnet.Registry, renew func())) {
	t.Helper()
	came := make(chan struct{}, 100)
	address := Listen(t, func(c *net.TCPConn) {
		came <- struct{}{}
		_, _ = c.Read(make([]byte, 1)) // and says nothing
		<-t.Context().Done()
	})
	r, renew := open("http://" + address)
	w := Follow(t, r, 1)
	<-came
	renew()
	if err := w.Fails(); !errors.Is(err, subnet.ErrRenewed) {
		t.Errorf("it ends with %v", err)
	}
}

// newPassword has etcd and the client get another one, while a watch stands.
func (s Suite) newPassword(t *testing.T, etcd *lab.Etcd) {
	etcd.Set(Prefix+"/config", "{}")
	s.EnableAuth(t, etcd, password)
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints(), Username: "flannel", Password: password}, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	w.mark(r)
	early := r.Renew(t.Context(), password+"2")
	if WantError(t, early, refused); errors.Is(early, subnet.ErrUntried) {
		t.Error(early)
	}
	seen := w.mark(r) // as if nothing had been
	s.SetPassword(t, etcd, password+"2")
	if err := r.Renew(t.Context(), password+"2"); err != nil {
		t.Fatal(err)
	}
	w = renewed(t, w, r, seen)
	seen = w.mark(r)
	_, err := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints(), Username: "flannel", Password: password}, s.New).List(t.Context())
	WantError(t, err, refused)

	// While etcd is away nobody can tell which is right: the new one counts.
	s.SetPassword(t, etcd, password+"3")
	etcd.Kill()
	if err := r.Renew(t.Context(), password+"3"); !errors.Is(err, subnet.ErrUntried) {
		t.Errorf("nobody answers: %v", err)
	}
	if err := w.Fails(); err == nil {
		t.Error("no error")
	}
	etcd.Start()
	w = resumes(t, r, seen).Stands()
	w.mark(r)
	w.End()
}

// anotherCertificate has etcd trust a second authority, and the client show a certificate of that.
func (s Suite) anotherCertificate(t *testing.T) {
	ca, next := lab.NewCA(t, "ca"), lab.NewCA(t, "next")
	appendFile(t, next.File, ca.File)
	etcd := s.newest(t, func(o *lab.EtcdOptions) { o.TLS = ca })
	etcd.Set(Prefix+"/config", "{}")
	dir := t.TempDir()
	c := etcdconn.Config{
		Endpoints: etcd.Endpoints(),
		CAFile:    ca.File,
		CertFile:  filepath.Join(dir, "client.pem"),
		KeyFile:   filepath.Join(dir, "client-key.pem"),
	}
	put := func(cert lab.Cert) {
		copyFile(t, cert.CertFile, c.CertFile)
		copyFile(t, cert.KeyFile, c.KeyFile)
	}
	put(ca.Client("client", time.Hour))
	r := Open(t, c, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	w.mark(r)
	put(next.Client("client", -time.Hour))
	WantError(t, r.Renew(t.Context(), ""), "refuses the client certificate "+c.CertFile, "it expired on 20")
	copyFile(t, next.Client("another", time.Hour).KeyFile, c.KeyFile)
	WantError(t, r.Renew(t.Context(), ""), "private key does not match public key")
	seen := w.mark(r)
	put(next.Client("client", time.Hour))
	if err := r.Renew(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	w = renewed(t, w, r, seen)
	w.mark(r)
	w.End()
}
