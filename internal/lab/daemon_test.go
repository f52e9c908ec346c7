package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	switch os.Getenv("LAB_TEST_DAEMON") {
	case "notify":
		notifyingDaemon()
		return
	case "time":
		printTime()
		return
	}
	NeedEtcd()
	Main(m)
}

// script starts a shell script in flanneld's place.
func script(h *Host, lines string) *Daemon {
	return h.Start(FlanneldOptions{Binary: "/bin/sh", Args: []string{"-c", lines, "flanneld"}, Env: []string{"COLOUR=blue"}, Dir: h.Dir()})
}

func TestDaemonIsWatchedOver(t *testing.T) {
	t.Setenv("FLANNELD_ETCD_PREFIX", "/from/the/desk")
	l := New(t)
	h := l.Host("hdss7-21", "10.4.7.21/24")
	d := script(h, `
		trap 'echo stopping; exit 0' TERM
		trap 'echo again' USR1
		echo "up $COLOUR $FLANNELD_ETCD_PREFIX in $PWD" >&2
		ip -br addr show ens33
		while :; do sleep 60 & wait; done`)
	d.WaitLog("up blue  in " + h.Dir())
	d.WaitLog("10.4.7.21/24")
	d.Signal(syscall.SIGUSR1)
	d.WaitLog("again")
	if !d.Running() || d.MaxRSS() < 100_000 || d.CPUTime() > 10*time.Second {
		t.Errorf("running %v, memory %d bytes, CPU time %v", d.Running(), d.MaxRSS(), d.CPUTime())
	}
	first := d.PID
	d.Restart()
	d.WaitLog("up blue")
	if log := d.Log(); d.PID == first || strings.Contains(log, "again") || strings.Contains(log, "stopping") {
		t.Errorf("after Restart: process %d, then %d, log:\n%s", first, d.PID, log)
	}
	d.Stop()
	if d.Running() || d.Wait(0) != 0 || !strings.HasSuffix(d.Log(), "stopping\n") || d.CPUTime() > 10*time.Second {
		t.Errorf("after Stop: running %v, log:\n%s", d.Running(), d.Log())
	}
	for lines, want := range map[string]int{"exit 7": 7, "kill -QUIT $$": 128 + 3} {
		if code := script(h, lines).Wait(waitTimeout); code != want {
			t.Errorf("%q: exit code %d, want %d", lines, code, want)
		}
	}
	endless := script(h, "sleep 600 & echo started; wait")
	endless.WaitLog("started")
	endless.Kill()
	if code := endless.Wait(0); code != 128+9 {
		t.Errorf("killed: exit code %d", code)
	}
	Eventually(t, waitTimeout, "Kill to end the children", noProcess("sleep 600"))
}

// notifyingDaemon is what this test binary is in flanneld's place.
func notifyingDaemon() {
	socket, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		panic(err)
	}
	time.Sleep(50 * time.Millisecond)
	const env = "FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	if err := os.WriteFile("subnet.env", []byte(env), 0o644); err != nil {
		panic(err)
	}
	fmt.Fprint(socket, "STATUS=leased\nREADY=1")
	select {}
}

func TestContainerWaitsForTheDaemon(t *testing.T) {
	l := New(t)
	h := l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.99.1/24")
	d := h.Start(FlanneldOptions{Binary: "/proc/self/exe", Env: []string{"LAB_TEST_DAEMON=notify"}, Dir: h.Dir()})
	if c := h.Container("c1"); c.IP != netip.MustParseAddr("172.7.21.2") {
		t.Errorf("address %v", c.IP)
	}
	if took := d.WaitReady(); took < 50*time.Millisecond || took > waitTimeout {
		t.Errorf("ready after %v", took)
	}
}

// noProcess complains while a process with exactly this command line lives.
func noProcess(line string) func() error {
	return func() error {
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err == nil && strings.ReplaceAll(string(content), "\x00", " ") == line+" " {
				return fmt.Errorf("%s is %s", filepath.Dir(f), line)
			}
		}
		return err
	}
}
