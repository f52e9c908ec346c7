package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"flanneld/internal/lab"
)

// machine is a host with files and processes of its own, for what the tutorial
// installs and starts: the programs are this system's, /etc a copy of its, and
// what is written anywhere is gone with the machine.
type machine struct {
	*lab.Host
	t         *testing.T
	engine    engine // its dockerd; the zero one is Debian's
	optsFlags string // further ones for mk-docker-opts.sh
	// init is the machine's process 1: with it the kernel ends all others.
	init *lab.Cmd
}

// furnish lays out the machine's files and then waits for ever, as its process 1.
const furnish = `set -eu
mount -t tmpfs -o mode=755 none "$1"
cd "$1"
mkdir -p dev etc proc root run sys tmp usr var/lib var/log
ln -s ../run var/run
for dir in bin lib lib32 lib64 libx32 sbin; do
	if [ -L /$dir ]; then cp -P /$dir .; elif [ -d /$dir ]; then mkdir $dir; mount --rbind /$dir $dir; fi
done
mount --rbind /usr usr
mount -o remount,bind,ro usr || true # an ordinary user cannot, nor write there
mount -t tmpfs -o mode=755 none usr/local
mkdir srv # what is built for tests
mount -o bind,ro "$2" srv
cp -r --preserve=mode,links /etc . 2>/dev/null || true # but for an ordinary user's secrets
mount --rbind /dev dev
mount -t proc none proc
mount -o bind,ro proc/sys/kernel proc/sys/kernel # this system's, and not the machine's own
mount -t sysfs none sys || mount --rbind /sys sys
pivot_root . .
umount -l .
cd /
touch /run/up
sleep infinity
: # and so this shell stays, and reaps orphans
`

const machinePath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// newMachine starts a machine on a host. It ends with the test.
func newMachine(t *testing.T, h *lab.Host) *machine {
	t.Helper()
	m := &machine{Host: h, t: t}
	root := filepath.Join(h.Dir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	build, err := filepath.Abs("../../build") // with dockerd 29 in it
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	m.init = h.Command("sh", "-c", furnish, "init", root, build)
	m.init.Env = []string{"PATH=" + machinePath}
	m.init.Stderr = &said
	m.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if err := m.init.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.end)
	lab.Eventually(t, soon, h.Name+" to be up", func() error {
		_, err := os.Stat(m.path("/run/up"))
		return err
	})
	return m
}

func (m *machine) end() {
	_ = m.init.Process.Kill()
	_ = m.init.Wait()
}

// path is where the test finds a file of the machine, as long as it runs.
func (m *machine) path(file string) string {
	return fmt.Sprintf("/proc/%d/root%s", m.init.Process.Pid, file)
}

// write writes a file, and the folders that it needs.
func (m *machine) write(file, content string, mode os.FileMode) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(file)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	// A running program's file can be replaced but not written to.
	if err := os.WriteFile(m.path(file)+".new", []byte(content), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Rename(m.path(file)+".new", m.path(file)); err != nil {
		m.t.Fatal(err)
	}
}

// put copies a file of this system to the machine.
func (m *machine) put(from, to string, mode os.FileMode) {
	m.t.Helper()
	m.write(to, read(m.t, from), mode)
}

// read returns a file's content, nothing where it is not there.
func (m *machine) read(file string) string {
	content, err := os.ReadFile(m.path(file))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return string(content)
}

// try runs a shell script on the machine, as root logged in to it, and returns
// what it prints. It does not wait for what the script leaves running.
func (m *machine) try(script string) (string, error) {
	said, err := os.CreateTemp(m.path("/tmp"), "said") // a pipe would be waited for
	if err != nil {
		m.t.Fatal(err)
	}
	defer said.Close()
	defer os.Remove(said.Name())
	// From Go it cannot be entered: that takes a process with one thread.
	cmd := m.Command("timeout", fmt.Sprint(stall.Seconds()), "nsenter", "--target", fmt.Sprint(m.init.Process.Pid), "--mount", "--pid", "sh", "-c", script)
	cmd.Env = []string{"PATH=" + machinePath, "HOME=/root"}
	cmd.Stdout, cmd.Stderr = said, said
	err = cmd.Run()
	return strings.TrimSuffix(read(m.t, said.Name()), "\n"), err
}

// sh is try for a script that must succeed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		m.t.Fatalf("%s# %s\n%s\n%v", m, script, out, err)
	}
	return out
}

// flannelds are the processes on the machine whose program is called flanneld,
// by the IDs that the test knows them by.
func (m *machine) flannelds() (pids []int) {
	m.t.Helper()
	here, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", m.init.Process.Pid))
	if err != nil {
		m.t.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, p := range all { // any of which may end at any moment
		program, _ := os.Readlink(p + "/exe")
		where, _ := os.Readlink(p + "/ns/pid")
		if where == here && strings.TrimSuffix(filepath.Base(program), " (deleted)") == "flanneld" {
			var pid int
			if _, err := fmt.Sscanf(p, "/proc/%d", &pid); err != nil {
				m.t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	// What a flanneld forks is of the same program until it runs another one.
	forked := func(pid int) bool {
		ppid, err := parentOf(pid)
		return err != nil || slices.Contains(pids, ppid)
	}
	return slices.DeleteFunc(slices.Clone(pids), forked)
}

// awaitFlannelds waits until so many run, and returns them.
func (m *machine) awaitFlannelds(n int) (pids []int) {
	m.t.Helper()
	lab.Eventually(m.t, soon, fmt.Sprintf("%d flanneld on %s", n, m), func() error {
		if pids = m.flannelds(); len(pids) != n {
			return fmt.Errorf("there are %d", len(pids))
		}
		return nil
	})
	return pids
}

// shIs makes a shell the machine's sh: CentOS's is bash, Debian's is dash.
func (m *machine) shIs(shell string) {
	m.t.Helper()
	m.sh(`[ "$(readlink -f /bin/sh)" = "$(readlink -f "$(command -v ` + shell + `)")" ] || mount --bind "$(command -v ` + shell + `)" /bin/sh`)
}

// iptablesIs makes one of the two flavours the machine's iptables.
func (m *machine) iptablesIs(flavour string) {
	m.t.Helper()
	m.sh(`mkdir -p /usr/local/sbin
		for end in '' -save -restore; do
			ln -sf "$(command -v ` + flavour + `$end)" /usr/local/sbin/iptables$end
			ln -sf "$(command -v ` + strings.Replace(flavour, "ip", "ip6", 1) + `$end)" /usr/local/sbin/ip6tables$end
		done`)
}
