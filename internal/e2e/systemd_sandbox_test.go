package e2e

import (
	"fmt"
	"strings"
	"testing"
)

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
