package e2e

import (
	"regexp"
	"strings"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// nothingStarted: the package is installed, on hosts with a docker of their own.
func (f *follower) nothingStarted() {
	for _, m := range f.hosts {
		if got := m.state("flanneld"); got != "inactive" {
			f.t.Errorf("after the installation, flanneld is %s", got)
		}
		if got, _ := m.try("systemctl is-enabled flanneld"); got != "disabled" {
			f.t.Errorf("after the installation, flanneld is %s", got)
		}
		m.sh("systemctl restart docker")
		f.dockerIsAlone(m)
	}
}

// dockerIsAlone: docker runs, and not with flanneld's options.
func (f *follower) dockerIsAlone(m *bootable) {
	f.t.Helper()
	if got := m.sh("tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID docker)/cmdline"); !strings.Contains(got, "dockerd") || strings.Contains(got, "--bip") {
		f.t.Errorf("docker on %s runs as %q", m, got)
	}
}

// underPings does something while each host pings the other's container, and loses
// nothing. Neither docker notices.
func (f *follower) underPings(moment string, what func()) {
	f.t.Helper()
	const processes = "systemctl show --value -p MainPID docker; docker ps --no-trunc --format '{{.ID}} {{.RunningFor}}' | wc -l"
	var pings []*lab.Pinger
	var before []string
	for i, m := range f.hosts {
		address := f.hosts[1-i].sh("docker inspect --format '{{.NetworkSettings.IPAddress}}' pinged")
		m.Reach(lab.Address(address), soon)
		pings = append(pings, m.PingEvery(50*time.Millisecond, lab.Address(address)))
		before = append(before, m.sh(processes))
	}
	what()
	time.Sleep(500 * time.Millisecond)
	for i, m := range f.hosts {
		stats := pings[i].Stop()
		f.t.Logf("%s: from %s %v", moment, m, stats)
		if stats.Lost > 0 || stats.Sent == 0 {
			f.t.Errorf("%s: from %s %v", moment, m, stats)
		}
		if now := m.sh(processes); now != before[i] {
			f.t.Errorf("%s: docker and its containers on %s were %q, and are %q", moment, m, before[i], now)
		}
	}
}

// updates installs the next version as operations.md says, where settings were edited.
func (f *follower) updates() {
	for _, m := range f.hosts {
		m.sh("echo '# ours' >>/etc/flanneld.env; docker run -d --restart always --name pinged busybox sleep 100000")
	}
	f.underPings("update", func() {
		f.restarts(func() { f.follow([]docs.Block{docs.Containing(f.t, "docs/operations.md", "dpkg -i flanneld_0.4.0")}) })
	})
	f.follow([]docs.Block{docs.Containing(f.t, "docs/operations.md", "flanneld --version\nflanneld check")})
	for _, m := range f.hosts {
		if got := m.sh("flanneld --version; tail -n 1 /etc/flanneld.env"); got != "0.4.0\n# ours" {
			f.t.Errorf("after the update, %s has %q", m, got)
		}
	}
}

// restarts does something that has flanneld started anew, and waits until it is ready.
func (f *follower) restarts(what func()) {
	f.t.Helper()
	var before []string
	for _, m := range f.hosts {
		before = append(before, m.property("flanneld", "MainPID"))
	}
	what()
	for i, m := range f.hosts {
		m.awaitAnother(f.t, before[i], "active")
	}
}

// removes removes the package: first so that traffic goes on, then all that it says.
func (f *follower) removes() {
	h21, h22 := f.hosts[0], f.hosts[1]
	var said string
	f.underPings("removal", func() {
		said = h21.sh(docs.Containing(f.t, "docs/operations.md", "dpkg -r flanneld").Text)
		h21.awaitFlannelds(0)
		h21.sh("systemctl daemon-reload")
	})
	if got := h21.sh("ls /etc/flanneld.env /var/lib/flannel/subnet.env; systemctl show --value -p LoadState flanneld"); !strings.HasSuffix(got, "not-found") {
		f.t.Errorf("after the removal: %s", got)
	}
	h21.sh("systemctl restart docker")
	f.dockerIsAlone(h21)

	left := func() string {
		out, _ := h21.try(`ip route show proto 77; ip nexthop show proto 77; ip -d link | grep flanneld
			nft list ruleset 2>/dev/null | grep flanneld; iptables-save | grep flanneld; ip6tables-save | grep flanneld`)
		return out
	}
	for _, part := range []string{"dev flannel.1", "alias flanneld", "-A FORWARD", "MASQUERADE"} {
		if got := left(); !strings.Contains(got, part) {
			f.t.Errorf("after the removal there is no %q, and nothing to be removed:\n%s", part, got)
		}
	}
	commands := regexp.MustCompile(`(?m)^    (.+)$`).FindAllStringSubmatch(said, -1)
	if len(commands) < 8 {
		f.t.Fatalf("the removal says\n%s", said)
	}
	for _, c := range commands {
		out, err := h21.try(c[1]) // some find nothing on this host
		f.t.Logf("%s# %s (%v)\n%s", h21, c[1], err, out)
	}
	if got := left(); got != "" {
		f.t.Errorf("after what the removal says, there is\n%s", got)
	}

	h21.sh(docs.Containing(f.t, "docs/operations.md", "dpkg -P flanneld").Text)
	const files = "ls -d /etc/flanneld* /etc/iproute2/rt_protos.d/* /var/lib/flannel /run/flannel /etc/systemd/system/docker.service.d/* 2>/dev/null; dpkg -l flanneld"
	if got, err := h21.try(files); err == nil || !strings.HasPrefix(got, "/etc/flanneld\ndpkg-query: ") {
		f.t.Errorf("after the purge, there is %s (%v)", got, err)
	}
	h22.sh("rm /etc/flanneld/*.pem && dpkg -P flanneld") // at once, while it runs
	h22.awaitFlannelds(0)
	if got, err := h22.try(files); err == nil || !strings.HasPrefix(got, "dpkg-query: ") {
		f.t.Errorf("after the purge, there is %s (%v)", got, err)
	}
}

// takesRPM installs, updates and removes the rpm on a host that is set up again.
func (f *follower) takesRPM() {
	m := f.hosts[0]
	m.sh("rpm -i /root/flanneld-0.3.0-1.*.rpm")
	if got := m.state("flanneld"); got != "inactive" {
		f.t.Errorf("after the installation, flanneld is %s", got)
	}
	f.copyCertificates()
	m.sh(docs.Containing(f.t, "docs/install-systemd.md", "s/^#FLANNELD_").Text + "echo '# ours' >>/etc/flanneld.env; systemctl enable --now flanneld")
	before := m.property("flanneld", "MainPID")
	m.sh("rpm -U /root/flanneld-0.4.0-1.*.rpm")
	m.awaitAnother(f.t, before, "active")
	if got := m.sh("flanneld --version; tail -n 1 /etc/flanneld.env; systemctl is-enabled flanneld"); got != "0.4.0\n# ours\nenabled" {
		f.t.Errorf("after the update: %q", got)
	}
	if said := m.sh("rpm -e flanneld"); !strings.Contains(said, "ip route flush proto 77") {
		f.t.Errorf("the removal says %q", said)
	}
	m.awaitFlannelds(0)
	if got := m.sh("tail -n 1 /etc/flanneld.env.rpmsave; ip route show proto 77 | wc -l; ls /etc/systemd/system/multi-user.target.wants/"); !strings.HasPrefix(got, "# ours\n1") || strings.Contains(got, "flanneld") {
		f.t.Errorf("after the removal: %q", got)
	}
}

// movesToPackage takes hosts with the tar.gz to the package, as the page says.
func (f *follower) movesToPackage(steps []docs.Block) {
	for _, m := range f.hosts {
		m.sh("docker run -d --restart always --name pinged busybox sleep 100000")
	}
	f.underPings("from the tar.gz to the package", func() {
		f.restarts(func() { f.follow(steps) })
	})
	for _, m := range f.hosts {
		if got := m.sh("readlink /proc/$(systemctl show --value -p MainPID flanneld)/exe; systemctl is-enabled flanneld; command -v flanneld"); got != "/usr/sbin/flanneld\nenabled\n/usr/sbin/flanneld" {
			f.t.Errorf("after the move, %s has %q", m, got)
		}
		m.sh("flanneld check")
	}
}
