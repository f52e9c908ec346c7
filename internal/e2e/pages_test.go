package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
	"flanneld/pkg/printable"
)

// TestPages follows the pages that lead to a running deployment, in both languages,
// on hosts with a real systemd: it types each command and writes each file as it
// stands there, on each host with that host's numbers, and compares what they print.
func TestPages(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("a machine's systemd needs real root: run this test with sudo")
	}
	releases := []string{release(t, "0.3.0"), release(t, "0.4.0")}
	t.Run("supervisord", func(t *testing.T) {
		t.Parallel()
		f := newFollower(t, "supervisord", releases)
		for _, m := range f.hosts {
			m.write("/etc/supervisord.conf", supervisorConf, 0o644)
			m.sh("mkdir -p /etc/supervisord.d && supervisord -c /etc/supervisord.conf")
		}
		f.install(docs.Blocks(t, "docs/install-supervisord.md"), docs.Blocks(t, "docs/docker.md"))
		f.hosts[0].sh(". /etc/profile.d/flanneld.sh; flanneld config set --yes " + printable.Word(vxLAN)) // which the page shows
		f.follow(docs.Blocks(t, "docs/monitoring.md"))
		f.follow(docs.Blocks(t, "docs/operations.md"))
		f.follow(docs.Blocks(t, "docs/migrate-v2-v3.md"))
		f.allIsWell()
	})
	t.Run("README", func(t *testing.T) {
		t.Parallel()
		f := newFollower(t, "package", releases)
		f.etcd.Set(configKey, hostGW)
		f.copyCertificates()
		for _, m := range f.hosts {
			m.write("/usr/local/bin/vi", m.own(editor), 0o755)
		}
		f.follow([]docs.Block{docs.Containing(t, "README.md", "dpkg -i")})
	})
	// The Chinese pages have the same blocks; internal/docs sees to that.
	t.Run("package", func(t *testing.T) {
		t.Parallel()
		f := newFollower(t, "package", releases)
		page := docs.Blocks(t, "docs/zh/install-systemd.md")
		set := slices.IndexFunc(page, func(b docs.Block) bool { return strings.Contains(b.Text, "dpkg -i") }) + 1
		f.follow(page[:set])
		f.nothingStarted()
		f.install(page[set:], docs.Blocks(t, "docs/zh/docker.md"))
		f.allIsWell()
		f.updates()
		f.removes()
		f.takesRPM()
	})
	t.Run("tar", func(t *testing.T) {
		t.Parallel()
		f := newFollower(t, "tar", releases)
		f.etcd.Set(configKey, hostGW)
		page := slices.DeleteFunc(docs.Blocks(t, "docs/install-systemd.md"), func(b docs.Block) bool { return b.Notes["with"] != "tar" })
		f.follow(append(page[:1:1], docs.Containing(t, "docs/install-systemd.md", "FLANNEL_SUBNET=")))
		f.copyCertificates()
		f.follow(page[1:2])
		f.follow(docs.Blocks(t, "docs/docker.md"))
		f.allIsWell()
		f.movesToPackage(page[2:])
	})
}

// editor stands in for vi, in the hands of somebody who keeps certificates in /root.
const editor = `#!/bin/sh
sed -i 's,^#FLANNELD,FLANNELD,; s,/etc/flanneld/,/root/,; s/^FLANNELD_PUBLIC_IP=.*/FLANNELD_PUBLIC_IP=10.4.7.21/' "$1"
`

// release makes what users download, in a folder, with further variables for the script.
func release(t *testing.T, version string, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("sh", "../../dist/build.sh")
	build.Env = append(os.Environ(), "OUT="+dir, "VERSION="+version, "ARCHES="+runtime.GOARCH, "SOURCE_DATE_EPOCH=1700000000",
		"TOOL="+lab.ReleaseTool(t), "SIGNING_KEY=")
	build.Env = append(build.Env, env...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// follower is a reader of the pages, logged in to two hosts as root.
type follower struct {
	t     *testing.T
	how   string // where a page tells several ways: "supervisord", or under systemd "package" or "tar"
	hosts []*bootable
	etcd  *lab.Etcd
	certs map[string]string // from their names to the files
}

// newFollower has the files that a reader brings along in /root: releases and
// certificates. The first release is the one whose sums are there.
func newFollower(t *testing.T, how string, releases []string) *follower {
	l := lab.New(t)
	h12, h21, h22 := l.Host("hdss7-12", "10.4.7.12/24"), l.Host("hdss7-21", "10.4.7.21/24"), l.Host("hdss7-22", "10.4.7.22/24")
	ca := lab.NewCA(t, "authority")
	client := ca.Client("client", 24*time.Hour)
	machine := newDebian
	if how == "supervisord" {
		machine = newBootable
	}
	f := &follower{
		t: t, how: how, hosts: []*bootable{machine(t, h21), machine(t, h22)},
		certs: map[string]string{"ca.pem": ca.File, "client.pem": client.CertFile, "client-key.pem": client.KeyFile},
	}
	f.etcd = l.EtcdOn(lab.EtcdOptions{TLS: ca}, h12, h21, h22)
	image := busyboxImage(t) // which the hosts cannot download
	for _, m := range f.hosts {
		m.boot()
		if how == "supervisord" {
			m.sh("mkdir -p /usr/local/sbin /usr/local/bin")
			m.iptablesIs("iptables-nft")
			m.write("/etc/docker/daemon.json", `{"storage-driver": "vfs"}`, 0o644)
		}
		m.write("/root/busybox.tar", image, 0o644)
		for _, dir := range slices.Backward(releases) {
			files, err := filepath.Glob(dir + "/*")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				if kind := filepath.Ext(file); how == "supervisord" && kind != ".gz" && kind != "" {
					continue
				}
				m.put(file, "/root/"+filepath.Base(file), 0o644)
			}
		}
		m.write("/root/.curlrc", "silent\nshow-error\n", 0o644) // as on a terminal
		m.write("/root/.shell", "cd /root\n", 0o644)
	}
	return f
}

// install follows a page on installing, and the one about docker where that sends its
// readers there: before they look whether all is well, or switch the backend.
func (f *follower) install(blocks, docker []docs.Block) {
	at := slices.IndexFunc(blocks, func(b docs.Block) bool { return b.Text == "flanneld check\n" || strings.Contains(b.Text, "VxLAN") })
	if at < 0 {
		at = len(blocks)
	}
	f.follow(blocks[:at])
	f.follow(docker)
	f.follow(blocks[at:])
}

func (f *follower) allIsWell() {
	for _, m := range f.hosts {
		m.sh("PATH=$PATH:/usr/local/flannel flanneld check")
	}
}

// follow does what blocks say, each on the host that it names or on both at once.
func (f *follower) follow(blocks []docs.Block) {
	f.t.Helper()
	for _, b := range blocks {
		if strings.Contains(b.Text, "scp root@10.4.7.12") {
			f.copyCertificates()
		}
		only := b.Notes["with"]
		if b.Notes["not run"] != "" || only != "" && only != f.how && (only != "systemd" || f.how == "supervisord") {
			continue
		}
		if b.Lang == "console" {
			prints(f.t, b, func(s docs.Step) (string, error) {
				i := slices.IndexFunc(f.hosts, func(m *bootable) bool { return m.Name == s.Host })
				return f.runs(f.hosts[i], ". /root/.shell\n"+s.Command)
			})
			continue
		}
		var all sync.WaitGroup
		for _, m := range f.hosts {
			if on := b.Notes["on"]; on == "" || on == m.Name {
				all.Go(func() { f.does(m, b) })
			}
		}
		all.Wait()
		if f.t.Failed() {
			f.t.FailNow()
		}
	}
}

// copyCertificates stands in for scp.
func (f *follower) copyCertificates() {
	for _, m := range f.hosts {
		for name, file := range f.certs {
			m.put(file, "/root/"+name, 0o644)
			m.sh("for d in /etc/flanneld /usr/local/flannel/cert; do if [ -d $d ]; then cp /root/" + name + " $d/; fi; done")
		}
	}
}

// does writes a file, or runs lines in the shell on a host, which stays where they lead
// to and keeps its variables.
func (f *follower) does(m *bootable, b docs.Block) {
	text := m.own(b.Text)
	switch file := m.own(b.Notes["file"]); {
	case file != "":
		m.write("/root/file", text, 0o644)
		m.sh("install -D -m 644 /root/file " + file) // by links within the machine
	case b.Lang == "sh":
		if out, err := f.runs(m, inShell(text)); err != nil {
			f.t.Errorf("line %d, on %s: %v\n%s\n%s", b.Line, m, err, text, out)
		}
	}
}

// runs is the machine's try, with the image at hand that docker would download.
func (f *follower) runs(m *bootable, script string) (string, error) {
	if strings.Contains(script, "docker run") {
		m.sh("docker image inspect busybox >/dev/null 2>&1 || docker import /root/busybox.tar busybox")
	}
	return m.try(script)
}

// inShell has a shell begin as the last one on this host ended.
func inShell(text string) string {
	return ". /root/.shell\nset -e\n" + text + "\nset +e\n{ export -p; echo cd \"$PWD\"; } >/root/.shell"
}
