package e2e

import (
	"errors"
	"fmt"
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
		{"boot with a wrong setting", s.wrongSetting},
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

// A host that comes up while etcd is away is not a failed one: it waits, says
// for what, and docker waits for it.
func (s *systemd) bootWithoutEtcd(t *testing.T) {
	s.etcd.Stop()
	s.boot()
	s.waitsFor(t, "10.4.7.12:2379")
	s.etcd.Start()
	s.waitsFor(t, configKey)
	// Somebody has changed a setting, or thinks that it helps.
	before := s.property("flanneld", "MainPID")
	s.sh("systemctl restart --no-block flanneld")
	s.awaitAnother(t, before, "activating")
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
	s.sh(flanneldCheck) // finds no fault
}

// c1 is docker's container, the first one of its subnet.
func (s *systemd) c1() lab.Target { return lab.Address("172.7.21.2") }

// booted waits until everything is up, and sees how flanneld and docker came up:
// one after the other, the second with the first one's subnet.
func (s *systemd) booted(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 3*soon, "the end of the boot", func() error {
		out, err := s.try("systemctl is-active flanneld docker && systemctl is-system-running")
		if err != nil {
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
			s.awaitAnother(t, before, "active")
		})
	}
}

// awaitAnother waits until flanneld is another process, in a state.
func (s *systemd) awaitAnother(t *testing.T, before, state string) {
	t.Helper()
	lab.Eventually(t, soon, "another flanneld", func() error {
		if now := s.property("flanneld", "MainPID"); now == before || now == "0" || s.state("flanneld") != state {
			return fmt.Errorf("flanneld, once process %s, is %s and %s", before, now, s.state("flanneld"))
		}
		return nil
	})
}

// The daemon is root by name, and can do to the host's files and services next
// to nothing.
func (s *systemd) sandbox(t *testing.T) {
	status := read(t, fmt.Sprintf("/proc/%d/status", s.awaitFlannelds(1)[0]))
	const netAdminAndRaw = "0000000000003000"
	for _, want := range []string{"CapPrm:\t" + netAdminAndRaw, "CapEff:\t" + netAdminAndRaw, "CapBnd:\t" + netAdminAndRaw,
		"CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, "\n"+want+"\n") {
			t.Errorf("there is no %q in flanneld's status:\n%s", want, status)
		}
	}

	// What it can write to.
	const open = `for path in %s; do if ( : >>$path ) 2>/dev/null; then echo $path; fi; done
`
	const forbidden = `/x /etc/x /etc/flanneld.env /usr/x /usr/local/flannel/flanneld /run/x /run/systemd/x /run/docker/x /var/x /var/lib/x
		/var/lib/docker/x /root/x /home/x /sys/fs/cgroup/x /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/core_pattern`
	if got := s.confined(t, fmt.Sprintf(open, strings.Join(strings.Fields(forbidden), " "))); got != "" {
		t.Errorf("flanneld can write to\n%s", got)
	}
	const allowed = "/run/flannel/x\n/run/xtables.lock\n/var/lib/flannel/x\n/tmp/x\n"
	if got := s.confined(t, fmt.Sprintf(open, strings.Join(strings.Fields(allowed), " "))); got != allowed {
		t.Errorf("of its own, flanneld can write only to\n%s", got)
	}

	// Whom it can speak to.
	const speak = `if systemctl show docker; then echo systemd >&3; fi
		if docker version; then echo docker >&3; fi
		if [ -e /run/containerd/containerd.sock ]; then echo containerd >&3; fi
`
	const quiet = "exec 3>&1 >/dev/null 2>&1\n"
	if got := s.confined(t, quiet+speak); got != "" {
		t.Errorf("flanneld may speak to\n%s", got)
	}
	if got := s.sh(quiet + speak); got != "systemd\ndocker\ncontainerd" {
		t.Errorf("the host's root may speak only to\n%s", got)
	}

	// What mk-docker-opts.sh may learn of dockerd, and both flavours of iptables.
	for _, script := range []string{
		"dockerd --help | grep -q -e --bip",
		"/usr/sbin/dockerd --version",
		"grep storage-driver /etc/docker/daemon.json",
		"grep dockerd /lib/systemd/system/docker.service /etc/systemd/system/docker.service.d/flannel.conf",
		"iptables-nft -w -t nat -N X && iptables-nft -w -t nat -X X",
		"iptables-legacy -w -t nat -N X && iptables-legacy -w -t nat -X X",
	} {
		if got := s.confined(t, script+" && echo well"); !strings.HasSuffix(got, "well\n") {
			t.Errorf("%s: %s", script, got)
		}
	}
}

// confined runs a script as flanneld.service runs flanneld, and returns what it
// prints.
func (s *systemd) confined(t *testing.T, script string) string {
	t.Helper()
	var unit strings.Builder
	for line := range strings.Lines(read(t, "../../dist/systemd/flanneld.service")) {
		switch key, _, _ := strings.Cut(line, "="); key {
		case "Type":
			line = "Type=oneshot\n"
		case "ExecStart":
			line = "ExecStart=-/bin/sh /usr/local/flannel/probe.sh\n"
		case "ExecStartPre", "ExecStartPost", "Restart":
			continue
		}
		unit.WriteString(line)
	}
	s.write("/usr/local/flannel/probe.sh", "exec >/run/flannel/probe 2>&1\n"+script, 0o644)
	s.write("/etc/systemd/system/probe.service", unit.String(), 0o644)
	s.sh("systemctl daemon-reload && systemctl start probe")
	return s.read("/run/flannel/probe")
}

// A host without current loses its lease and all that was in memory, and comes
// back as it was: by subnet.env. This time it has the other iptables.
func (s *systemd) reboot(t *testing.T) {
	s.judgeLog(t)
	s.iptablesIs("iptables-legacy")
	s.powerOff()
	s.Shell(`set -e; ip link del docker0; ip route flush proto 77
		for table in filter nat; do iptables-nft -t $table -F; iptables-nft -t $table -X; done
		iptables-legacy -t nat -S >/dev/null # the machine may not load the module that this needs`)
	s.etcd.Delete(leases + "172.7.21.0-24")
	s.boot()
	s.booted(t)
	if got := s.sh("iptables -V"); !strings.Contains(got, "legacy") {
		t.Errorf("the machine has %s", got)
	}
	if got := s.etcd.Get(leases + "172.7.21.0-24").Value; !strings.Contains(got, `"PublicIP":"10.4.7.21"`) {
		t.Errorf("after the reboot, the lease is %s", got)
	}
	s.box.Reach(s.c1(), soon)
}

// A host that boots with a wrong setting needs no more than a right one: docker
// has not given up meanwhile.
func (s *systemd) wrongSetting(t *testing.T) {
	s.judgeLog(t)
	s.write("/etc/flanneld.env", settings(t)+"FLANNELD_HEALTHZ_PORT=none\n", 0o644)
	s.powerOff()
	s.boot()
	lab.Eventually(t, 3*soon, "flanneld to have been started four times", func() error {
		if n := s.property("flanneld", "NRestarts"); n < "4" || len(n) > 1 {
			return fmt.Errorf("it was %s times; %s", n, s.log("flanneld"))
		}
		return nil
	})
	s.write("/etc/flanneld.env", settings(t), 0o644)
	s.booted(t)
	s.box.Reach(s.c1(), soon)
}
