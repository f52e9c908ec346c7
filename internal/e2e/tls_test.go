package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// secured is a cluster behind certificates.
type secured struct {
	*cluster
	ca *lab.CA
}

func startSecured(t *testing.T, members int) *secured {
	t.Helper()
	c := &secured{&cluster{Lab: lab.New(t), t: t}, lab.NewCA(t, "authority")}
	var hosts []*lab.Host
	for i := range members {
		hosts = append(hosts, c.Host(fmt.Sprintf("hdss7-%d", 11+i), fmt.Sprintf("10.4.7.%d/24", 11+i)))
	}
	c.etcd = c.EtcdOn(lab.EtcdOptions{TLS: c.ca}, hosts...)
	c.etcd.Set(configKey, hostGW)
	return c
}

// files are the three that flanneld is given, in a folder of their own.
type files struct{ key, cert, ca string }

// files copies them for one host, so that they can be spoiled and replaced.
func (c *secured) files(h *lab.Host, from lab.Cert) files {
	c.t.Helper()
	f := files{filepath.Join(h.Dir(), "client-key.pem"), filepath.Join(h.Dir(), "client.pem"), filepath.Join(h.Dir(), "ca.pem")}
	f.replace(c.t, from, c.ca)
	return f
}

func (f files) replace(t *testing.T, from lab.Cert, ca *lab.CA) {
	t.Helper()
	write(t, f.key, read(t, from.KeyFile))
	write(t, f.cert, read(t, from.CertFile))
	write(t, f.ca, read(t, ca.File))
}

func (f files) flanneld(h *lab.Host) *lab.Daemon {
	return h.Flanneld("--etcd-keyfile="+f.key, "--etcd-certfile="+f.cert, "--etcd-cafile="+f.ca)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What cannot be read ends flanneld at once, in one line.
func TestUnreadableCertificates(t *testing.T) {
	t.Parallel()
	c := startSecured(t, 1)
	good := c.ca.Client("client", time.Hour)
	remove := func(path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for i, tt := range []struct {
		name  string
		spoil func(files)
		says  string // <key>, <cert> and <ca> stand for the paths
	}{
		{"no certificate", func(f files) { remove(f.cert) }, "read the client certificate for etcd: open <cert>: no such file or directory"},
		{"no key", func(f files) { remove(f.key) }, "read the client key for etcd: open <key>: no such file or directory"},
		{"no CA", func(f files) { remove(f.ca) }, "read the CA file of etcd: open <ca>: no such file or directory"},
		{"key is a folder", func(f files) { remove(f.key); _ = os.Mkdir(f.key, 0o700) }, "read the client key for etcd: read <key>: is a directory"},
		{"garbage for a certificate", func(f files) { write(t, f.cert, "?") }, "the client certificate for etcd, <cert>, is not a PEM file"},
		{"garbage for a key", func(f files) { write(t, f.key, "?") }, "the client key for etcd, <key>, is not a PEM file"},
		{"garbage for a CA", func(f files) { write(t, f.ca, "?") }, "the CA file of etcd, <ca>, is not a PEM file"},
		{"another's key", func(f files) { write(t, f.key, read(t, c.ca.Client("other", time.Hour).KeyFile)) },
			"the client certificate for etcd, <cert>, with its key, <key>, cannot be used: private key does not match public key"},
	} {
		h := c.Host(fmt.Sprintf("hdss7-%d", 21+i), fmt.Sprintf("10.4.7.%d/24", 21+i))
		f := c.files(h, good)
		tt.spoil(f)
		d := f.flanneld(h)
		if code := d.Wait(soon); code != 1 {
			t.Errorf("%s: exit code %d", tt.name, code)
		}
		want := "flanneld: " + strings.NewReplacer("<cert>", f.cert, "<key>", f.key, "<ca>", f.ca).Replace(tt.says) + "\n"
		if _, said, _ := strings.Cut(d.Log(), "\n"); said != want { // after the line that says what begins
			t.Errorf("%s: it says\n%swant\n%s", tt.name, said, want)
		}
	}
}

// What etcd or flanneld refuses is reported once, and comes into effect without
// a restart when it is replaced.
func TestRefusedCertificates(t *testing.T) {
	t.Parallel()
	c := startSecured(t, 1)
	good := c.ca.Client("client", time.Hour)
	stranger := lab.NewCA(t, "stranger")
	type row struct {
		name, says string
		cert       lab.Cert
		ca         *lab.CA
		files      files
		daemon     *lab.Daemon
	}
	rows := []*row{
		{name: "expired", cert: c.ca.Client("expired", -time.Hour), ca: c.ca, says: "refuses the client certificate <cert> (tls: expired certificate): it expired on "},
		{name: "not the cluster's CA", cert: good, ca: stranger, says: "none of the authorities in the CA file <ca> has signed its certificate"},
		{name: "a stranger's certificate", cert: stranger.Client("client", time.Hour), ca: c.ca, says: "refuses the client certificate <cert> ("},
	}
	for i, r := range rows {
		h := c.Host(fmt.Sprintf("hdss7-%d", 21+i), fmt.Sprintf("10.4.7.%d/24", 21+i))
		r.files = c.files(h, r.cert)
		r.files.replace(t, r.cert, r.ca)
		r.says = strings.NewReplacer("<cert>", r.files.cert, "<ca>", r.files.ca).Replace(r.says)
		r.daemon = r.files.flanneld(h)
	}
	for _, r := range rows {
		r.daemon.WaitLog(r.says)
	}
	time.Sleep(3 * time.Second) // each has tried again
	for _, r := range rows {
		if n := strings.Count(r.daemon.Log(), "trying again until it works"); n != 1 {
			t.Errorf("%s is reported %d times:\n%s", r.name, n, r.daemon.Log())
		}
		r.files.replace(t, good, c.ca)
	}
	for _, r := range rows {
		r.daemon.WaitReady()
	}
}

// A certificate expires under a running flanneld: traffic flows on, and so does
// the daemon's work once there is another.
func TestCertificateExpires(t *testing.T) {
	t.Parallel()
	c := startSecured(t, 1)
	const life = 15 * time.Second // by far enough to start everything
	expires := time.Now().Add(life)
	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24"), subnet: "172.7.21.0/24"}
	f := c.files(h.Host, c.ca.Client("client", life))
	h.daemon = f.flanneld(h.Host)
	h.daemon.WaitReady()
	c.hosts = append(c.hosts, h)
	c.join("hdss7-22").daemon.WaitReady()
	for _, n := range c.hosts {
		n.box = n.Container("c1")
	}
	c.connected(soon)
	c.losesNothing("a certificate expires", func() {
		time.Sleep(time.Until(expires.Add(time.Second)))
		c.etcd.Stop() // whoever is connected need not show it again
		c.etcd.Start()
		lab.Eventually(t, 3*soon, "the log to name the certificate", func() error { // it says first that etcd was gone
			if log := h.daemon.Log(); !strings.Contains(log, "refuses the client certificate "+f.cert) {
				return errors.New(log)
			}
			return nil
		})
		c.join("hdss7-23").daemon.WaitReady()
		f.replace(t, c.ca.Client("renewed", time.Hour), c.ca)
		eventually(t, "the newcomer's route", func() string { return grep(h.routes()+"\n", "172.7.23.0/24") },
			"172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77\n")
	})
}

// Any one of three members may be lost.
func TestLostMember(t *testing.T) {
	t.Parallel()
	c := startSecured(t, 3)
	for _, name := range []string{"hdss7-21", "hdss7-22"} {
		h := c.join(name)
		h.daemon.WaitReady()
		h.box = h.Container("c1")
	}
	c.connected(soon)
	for i, member := range c.etcd.Members {
		c.losesNothing(member.Endpoint+" is lost", func() {
			member.Kill()
			newcomer := c.join(fmt.Sprintf("hdss7-%d", 23+i))
			newcomer.daemon.WaitReady()
			for _, h := range c.hosts[:2] {
				eventually(t, "the newcomer's route on "+h.Name, func() string { return grep(h.routes()+"\n", newcomer.subnet) },
					fmt.Sprintf("%s via %v dev ens33 proto 77\n", newcomer.subnet, newcomer.IP))
			}
			member.Start()
		})
	}
}
