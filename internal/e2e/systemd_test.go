package e2e

import (
	"errors"
	"fmt"
	"os"
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
		{"sandbox", s.sandbox},
		{"reboot", s.reboot},
	} {
		start := time.Now()
		if !t.Run(step.name, step.do) || t.Failed() {
			t.FailNow() // each goes on where the last one ended
		}
		t.Logf("%s took %v", step.name, time.Since(start).Round(time.Millisecond))
	}
	if os.Getenv("WAIT") != "" {
		t.Log(s.init.Process.Pid, s.Netns())
		time.Sleep(time.Hour)
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
	s.boot()
	s.installUnits(ca)
	s.iptablesIs("iptables-nft")
	s.powerOff()
	return s
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
	env := strings.Replace(read(s.t, "../../dist/systemd/flanneld.env"), ",https://10.4.7.21:2379,https://10.4.7.22:2379", "", 1)
	s.write("/etc/flanneld.env", env, 0o644)
	s.write("/var/lib/flannel/subnet.env", subnetEnv, 0o644)

	s.put("../../dist/systemd/docker.service.d/flannel.conf", "/etc/systemd/system/docker.service.d/flannel.conf", 0o644)
	s.write("/etc/docker/daemon.json", `{"storage-driver": "vfs"}`, 0o644)
	s.sh("systemctl daemon-reload && systemctl enable flanneld docker")
}

// A host that comes up while etcd is away is not a failed one: it waits, says
// for what, and docker waits for it.
func (s *systemd) bootWithoutEtcd(t *testing.T) {
	s.etcd.Stop()
	s.boot()
	s.waitsFor(t, "10.4.7.12:2379")
	s.etcd.Start()
	s.waitsFor(t, configKey)
}

// waitsFor waits until the journal speaks of what is missing, and sees how the
// machine is meanwhile.
func (s *systemd) waitsFor(t *testing.T, what string) {
	t.Helper()
	lab.Eventually(t, soon, "flanneld to say what it waits for", func() error {
		if log := s.log("flanneld"); !strings.Contains(log, what) {
			return fmt.Errorf("it says\n%s", log)
		}
		return nil
	})
	for unit, want := range map[string]string{"flanneld": "activating", "docker": "inactive", "network-online.target": "active"} {
		if got := s.state(unit); got != want {
			t.Errorf("%s is %s, want %s", unit, got, want)
		}
	}
	if failed := s.sh("systemctl list-units --failed --no-legend"); failed != "" {
		t.Errorf("failed units:\n%s", failed)
	}
	if got, _ := s.try("systemctl is-system-running"); got != "starting" {
		t.Errorf("the system is %s", got)
	}
}

func (s *systemd) dockerFollows(t *testing.T) {
	s.etcd.Set(configKey, hostGW)
	s.booted(t)
	peer := s.peer.SubnetEnv("172.7.22.1/24").Flanneld()
	peer.WaitReady()
	s.box = s.peer.Container("c1")

	s.write("/tmp/busybox.tar", busyboxImage(t), 0o644)
	s.sh("docker import /tmp/busybox.tar busybox")
	s.sh("docker run --detach --restart always --stop-signal KILL --name c1 busybox /bin/busybox sleep infinity")
	s.box.Reach(s.c1(), soon)
}

// c1 is docker's container, the first one of its subnet.
func (s *systemd) c1() lab.Target { return lab.Address("172.7.21.2") }

// booted waits until everything is up, and sees how flanneld and docker came up:
// one after the other, the second with the first one's subnet.
func (s *systemd) booted(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 3*soon, "the end of the boot", func() error {
		if out, err := s.try("systemctl is-system-running"); err != nil {
			return errors.New(out)
		}
		return nil
	})
	ready, docker := s.property("flanneld", "ActiveEnterTimestampMonotonic"), s.property("docker", "ExecMainStartTimestampMonotonic")
	var before, after int
	if _, err := fmt.Sscan(ready+" "+docker, &before, &after); err != nil || before == 0 || after < before {
		t.Errorf("flanneld was ready at %s, docker started at %s (%v)", ready, docker, err)
	}
	const want = "DOCKER_OPT_BIP=\"--bip=172.7.21.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\nDOCKER_OPT_MTU=\"--mtu=1500\"\n" +
		"DOCKER_OPTS=\" --bip=172.7.21.1/24 --ip-masq=false --mtu=1500\"\n"
	if got := s.read("/run/flannel/docker_opts.env"); got != want {
		t.Errorf("docker_opts.env:\n%s", got)
	}
	if got := s.sh("tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID docker)/cmdline"); got != "dockerd -H fd:// --bip=172.7.21.1/24 --ip-masq=false --mtu=1500 " {
		t.Errorf("docker runs as %s", got)
	}
	if got := s.Run("ip", "-o", "-4", "addr", "show", "docker0"); !strings.Contains(got, "inet 172.7.21.1/24 ") {
		t.Errorf("docker0 is %s", got)
	}
	s.masquerades(t)
}

// masquerades: the rules of --ip-masq are there, and docker's are not.
func (s *systemd) masquerades(t *testing.T) {
	t.Helper()
	lab.Eventually(t, soon, "the rules of --ip-masq", func() error {
		rules := s.sh("iptables -t nat -S POSTROUTING")
		if strings.Count(rules, "-j MASQUERADE") != 2 || strings.Contains(rules, "docker0") {
			return errors.New(rules)
		}
		return nil
	})
}

// losesNothing runs what under pings from the peer's container to docker's, and
// sees that docker has not noticed.
func (s *systemd) losesNothing(t *testing.T, moment string, what func()) {
	t.Helper()
	docker := s.property("docker", "MainPID")
	p := s.box.PingEvery(50*time.Millisecond, s.c1())
	what()
	time.Sleep(500 * time.Millisecond)
	stats := p.Stop()
	t.Logf("%s: %v", moment, stats)
	if stats.Lost > 0 {
		t.Errorf("%s: %v", moment, stats)
	}
	if got := s.property("docker", "MainPID"); got != docker || s.state("docker") != "active" {
		t.Errorf("%s: docker, once process %s, is %s and %s", moment, docker, s.state("docker"), got)
	}
	if got := s.sh("docker inspect --format '{{.State.Running}} {{.RestartCount}}' c1"); got != "true 0" {
		t.Errorf("%s: the container: %s", moment, got)
	}
}

func (s *systemd) stopAndStart(t *testing.T) {
	s.losesNothing(t, "stop", func() {
		start := time.Now()
		s.sh("systemctl stop flanneld")
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("stop took %v", took)
		}
		s.awaitFlannelds(0)
		if got := s.property("flanneld", "Result") + " " + s.state("flanneld"); got != "success inactive" {
			t.Errorf("after stop flanneld is %s", got)
		}
		if routes := s.Run("ip", "route"); !strings.Contains(routes, "172.7.22.0/24 via 10.4.7.22 dev ens33") {
			t.Errorf("after stop, the routes:\n%s", routes)
		}
		time.Sleep(time.Second)
	})
	s.losesNothing(t, "start", func() {
		// Start returns when the subnet is known, and dockerd's options are.
		s.sh("rm /var/lib/flannel/subnet.env /run/flannel/docker_opts.env && systemctl start flanneld")
		if env := s.read("/var/lib/flannel/subnet.env"); env != strings.Replace(subnetEnv, "false", "true", 1) {
			t.Errorf("when start returned, subnet.env was\n%s", env)
		}
		if got := s.read("/run/flannel/docker_opts.env"); !strings.Contains(got, "--bip=172.7.21.1/24") {
			t.Errorf("when start returned, docker_opts.env was\n%s", got)
		}
		if got := s.state("flanneld"); got != "active" {
			t.Errorf("when start returned, flanneld was %s", got)
		}
	})
}

func (s *systemd) restartAndKill(t *testing.T) {
	for _, command := range []string{"systemctl restart flanneld", "systemctl kill -s KILL flanneld", "systemctl kill -s QUIT flanneld"} {
		before := s.property("flanneld", "MainPID")
		s.losesNothing(t, command, func() {
			s.sh(command)
			lab.Eventually(t, soon, "another flanneld", func() error {
				if now := s.property("flanneld", "MainPID"); now == before || now == "0" || s.state("flanneld") != "active" {
					return fmt.Errorf("flanneld, once process %s, is %s and %s", before, now, s.state("flanneld"))
				}
				return nil
			})
		})
	}
}

func (s *systemd) sandbox(t *testing.T) {
}

func (s *systemd) reboot(t *testing.T) {
}
