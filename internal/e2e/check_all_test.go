package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// TestCheckAll has one of 24 hosts look at the others, of which three are broken, each in another
// way: each is a cause of its own, and its fix mends it.
func TestCheckAll(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21")
	h := c.hosts[0]
	const hosts = 24
	for n := 22; n < 21+hosts; n++ {
		c.join(fmt.Sprintf("hdss7-%d", n))
	}
	for _, p := range c.hosts[1:] {
		p.box = p.Container("c1")
	}
	c.allReached(hosts - 1)

	gone, without, closed := c.hosts[5], c.hosts[11], c.hosts[23]
	gone.Cut()
	without.daemon.Kill()
	without.Shell("ip link del flannel.1")
	closed.Shell("sysctl -qw net.ipv4.ip_forward=0")
	there := func(n *node) string { return fmt.Sprintf("flanneld check 172.7.21.0/24   # on the peer %v", n.IP) }
	causes := map[check.Reason]struct {
		on  *node
		fix string
	}{
		check.HostSilent:    {gone, fmt.Sprintf("ping %v   # is it up? what is between here and there?", gone.IP)},
		check.NoTunnel:      {without, there(without) + ": does flanneld run there?"},
		check.NotForwarding: {closed, fmt.Sprintf("sysctl -w net.ipv4.ip_forward=1   # on the peer %v", closed.IP)},
	}
	lab.Eventually(t, 3*soon, "three causes, each once", func() error {
		r, code := checkedAll(t, h)
		if want := (check.Summary{Peers: hosts - 1, Reached: hosts - 4, NotReached: 3, Causes: 3}); code != 1 || r.Summary != want || len(r.Causes) != 3 {
			return fmt.Errorf("exit code %d, %+v", code, r)
		}
		for _, found := range r.Causes {
			want, expected := causes[found.Reason]
			if !expected || len(found.Peers) != 1 || found.Peers[0].Subnet.String() != want.on.subnet || found.Fix[0] != want.fix ||
				found.Peers[0].Way.IsZero() || found.Peers[0].Renewed.IsZero() {
				return fmt.Errorf("%+v", found)
			}
		}
		return nil
	})
	out, code := runCommand(t, h.Host, "check", "--all")
	expect(t, "for people", out, code, 1, "20 of 23 peers reached in ", "; 3 not: 3 causes\nFAULT  probe  ",
		fmt.Sprintf("\n       peers:  %s (%v)\n       since:  it renewed its lease, ", gone.subnet, gone.IP), "\n       fix:    ping "+gone.IP.String())
	if lines := strings.Count(out, "\n"); lines > 20 {
		t.Errorf("%d lines:\n%s", lines, out)
	}
	h.interrupted(t)
	out, code = runCommand(t, h.Host, "check", "--all", "172.7.22.0/24")
	expect(t, "a peer beside --all", out, code, 2, `--all is about each peer: leave "172.7.22.0/24" away`)

	gone.Heal() // what ping leads to
	found, code := checked(t, without, "172.7.21.0/24")
	if first := firstOf(found, check.Fault); code != 1 || first.Step != "daemon" || !strings.HasPrefix(first.Fix[0], "systemctl start flanneld ") {
		t.Errorf("exit code %d, %+v", code, first)
	}
	without.typed(t, "systemctl start flanneld")
	closed.typed(t, "sysctl -w net.ipv4.ip_forward=1")
	c.allReached(hosts - 1)
	h.box.Reach(closed.box, soon)
}

// allReached wants the first host to reach so many peers, and to find nothing.
func (c *cluster) allReached(peers int) {
	c.t.Helper()
	lab.Eventually(c.t, 3*soon, "all to be well", func() error {
		if r, code := checkedAll(c.t, c.hosts[0]); code != 0 || r.Summary != (check.Summary{Peers: peers, Reached: peers}) || len(r.Causes) > 0 {
			return fmt.Errorf("exit code %d, %+v\n%s", code, r, shown(r.Findings()))
		}
		return nil
	})
}

// checkedAll is what check --all finds on a host, and its exit code.
func checkedAll(t *testing.T, n *node) (r check.Report, code int) {
	t.Helper()
	out, code := runCommand(t, n.Host, "check", "--all", "-o", "json")
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return r, code
}

// interrupted has a user at a terminal watch check --all, and press Ctrl-C.
func (n *node) interrupted(t *testing.T) {
	t.Helper()
	lab.Eventually(t, 3*soon, "a check that is interrupted", func() error {
		control, tty := terminal(t, 60)
		defer control.Close()
		cmd := n.Command(lab.Binary(t), "check", "--all")
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "TERM=xterm")
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, tty
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		tty.Close()
		var seen []byte
		for buffer, pressed := make([]byte, 4096), false; ; {
			k, err := control.Read(buffer)
			if seen = append(seen, buffer[:k]...); err != nil { // nobody has the terminal open
				break
			}
			if !pressed && strings.Contains(string(seen), "-] ") {
				pressed = true
				_ = cmd.Process.Signal(os.Interrupt)
			}
		}
		_ = cmd.Wait()
		const clear = "\r\x1b[K"
		if text := string(seen); !strings.HasPrefix(text, "\r...\x1b[K\r") || !strings.Contains(text, clear+"flanneld: ") {
			t.Fatalf("the terminal shows %q", text)
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 && code != 2 || !strings.HasPrefix(out.String(), "interrupted: ") || !strings.Contains(out.String(), " not looked at\n") {
			return fmt.Errorf("exit code %d, %s", code, out.String()) // as after all, where this process waits for a CPU
		}
		return nil
	})
}

// terminal is one of so many columns, and who controls it.
func terminal(t *testing.T, columns uint16) (control, tty *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(control.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return control, tty
}
