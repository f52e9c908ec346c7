package dist_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// installed copies the units into a folder, with programs at their place.
func installed(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"flanneld.service", "docker.service.d/flannel.conf"} {
		content := strings.ReplaceAll(read(t, filepath.Join("systemd", name)), "/usr/local/flannel", dir)
		content = strings.ReplaceAll(content, "/sbin/modprobe", filepath.Join(dir, "modprobe"))
		content = strings.ReplaceAll(content, "ExecStart=dockerd", "ExecStart="+filepath.Join(dir, "dockerd"))
		write(t, filepath.Join(dir, name), content, 0o644)
	}
	write(t, filepath.Join(dir, "docker.service"), "[Service]\nExecStart=/bin/false\n", 0o644)
	for _, name := range []string{"flanneld", "mk-docker-opts.sh", "modprobe", "dockerd"} {
		write(t, filepath.Join(dir, name), "#!/bin/sh\n", 0o755)
	}
	return dir
}

// TestUnitsParse: systemd finds nothing to complain about in the unit and in
// the drop-in, and does where a setting is misspelt.
func TestUnitsParse(t *testing.T) {
	need(t, "systemd-analyze", "systemd")
	dir := installed(t)
	verify := func() result {
		return run(t, dir, []string{"SYSTEMD_UNIT_PATH=" + dir + ":"}, "systemd-analyze", "verify", "--man=no", "flanneld.service", "docker.service")
	}
	if r := verify(); r.code != 0 || r.stderr != "" {
		t.Errorf("exit %d:\n%s", r.code, r.stderr)
	}
	unit := filepath.Join(dir, "flanneld.service")
	write(t, unit, strings.Replace(read(t, unit), "ProtectHome=", "ProtectHomes=", 1), 0o644)
	if r := verify(); !strings.Contains(r.stderr, "ProtectHomes") {
		t.Errorf("a misspelt setting went unnoticed: %+v", r)
	}
}

// TestUnitIsConfined by systemd's own measure: 0 is none of the machine in
// reach, 10 is all of it.
func TestUnitIsConfined(t *testing.T) {
	need(t, "systemd-analyze", "systemd")
	unit := source(t, "systemd/flanneld.service")
	if r := run(t, ".", nil, "systemd-analyze", "security", "--offline=true", "--threshold=30", unit); r.code != 0 {
		t.Errorf("exposure is above 3.0:\n%s", r.stdout)
	}
}

// TestRouteProtocolName: ip shows our routes by name once the file is there.
func TestRouteProtocolName(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "rt_protos.d/flanneld.conf"), read(t, "iproute2/flanneld.conf"), 0o644)
	// In mount and network namespaces of its own: /etc is the machine's.
	got := succeed(t, dir, nil, "unshare", "--mount", "--net", "sh", "-ec", `
mount -t tmpfs none /etc
mkdir /etc/iproute2
cp -r rt_protos.d /etc/iproute2
ip link set lo up
ip route add 172.7.22.0/24 dev lo proto 77
ip route show proto flanneld
ip route show`)
	if got != "172.7.22.0/24 dev lo scope link \n172.7.22.0/24 dev lo proto flanneld scope link \n" {
		t.Errorf("ip route shows %q", got)
	}
}

// TestSettingsAreFlags: each setting for flanneld is a flag of flannel's, which
// ours has too.
func TestSettingsAreFlags(t *testing.T) {
	flags := strings.Fields(`etcd-endpoints etcd-prefix etcd-keyfile etcd-certfile etcd-cafile etcd-username
		etcd-password iface iface-regex public-ip subnet-file subnet-lease-renew-margin ip-masq healthz-ip
		healthz-port iptables-resync iptables-forward-rules version v vmodule log_backtrace_at`)
	for name, pattern := range map[string]string{
		"flanneld.sh":              `--([a-z0-9-]+)=`,
		"systemd/flanneld.env":     `(?m)^#?FLANNELD_([A-Z_]+)=`,
		"systemd/flanneld.service": `FLANNELD_([A-Z_]+)=`,
	} {
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, name), -1)
		if len(found) == 0 {
			t.Errorf("%s sets nothing", name)
		}
		for _, f := range found {
			flag := strings.ToLower(strings.ReplaceAll(f[1], "_", "-"))
			if !slices.Contains(flags, flag) {
				t.Errorf("%s sets %s, which is no flag", name, flag)
			}
		}
	}
}
