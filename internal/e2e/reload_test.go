package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestReloadPassword changes the password in etcd and in the hosts' files, and has them read it anew.
func TestReloadPassword(t *testing.T) {
	for _, tt := range []struct {
		name     string
		options  lab.EtcdOptions
		secure   func(*testing.T, *machine)
		password string // the command that changes it
	}{
		{"v3", lab.EtcdOptions{NoV2: true}, authV3, "etcdctl --command-timeout=1m --user=root:s3cret user passwd --interactive=false flannel"},
		{"v2", lab.EtcdOptions{}, authV2, "ETCDCTL_API=2 etcdctl --total-timeout=1m --timeout=30s --username=root:s3cret user passwd flannel"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{Lab: lab.New(t), t: t}
			store := c.Host("hdss7-12", "10.4.7.12/24")
			c.etcd = c.EtcdOn(tt.options, store)
			c.etcd.Set(configKey, hostGW)
			m := newMachine(t, store)
			m.put(lab.Etcdctl(t), "/usr/local/lib/etcdctl", 0o755)
			m.write("/usr/local/sbin/etcdctl", "#!/bin/sh\nexec /usr/local/lib/etcdctl --endpoints=http://10.4.7.12:2379 \"$@\"\n", 0o755)
			tt.secure(t, m)
			file := filepath.Join(t.TempDir(), "password")
			write(t, file, "s3cret\n")
			join := func(name string) *node {
				h := c.joinAs(name, func(_ *lab.Host, o *lab.FlanneldOptions) {
					o.Args = append(o.Args, "--etcd-username=flannel", "--etcd-password-file="+file)
				})
				h.daemon.WaitReady()
				return h
			}
			for _, name := range []string{"hdss7-21", "hdss7-22"} {
				join(name).box = c.hosts[len(c.hosts)-1].Container("c1")
			}
			c.connected(soon)
			c.losesNothing("a new password", func() {
				write(t, file, "n3w-one\n")
				for _, h := range c.hosts { // etcd has the old one still
					h.daemon.Signal(syscall.SIGHUP)
					h.daemon.WaitLog(`condition="ReloadFailed"`)
				}
				m.sh("printf 'n3w-one\\n' | " + tt.password)
				for _, h := range c.hosts {
					h.daemon.Signal(syscall.SIGHUP)
					h.daemon.WaitLog("Connected to etcd anew, with what was read")
				}
				newcomer := join("hdss7-23")
				for _, h := range c.hosts[:2] {
					eventually(t, "the newcomer's route on "+h.Name, func() string { return grep(h.routes()+"\n", newcomer.subnet) },
						fmt.Sprintf("%s via %v dev ens33 proto 77\n", newcomer.subnet, newcomer.IP))
				}
			})
			for _, h := range c.hosts[:2] {
				log := h.daemon.Log()
				for _, bad := range []string{"Listing everything in etcd again", "n3w-one", "s3cret"} {
					if strings.Contains(log, bad) {
						t.Errorf("%s: %q is in the log:\n%s", h.Name, bad, log)
					}
				}
				if out, code := runCommand(t, h.Host, "status"); code != 0 || strings.Contains(out, "ReloadFailed") {
					t.Errorf("%s: exit code %d\n%s", h.Name, code, out)
				}
			}
		})
	}
}

// TestReloadCertificates replaces an authority: etcd trusts both while hosts change, one after the other.
func TestReloadCertificates(t *testing.T) {
	t.Parallel()
	next := lab.NewCA(t, "next authority")
	c := &secured{&cluster{Lab: lab.New(t), t: t}, lab.NewCA(t, "authority")}
	write(t, c.ca.File, read(t, c.ca.File)+read(t, next.File))
	c.etcd = c.EtcdOn(lab.EtcdOptions{TLS: c.ca}, c.Host("hdss7-12", "10.4.7.12/24"))
	c.etcd.Set(configKey, hostGW)
	var all []files
	for i := range 2 {
		h := &node{Host: c.Host(fmt.Sprintf("hdss7-%d", 21+i), fmt.Sprintf("10.4.7.%d/24", 21+i))}
		f := c.files(h.Host, c.ca.Client("client", time.Hour))
		h.daemon = f.flanneld(h.Host)
		h.daemon.WaitReady()
		h.box = h.Container("c1")
		c.hosts, all = append(c.hosts, h), append(all, f)
	}
	c.connected(soon)
	c.losesNothing("another authority", func() {
		for i, h := range c.hosts {
			write(t, all[i].cert, read(t, next.Client("another", time.Hour).CertFile)) // whose key is not there
			h.daemon.Signal(syscall.SIGHUP)
			h.daemon.WaitLog("private key does not match public key")
			all[i].replace(t, next.Client("client", time.Hour), c.ca)
			h.daemon.Signal(syscall.SIGHUP)
			h.daemon.WaitLog("Connected to etcd anew, with what was read")
			h.daemon.WaitLog("Going on with the watch on etcd")
		}
	})
	for _, h := range c.hosts {
		if log := h.daemon.Log(); strings.Contains(log, "Listing everything in etcd again") || strings.Contains(log, "EtcdUnreadable") {
			t.Errorf("%s:\n%s", h.Name, log)
		}
	}
}
