package e2e

import (
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestSystemd boots a machine with a real systemd on which flanneld and docker
// are installed as README says, and does to both what operators do.
func TestSystemd(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("a machine's systemd needs real root: run this test with sudo")
	}
	s := newSystemd(t)
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"boot without etcd", s.bootWithoutEtcd},
		{"docker follows", s.dockerFollows},
		{"stop and start", s.stopAndStart},
		{"restart and kill", s.restartAndKill},
		{"restarts in mode udp", s.restartsOfUDP},
		{"sandbox", s.sandbox},
		{"CNI's configuration", s.cniFollows},
		{"systemd-networkd", s.networkd},
		{"reboot", s.reboot},
		{"boot with a wrong setting", s.wrongSetting},
		{"docker on nftables", s.firewallBackend},
	} {
		start := time.Now()
		if !t.Run(step.name, step.do) || t.Failed() {
			t.FailNow() // each goes on where the last one ended
		}
		t.Logf("%s took %v", step.name, time.Since(start).Round(time.Millisecond))
	}
}

type systemd struct {
	*bootable // hdss7-21
	etcd      *lab.Etcd
	peer      *lab.Host // hdss7-22
	box       *lab.Container
}

func newSystemd(t *testing.T) *systemd {
	l := lab.New(t)
	ca := lab.NewCA(t, "authority")
	store := l.Host("hdss7-12", "10.4.7.12/24")
	s := &systemd{bootable: newBootable(t, l.Host("hdss7-21", "10.4.7.21/24")), peer: l.Host("hdss7-22", "10.4.7.22/24")}
	s.etcd = l.EtcdOn(lab.EtcdOptions{TLS: ca}, store)
	t.Cleanup(func() { s.judgeLog(t) })
	s.boot()
	s.installUnits(ca)
	s.iptablesIs("iptables-nft")
	s.powerOff()
	return s
}

// judgeLog fails the test where the daemon broke down without anybody looking.
func (s *systemd) judgeLog(t *testing.T) {
	t.Helper()
	log, err := s.try("journalctl --no-pager -o cat -u flanneld")
	if err != nil {
		t.Errorf("the journal of %s cannot be read: %v\n%s", s, err, log)
	}
	for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if strings.Contains(log, bad) {
			t.Errorf("%s logged %q:\n%s", s, bad, log)
		}
	}
}

// installUnits follows README's steps 1, 2, 4b and 6, but for a shorter list of
// endpoints, and for dockerd's storage, which is a matter of the lab.
func (s *systemd) installUnits(ca *lab.CA) {
	s.t.Helper()
	const folder = "/usr/local/flannel-0.12"
	s.put(lab.Binary(s.t), folder+"/flanneld", 0o755)
	s.put("../../dist/mk-docker-opts.sh", folder+"/mk-docker-opts.sh", 0o755)
	s.sh("ln -s flannel-0.12 /usr/local/flannel")
	client := ca.Client("client", 24*time.Hour)
	s.put(ca.File, "/usr/local/flannel/cert/ca.pem", 0o644)
	s.put(client.CertFile, "/usr/local/flannel/cert/client.pem", 0o644)
	s.put(client.KeyFile, "/usr/local/flannel/cert/client-key.pem", 0o600)

	s.put("../../dist/systemd/flanneld.service", "/etc/systemd/system/flanneld.service", 0o644)
	s.write("/etc/flanneld.env", settings(s.t), 0o644)
	s.write("/var/lib/flannel/subnet.env", subnetEnv, 0o644)

	s.put("../../dist/systemd/docker.service.d/flannel.conf", "/etc/systemd/system/docker.service.d/flannel.conf", 0o644)
	s.write("/etc/docker/daemon.json", `{"storage-driver": "vfs"}`, 0o644)
	s.sh("systemctl daemon-reload && systemctl enable flanneld docker")
}

func settings(t *testing.T) string {
	t.Helper()
	return strings.Replace(read(t, "../../dist/systemd/flanneld.env"), ",https://10.4.7.21:2379,https://10.4.7.22:2379", "", 1) +
		"GORACE=atexit_sleep_ms=0\n" // no second's wait for late reports of races
}
