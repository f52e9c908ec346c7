package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestSystemdCredentials boots a machine whose flanneld has etcd's password, certificates and
// key as credentials of systemd, and then as files that it reads anew at a reload.
func TestSystemdCredentials(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("a machine's systemd needs real root: run this test with sudo")
	}
	l, ca := lab.New(t), lab.NewCA(t, "authority")
	store := l.Host("hdss7-12", "10.4.7.12/24")
	etcd := l.EtcdOn(lab.EtcdOptions{TLS: ca, NoV2: true}, store)
	etcd.Set(configKey, hostGW)
	client := ca.Client("client", time.Hour)
	m := newMachine(t, store)
	m.put(lab.Etcdctl(t), "/usr/local/lib/etcdctl", 0o755)
	m.write("/usr/local/sbin/etcdctl", fmt.Sprintf("#!/bin/sh\nexec /usr/local/lib/etcdctl --endpoints=%s --cacert=/etc/ca.pem --cert=/etc/c.pem --key=/etc/k.pem \"$@\"\n",
		etcd.Endpoints()[0]), 0o755)
	m.put(ca.File, "/etc/ca.pem", 0o644)
	m.put(client.CertFile, "/etc/c.pem", 0o644)
	m.put(client.KeyFile, "/etc/k.pem", 0o600)
	authV3(t, m)

	s := &systemd{bootable: newBootable(t, l.Host("hdss7-21", "10.4.7.21/24")), etcd: etcd}
	t.Cleanup(func() { s.judgeLog(t) })
	s.boot()
	s.put(lab.Binary(t), "/usr/local/flannel/flanneld", 0o755)
	s.put("../../dist/mk-docker-opts.sh", "/usr/local/flannel/mk-docker-opts.sh", 0o755)
	s.put("../../dist/systemd/flanneld.service", "/etc/systemd/system/flanneld.service", 0o644)
	s.put("../../dist/systemd/flanneld.service.d/credentials.conf", "/usr/local/flannel/systemd/flanneld.service.d/credentials.conf", 0o644)
	s.write("/etc/flanneld.env", "FLANNELD_ETCD_ENDPOINTS="+etcd.Endpoints()[0]+"\nFLANNELD_ETCD_USERNAME=flannel\nGORACE=atexit_sleep_ms=0\n", 0o644)

	s.types(docs.Containing(t, "docs/security.md", "flanneld.service.d/credentials.conf"))
	const start = "systemctl daemon-reload && systemctl start flanneld"
	// A credential that is named and absent fails the unit. So what nobody has is commented out.
	if out, err := s.try("mv /etc/flanneld/etcd-password /etc/flanneld/kept && timeout 5 " + start); err == nil {
		t.Errorf("flanneld starts without the password: %s", out)
	}
	s.sh("systemctl stop flanneld; mv /etc/flanneld/kept /etc/flanneld/etcd-password")
	s.sh("sed -i s/^#Load/Load/ /etc/systemd/system/flanneld.service.d/credentials.conf")
	for from, to := range map[string]string{client.CertFile: "cert", client.KeyFile: "key", ca.File: "ca"} {
		s.put(from, "/etc/flanneld/etcd-"+to+".pem", 0o600)
	}
	s.sh(start)
	s.secretIsHidden(t, "s3cret")
	// What root types finds the same files as long as the service runs.
	const folder = "/run/credentials/flanneld.service/etcd-"
	if out := s.sh("/usr/local/flannel/flanneld lease list --etcd-endpoints=" + etcd.Endpoints()[0] + " --etcd-username=flannel --etcd-password-file=" + folder +
		"password --etcd-cafile=" + folder + "ca --etcd-certfile=" + folder + "cert --etcd-keyfile=" + folder + "key"); !strings.Contains(out, "10.4.7.21") {
		t.Errorf("lease list: %s", out)
	}
	if out, _ := s.try("/usr/local/flannel/flanneld check"); !strings.Contains(out, "/run/credentials/flanneld.service/etcd-cert expires on") {
		t.Errorf("check does not get at the credentials:\n%s", out)
	}

	// Credentials are those of the start; a restart takes others.
	m.sh("printf 'n3w-one\\n' | etcdctl --command-timeout=1m --user=root:s3cret user passwd --interactive=false flannel")
	s.write("/etc/flanneld/etcd-password", "n3w-one\n", 0o600)
	s.sh("systemctl restart flanneld")
	s.secretIsHidden(t, "n3w-one")

	// The files themselves, which a reload reads.
	s.sh("rm -r /etc/systemd/system/flanneld.service.d")
	s.write("/etc/flanneld.env", s.read("/etc/flanneld.env")+`FLANNELD_ETCD_PASSWORD_FILE=/etc/flanneld/etcd-password
FLANNELD_ETCD_CAFILE=/etc/flanneld/etcd-ca.pem
FLANNELD_ETCD_CERTFILE=/etc/flanneld/etcd-cert.pem
FLANNELD_ETCD_KEYFILE=/etc/flanneld/etcd-key.pem
`, 0o644)
	s.sh("systemctl daemon-reload && systemctl restart flanneld")
	before := s.property("flanneld", "MainPID")
	m.sh("printf 'n3w-two\\n' | etcdctl --command-timeout=1m --user=root:s3cret user passwd --interactive=false flannel")
	s.write("/etc/flanneld/etcd-password", "n3w-two\n", 0o600)
	s.types(docs.Containing(t, "docs/operations.md", "systemctl reload flanneld"))
	lab.Eventually(t, stall, "the end of the reload", func() error {
		if log := s.log("flanneld"); !strings.Contains(log, "Connected to etcd anew, with what was read") {
			return errors.New(log)
		}
		if state := s.state("flanneld"); state != "active" {
			return errors.New(state)
		}
		return nil
	})
	if now := s.property("flanneld", "MainPID"); now != before {
		t.Errorf("flanneld was process %s and is %s", before, now)
	}
	s.secretIsHidden(t, "n3w-two")
	s.typeOfNotifyReload(t)
}

// secretIsHidden looks for a password wherever others may read.
func (s *systemd) secretIsHidden(t *testing.T, secret string) {
	t.Helper()
	for _, script := range []string{"journalctl --no-pager -o cat", "ps axww -o args=", "systemctl show flanneld",
		"tr '\\0' '\\n' </proc/$(systemctl show --value -p MainPID flanneld)/environ", "/usr/local/flannel/flanneld status -o json"} {
		if out, err := s.try(script); strings.Contains(out, secret) || err != nil && out == "" {
			t.Errorf("%s: %v: it shows the password, or nothing:\n%s", script, err, out)
		}
	}
}

// typeOfNotifyReload is why the unit's type is another one: before systemd 253 it would count as
// simple, whose start does not wait for the subnet.
func (s *systemd) typeOfNotifyReload(t *testing.T) {
	var version int
	if _, err := fmt.Sscanf(s.sh("systemctl --version"), "systemd %d", &version); err != nil {
		t.Fatal(err)
	}
	want := map[bool]string{true: "simple", false: "notify-reload"}[version < 253]
	s.sh("sed -i s/^Type=notify/Type=notify-reload/ /etc/systemd/system/flanneld.service && systemctl daemon-reload")
	if got := s.property("flanneld", "Type"); got != want {
		t.Errorf("Type=notify-reload is %s to systemd %d, want %s", got, version, want)
	}
}
