package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestPages follows the pages that lead to a running deployment, in both languages,
// on hosts with a real systemd: it types each command and writes each file as it
// stands there, on each host with that host's numbers, and compares what they print.
func TestPages(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("a machine's systemd needs real root: run this test with sudo")
	}
	archive := release(t)
	for _, tt := range []struct {
		name   string
		how    string // of those that the page about docker tells apart
		blocks []docs.Block
	}{
		{"supervisord", "supervisord", append(docs.Blocks(t, "docs/install-supervisord.md"), docs.Blocks(t, "docs/docker.md")...)},
		{"systemd, in Chinese", "systemd", append(docs.Blocks(t, "docs/zh/install-systemd.md"), docs.Blocks(t, "docs/zh/docker.md")...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFollower(t, archive)
			if tt.how == "supervisord" {
				for _, m := range f.hosts {
					m.write("/etc/supervisord.conf", supervisorConf, 0o644)
					m.sh("mkdir -p /etc/supervisord.d && supervisord -c /etc/supervisord.conf")
				}
			}
			for _, b := range tt.blocks {
				if only := b.Notes["with"]; only == "" || only == tt.how {
					f.follow(b)
				}
			}
			for _, m := range f.hosts {
				m.sh(flanneldCheck) // finds no fault
			}
		})
	}
}

// release makes the archive that users download.
func release(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("sh", "../../dist/build.sh")
	build.Env = append(os.Environ(), "OUT="+dir, "VERSION=0.2.0", "ARCHES="+runtime.GOARCH, "SOURCE_DATE_EPOCH=1700000000")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "flanneld-0.2.0-linux-"+runtime.GOARCH+".tar.gz")
}

// follower is a reader of the pages, with a shell on each of two hosts.
type follower struct {
	t     *testing.T
	hosts []*bootable
	cwd   map[*bootable]string
	image string // of busybox, which the hosts cannot download
	mu    sync.Mutex
}

func newFollower(t *testing.T, archive string) *follower {
	l := lab.New(t)
	h12, h21, h22 := l.Host("hdss7-12", "10.4.7.12/24"), l.Host("hdss7-21", "10.4.7.21/24"), l.Host("hdss7-22", "10.4.7.22/24")
	ca := lab.NewCA(t, "authority")
	f := &follower{t: t, hosts: []*bootable{newBootable(t, h21), newBootable(t, h22)}, cwd: map[*bootable]string{}, image: busyboxImage(t)}
	l.EtcdOn(lab.EtcdOptions{TLS: ca}, h12, h21, h22)
	client := ca.Client("client", 24*time.Hour)
	for _, m := range f.hosts {
		m.boot()
		m.iptablesIs("iptables-nft")
		m.write("/etc/docker/daemon.json", `{"storage-driver": "vfs"}`, 0o644)
		m.put(archive, "/root/"+filepath.Base(archive), 0o644)
		m.put(filepath.Join(filepath.Dir(archive), "SHA256SUMS"), "/root/SHA256SUMS", 0o644)
		m.put(ca.File, "/root/ca.pem", 0o644)
		m.put(client.CertFile, "/root/client.pem", 0o644)
		m.put(client.KeyFile, "/root/client-key.pem", 0o600)
		f.cwd[m] = "/root"
	}
	return f
}

// follow does what a block says, on the host that it names or on both at once.
func (f *follower) follow(b docs.Block) {
	if b.Notes["not run"] != "" {
		return
	}
	if b.Lang == "console" {
		for _, s := range transcript(b.Text) {
			f.sees(b, s)
		}
		return
	}
	var all sync.WaitGroup
	for _, m := range f.hosts {
		if on := b.Notes["on"]; on != "" && on != m.Name {
			continue
		}
		all.Go(func() {
			text := m.own(b.Text)
			switch file := m.own(b.Notes["file"]); {
			case file != "":
				mode := os.FileMode(0o644)
				if strings.HasPrefix(text, "#!") {
					mode = 0o755
				}
				m.write(file, text, mode)
			case b.Lang == "sh":
				f.types(m, b, text)
			}
		})
	}
	all.Wait()
	if f.t.Failed() {
		f.t.FailNow()
	}
}

// types runs lines in the shell on a host, which stays where they lead to.
func (f *follower) types(m *bootable, b docs.Block, text string) {
	f.mu.Lock()
	dir := f.cwd[m]
	f.mu.Unlock()
	if strings.Contains(text, "docker run") {
		m.write("/root/busybox.tar", f.image, 0o644)
		m.sh("docker image inspect busybox >/dev/null 2>&1 || docker import /root/busybox.tar busybox")
	}
	out, err := m.try("cd " + dir + "\nset -e\n" + text + "\npwd >/root/.cwd")
	if err != nil {
		f.t.Errorf("line %d, on %s:\n%s\nsays, in %s: %s\n%v", b.Line, m, text, dir, out, err)
		return
	}
	f.mu.Lock()
	f.cwd[m] = strings.TrimSpace(m.read("/root/.cwd"))
	f.mu.Unlock()
}

// shown is a command of a transcript, and what it printed.
type step struct{ host, command, output string }

var prompt = regexp.MustCompile(`^(hdss7-\d+)# (.*)$`)

func transcript(text string) (steps []step) {
	for line := range strings.Lines(text) {
		if p := prompt.FindStringSubmatch(strings.TrimSuffix(line, "\n")); p != nil {
			steps = append(steps, step{host: p[1], command: p[2]})
		} else if len(steps) > 0 {
			steps[len(steps)-1].output += line
		}
	}
	return steps
}

// sees waits until a command prints what the page shows: what follows a command takes
// a moment. Columns may be wider.
func (f *follower) sees(b docs.Block, s step) {
	f.t.Helper()
	want := pattern(s.output)
	for _, m := range f.hosts {
		if m.Name != s.host {
			continue
		}
		lab.Eventually(f.t, 2*soon, fmt.Sprintf("what line %d shows of %s", b.Line, s.command), func() error {
			out, err := m.try("cd " + f.cwd[m] + "\n" + s.command)
			if !want.MatchString(squeezed(out)) {
				return fmt.Errorf("%s# %s\n%s\n(%v), and the page has\n%s", m, s.command, out, err, s.output)
			}
			return nil
		})
	}
}

var spaces = regexp.MustCompile(`[ \t]+`)

func squeezed(s string) string { return strings.TrimSpace(spaces.ReplaceAllString(s, " ")) }

// pattern matches what a page shows: "..." for lines that are left out, "…" within one.
func pattern(output string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`^`)
	for line := range strings.Lines(squeezed(output) + "\n") {
		if line == "...\n" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*?") + `\s*?(?:\n|$)`)
	}
	b.WriteString(`$`)
	return regexp.MustCompile(b.String())
}
