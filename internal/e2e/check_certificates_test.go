package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// TestCheckCertificates has certificates that are out of date or cannot be read,
// flanneld's and etcd's.
func TestCheckCertificates(t *testing.T) {
	t.Parallel()
	c := startSecured(t, 1)
	now := time.Now()
	good, old, young := c.ca.Client("client", time.Hour), c.ca.Between("old", now.Add(-48*time.Hour), now.Add(-time.Hour)), c.ca.Between("young", now.Add(time.Hour), now.Add(48*time.Hour))

	second := c.Host("hdss7-13", "10.4.7.13/24")
	var shown atomic.Pointer[tls.Certificate]
	show := func(from lab.Cert) {
		pair, err := tls.LoadX509KeyPair(from.CertFile, from.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		shown.Store(&pair)
	}
	show(c.ca.Between("server", now.Add(-time.Hour), now.Add(24*time.Hour), "10.4.7.13"))
	config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil }}
	server := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: nil}
	listener := tls.NewListener(second.Listen("tcp4", ":2379"), config)
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")}
	f := c.files(h.Host, old)
	h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
		args := without(without(o.Args, "--etcd-keyfile="), "--etcd-certfile=")
		o.Args = append(args, "--etcd-keyfile="+f.key, "--etcd-certfile="+f.cert, "--etcd-endpoints="+strings.Join(append(c.etcd.Endpoints(), "https://10.4.7.13:2379"), ","))
	})
	const replace = "put a new certificate in its place; flanneld uses it without a restart"
	repair := func() { f.replace(t, good, c.ca) }
	notes := []string{"docker", "certificates"} // the lab's last for a day
	troubles := []trouble{
		{name: "expired", text: f.cert + " has expired on ", fix: replace, repair: repair},
		{name: "not valid yet", do: func() { f.replace(t, young, c.ca) }, text: f.cert + " is valid only from ", fix: replace, repair: repair},
		{name: "etcd's has expired", do: func() { show(c.ca.Between("server", now.Add(-2*time.Hour), now.Add(-time.Hour), "10.4.7.13")) },
			text: "the certificate of etcd at https://10.4.7.13:2379 has expired on ", fix: "give that etcd a new one, as its --cert-file",
			repair: func() { show(c.ca.Between("server", now.Add(-time.Hour), now.Add(24*time.Hour), "10.4.7.13")) }},
	}
	for i := range troubles {
		tr := &troubles[i]
		tr.on, tr.step, tr.notes = h, "certificates", notes
	}
	findAll(t, troubles)
	for name, spoil := range map[string]func(){
		"is not there": func() { _ = os.Remove(f.cert) },
		"is nonsense":  func() { write(t, f.cert, "?") },
	} {
		t.Run(name, func(t *testing.T) {
			spoil()
			found, code := checked(t, h, "")
			if x := firstOf(found, check.Fault); code != 1 || x.Step != "certificates" || !strings.Contains(x.Text, f.cert) || x.Fix[0] != "put the right file in the place of "+f.cert+"   # flanneld uses it without a restart" {
				t.Errorf("exit code %d, %+v", code, found)
			}
			repair()
			clean(t, h, "all to be well with a certificate", "", notes...)
		})
	}
	if found, _ := checked(t, h, ""); !strings.Contains(firstOf(found, check.Note).Text, f.cert+" expires on ") {
		t.Errorf("%+v", found)
	}
}

// TestCheckHowEtcdIsAsked has a flanneld that asks a secured etcd in ways that do not
// do. What the fix names is what then works.
func TestCheckHowEtcdIsAsked(t *testing.T) {
	t.Parallel()
	c := startSecured(t, 1)
	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")}
	f := c.files(h.Host, c.ca.Client("client", time.Hour))
	stranger := lab.NewCA(t, "stranger")
	other := stranger.Client("client", time.Hour)
	const https = "--etcd-endpoints=https://10.4.7.11:2379"
	ca, cert, key := "--etcd-cafile="+f.ca, "--etcd-certfile="+f.cert, "--etcd-keyfile="+f.key
	ask := func(flags ...string) {
		if h.daemon != nil {
			h.daemon.Stop()
		}
		h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) { o.Args = append(without(o.Args, "--etcd-"), flags...) })
	}
	for _, tt := range []struct {
		flags     []string
		text, fix string
	}{
		{[]string{"--etcd-endpoints=http://10.4.7.11:2379", ca, cert, key}, "; http://10.4.7.11:2379: it speaks https", "restart flanneld with " + https},
		{[]string{"--etcd-endpoints=https://10.4.7.11:4001", ca, cert, key}, "nobody listens on its port", "restart flanneld with " + https + "   # somebody listens there"},
		{[]string{https, cert, key}, "has signed its certificate", "restart flanneld with --etcd-cafile=FILE"},
		{[]string{https, "--etcd-cafile=" + stranger.File, cert, key}, "has signed its certificate", "put the authority "},
		{[]string{https, ca}, "it wants a client certificate of an authority that it trusts", "restart flanneld with --etcd-certfile=FILE --etcd-keyfile=FILE"},
		{[]string{https, ca, "--etcd-certfile=" + other.CertFile, "--etcd-keyfile=" + other.KeyFile}, "it wants a client certificate of an authority that it trusts", "put a certificate into " + other.CertFile},
	} {
		ask(tt.flags...)
		trouble{on: h, step: "etcd", text: tt.text, fix: tt.fix}.expect(t)
	}
	ask(https, ca, cert, key)
	h.daemon.WaitReady()
	clean(t, h, "all to be well", "", "docker", "certificates")
}
