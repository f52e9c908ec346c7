package e2e

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

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
	lab.Eventually(t, stall, "flanneld to say what it waits for", func() error {
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
	lab.Eventually(t, stall, "the end of the boot", func() error {
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
	lab.Eventually(t, stall, "flanneld to have been started again four times", func() error {
		again, err := strconv.Atoi(s.property("flanneld", "NRestarts"))
		if err != nil || again < 4 {
			return fmt.Errorf("it was %d times again: %s (%v)", again, s.log("flanneld"), err)
		}
		return nil
	})
	s.write("/etc/flanneld.env", settings(t), 0o644)
	s.booted(t)
	s.box.Reach(s.c1(), soon)
}
