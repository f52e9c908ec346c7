package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"flanneld/internal/lab"
)

// supervise starts supervisord with step 2's file.
func (m *machine) supervise() {
	m.t.Helper()
	m.write("/etc/supervisord.conf", supervisorConf, 0o644)
	m.write("/etc/supervisord.d/flannel.ini", strings.Replace(m.own(supervisorINI), "startsecs=30", "startsecs=1", 1), 0o644)
	m.sh("mkdir -p /data/logs/flanneld && supervisord")
	m.t.Cleanup(func() {
		log := m.read(flanneldLog)
		for _, bad := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if strings.Contains(log, bad) {
				m.t.Errorf("%s logged %q", m, bad)
			}
		}
		if m.t.Failed() {
			m.t.Logf("%s# cat %s /var/log/supervisord.log\n%s\n%s", m, flanneldLog, log, m.read("/var/log/supervisord.log"))
		}
	})
}

// control is supervisorctl with an action for the program.
func (m *machine) control(action string) {
	m.t.Helper()
	m.sh("supervisorctl " + action + " flanneld-7-" + m.number())
}

// running waits until supervisord says so.
func (m *machine) running() {
	m.t.Helper()
	lab.Eventually(m.t, 2*soon, "supervisord to have flanneld RUNNING", func() error {
		out, _ := m.try("supervisorctl status") // fails while it is not RUNNING
		if !strings.Contains(out, "RUNNING") || strings.Contains(out, "FATAL") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// healthy waits for the answer of the one flanneld there is.
func (m *machine) healthy() {
	m.t.Helper()
	lab.Eventually(m.t, soon, "flanneld's answer", func() error {
		out, err := m.TryGet("http://127.0.0.1:2401/healthz")
		if err == nil && out != "flanneld is running" {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
}

// TestSupervised has the tutorial's flanneld.sh, without exec, and each shell
// that is sh somewhere.
func TestSupervised(t *testing.T) {
	t.Parallel()
	withoutTLS := strings.NewReplacer("https://10.4.7.12:2379,https://10.4.7.21:2379,https://10.4.7.22:2379", "http://10.4.7.21:2379",
		"  --etcd-keyfile=./cert/client-key.pem \\\n  --etcd-certfile=./cert/client.pem \\\n  --etcd-cafile=./cert/ca.pem \\\n", "")
	for _, shell := range []string{"bash", "dash"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			m := newMachine(t, l.Host("hdss7-21", "10.4.7.21/24"))
			l.EtcdOn(lab.EtcdOptions{}, m.Host).Set(configKey, hostGW)
			m.install(withoutTLS.Replace(startScript))
			m.shIs(shell)
			testSupervised(t, m)
		})
	}
}

func testSupervised(t *testing.T, m *machine) {
	// one waits until exactly one runs, which is another than before.
	one := func(before int) (now int) {
		t.Helper()
		lab.Eventually(t, 2*soon, "one flanneld, and a new one", func() error {
			pids := m.flannelds()
			if len(pids) != 1 || pids[0] == before {
				return fmt.Errorf("there are %v, before it was %d", pids, before)
			}
			now = pids[0]
			return nil
		})
		m.running()
		m.healthy()
		if pids := m.flannelds(); !slices.Equal(pids, []int{now}) {
			t.Errorf("process %d has become %v", now, pids)
		}
		return now
	}
	// v0.11, which stop orphans, and which holds the health port then.
	script := m.read("/usr/local/flannel/flanneld.sh")
	standIn(t, m)
	m.supervise()
	m.running()
	orphan := m.awaitFlannelds(1)[0]
	m.control("stop")
	if got := m.awaitFlannelds(1)[0]; got != orphan {
		t.Fatalf("the stand-in was process %d and is %d", orphan, got)
	}
	orphans := []string{inner(t, orphan)}
	m.write("/usr/local/flannel/flanneld.sh", script, 0o755)
	m.put(lab.Binary(t), "/usr/local/flannel/flanneld", 0o755)
	m.control("start")
	first := one(orphan)

	// Ours.
	m.control("stop")
	m.awaitFlannelds(0)
	m.control("start")
	second := one(first)

	// The shell is killed, by the kernel for want of memory, say.
	kill(t, parent(t, second))
	third := one(second)

	// supervisord is: shell and flanneld live on until it starts again, though
	// nobody reads what they log.
	m.sh("p=$(cat /run/supervisord.pid); kill -9 $p; while grep -qs '^State:.[^Z]' /proc/$p/status; do sleep 0.1; done") // its socket is free then
	if got := m.awaitFlannelds(1)[0]; got != third {
		t.Errorf("process %d has become %d", third, got)
	}
	for range 2 {
		m.sh("iptables -F FORWARD") // which is logged
		lab.Eventually(t, soon, "the rules again", func() error {
			_, err := m.try("iptables -S FORWARD | grep -e '-j ACCEPT'")
			return err
		})
	}
	if got := m.awaitFlannelds(1)[0]; got != third {
		t.Errorf("process %d has become %d", third, got)
	}
	orphans = append(orphans, inner(t, third))
	m.sh("supervisord")
	one(third)
	for _, name := range orphans {
		if log := m.read(flanneldLog); !strings.Contains(log, `left over from an earlier run under supervisord" pid=`+name+" signal=") {
			t.Errorf("the log does not speak of the orphan %s", name)
		}
	}
}

// standIn puts a program called flanneld in place that does nothing but hold the
// health port: busybox, which behaves as the name it is called by.
func standIn(t *testing.T, m *machine) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	m.put(busybox, "/usr/local/flannel/flanneld", 0o755)
	m.sh("ln -s flanneld /usr/local/flannel/nc")
	m.write("/usr/local/flannel/flanneld.sh", "#!/bin/sh\n./nc -l -p 2401\n", 0o755)
}

// inner is the ID that a process has on its machine.
func inner(t *testing.T, pid int) string {
	t.Helper()
	_, ids, _ := strings.Cut(read(t, fmt.Sprintf("/proc/%d/status", pid)), "\nNSpid:")
	line, _, _ := strings.Cut(ids, "\n")
	all := strings.Fields(line)
	return all[len(all)-1]
}

// kill kills one of the machine's processes, by the ID that the test knows.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill process %d: %v", pid, err)
	}
}

// parent is the process that has started another.
func parent(t *testing.T, pid int) int {
	t.Helper()
	ppid, err := parentOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

// parentOf is parent of a process that may end: /proc/PID/stat has its ID behind the name, in
// parentheses, and the state.
func parentOf(pid int) (ppid int, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, err = fmt.Sscanf(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " %c %d", new(rune), &ppid)
	return ppid, err
}
