package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// checked is what check finds on a host on the way to one peer, or to all, and
// its exit code.
func checked(t *testing.T, n *node, what string) ([]check.Finding, int) {
	t.Helper()
	out, code := runCommand(t, n.Host, append([]string{"check", "-o", "json"}, strings.Fields(what)...)...)
	return parsed(t, out), code
}

// parsed reads the JSON at the beginning of an output.
func parsed(t *testing.T, out string) (found []check.Finding) {
	t.Helper()
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&found); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return found
}

func firstOf(found []check.Finding, level check.Level) check.Finding {
	i := slices.IndexFunc(found, func(x check.Finding) bool { return x.Level == level })
	if i < 0 {
		return check.Finding{}
	}
	return found[i]
}

// clean wants a check to find nothing, for once.
func clean(t *testing.T, n *node, moment, what string, notes ...string) {
	t.Helper()
	lab.Eventually(t, 3*soon, moment, func() error { // check may wait for a session, and a busy machine lose a probe
		found, code := checked(t, n, what)
		for _, x := range found {
			if code != 0 || remarkable(x, notes) {
				return fmt.Errorf("exit code %d, something is found:\n%s", code, shown(found))
			}
		}
		return nil
	})
}

// remarkable are findings, but for notes of some steps.
func remarkable(x check.Finding, notes []string) bool {
	switch x.Level {
	case check.OK, check.Skipped:
		return false
	case check.Note: // in its first seconds each flanneld takes etcd for degraded
		return !slices.Contains(notes, x.Step) && !strings.HasPrefix(x.Text, "etcd may have lost leases")
	}
	return true
}

// shown is what is not well, one finding a line.
func shown(found []check.Finding) string {
	var b strings.Builder
	for _, x := range found {
		if x.Level != check.OK && x.Level != check.Skipped {
			fmt.Fprintf(&b, "%s %s: %s\n    %s\n", x.Level, x.Step, x.Text, strings.Join(x.Fix, "\n    "))
		}
	}
	return b.String()
}

// trouble is a way to break a host, what is found, and what repairs it.
type trouble struct {
	name  string
	on    *node  // that is broken, and repaired
	from  *node  // where check runs; nil: there
	how   string // by a line of shell
	do    func() // or so
	again bool   // as the daemon, should it look at something, would repair it

	step, text string   // of the first fault
	after      []string // steps that show a fault in its wake
	fix        string   // the command that repairs it, without its comment; %s stands for what only the run knows
	line       int      // the fix's, from 0 on

	repair    func()   // stands in for a fix that the lab cannot type
	more      string   // is typed after the fix, or repaired beyond what check looks at
	notes     []string // steps that note something all the while
	other     *node    // looks at the broken host from the other side; nil: nobody does
	elsewhere bool     // TestCheckPeers has its like, seen from the other side
}

// findAll has one trouble after the other, up to one that stays.
func findAll(t *testing.T, troubles []trouble) {
	t.Helper()
	for _, tr := range troubles {
		if !t.Run(tr.name, tr.find) {
			t.FailNow()
		}
	}
}

// strike breaks the host.
func (tr trouble) strike() trouble {
	if tr.from == nil {
		tr.from = tr.on
	}
	if tr.how != "" {
		tr.on.Shell(tr.how)
	}
	if tr.do != nil {
		tr.do()
	}
	return tr
}

// find breaks a host, looks, does what check says and wants all to be well.
func (tr trouble) find(t *testing.T) {
	t.Helper()
	tr = tr.strike()
	var fix string
	end := func() {}
	if tr.again {
		end = tr.on.keepsAt(tr.how)
	}
	defer end()
	lab.Eventually(t, 3*soon, tr.name+" to be found", func() (err error) { // a busy machine may lose a probe
		fix, err = tr.found(t)
		return err
	})
	end()
	if tr.other != nil {
		tr.seenFrom(t, tr.other)
	}
	if tr.repair != nil {
		tr.repair()
	} else {
		tr.on.typed(t, fix)
	}
	if tr.more != "" {
		tr.on.Shell(tr.more)
	}
	clean(t, tr.from, "all to be well after "+fix, "", tr.notes...)
}

// keepsAt has another program do the same without end, so that the daemon repairs it ever
// later.
func (n *node) keepsAt(how string) (end func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				_, _ = n.Try("sh", "-c", how)
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-ended })
}

// seenFrom wants check on the other side to say where to look, unless containers reach
// each other.
func (tr trouble) seenFrom(t *testing.T, other *node) {
	t.Helper()
	there := fmt.Sprintf("flanneld check %s   # on the peer %v", other.subnet, tr.on.IP)
	lab.Eventually(t, soon, there, func() error {
		found, code := checked(t, other, tr.on.subnet)
		for _, x := range found {
			for _, line := range x.Fix {
				if code != 0 && strings.HasPrefix(line, there) {
					t.Logf("on the other side: %s: %s", x.Level, x.Text)
					return nil
				}
			}
		}
		if code == 0 && other.box.TryReach(tr.on.box, time.Second) && tr.on.box.TryReach(other.box, time.Second) {
			return nil
		}
		return fmt.Errorf("exit code %d on the other side, without it:\n%s", code, shown(found))
	})
}

// allSeenFrom has another host look at all troubles, too.
func allSeenFrom(other *node, troubles []trouble) []trouble {
	for i := range troubles {
		if troubles[i].on != other && !troubles[i].elsewhere {
			troubles[i].other = other
		}
	}
	return troubles
}

// found is the command that repairs the first fault, where that is as expected,
// and nothing beyond is wrong.
func (tr trouble) found(t *testing.T) (fix string, err error) {
	t.Helper()
	found, code := checked(t, tr.from, "")
	first, steps := firstOf(found, check.Fault), []string(nil)
	for _, x := range found {
		if remarkable(x, tr.notes) {
			steps = append(steps, x.Step)
		}
	}
	if len(first.Fix) > tr.line {
		fix, _, _ = strings.Cut(first.Fix[tr.line], "   # ")
	}
	before, after, _ := strings.Cut(tr.fix, "%s")
	switch {
	case code != 1 || first.Step != tr.step || !strings.Contains(first.Text, tr.text):
		err = fmt.Errorf("exit code %d; want step %s and %q", code, tr.step, tr.text)
	case !strings.HasPrefix(fix, before) || !strings.HasSuffix(fix, after) || !strings.Contains(tr.fix, "%s") && fix != tr.fix:
		err = fmt.Errorf("the fix is %q; want %q", fix, tr.fix)
	case !slices.Equal(slices.Compact(steps), append([]string{tr.step}, tr.after...)):
		err = fmt.Errorf("findings of the steps %v; want those of %s and %v", steps, tr.step, tr.after)
	}
	if err != nil {
		err = fmt.Errorf("%w in\n%s", err, shown(found))
	}
	return fix, err
}

// typed does on a host what a user does who types a command that check has
// printed.
func (n *node) typed(t *testing.T, command string) {
	t.Helper()
	for part := range strings.SplitSeq(command, "; ") {
		switch part {
		case "systemctl start flanneld", "systemctl restart flanneld":
			n.daemon.Restart()
			n.daemon.WaitReady()
		default:
			n.Shell("PATH=" + n.programs(t) + ":$PATH; " + part)
		}
	}
}

// systemctl restarts what the lab has of docker: docker0 and its ports, as
// subnet.env says.
const systemctl = `#!/bin/sh
set -e
[ "$*" = "restart docker" ]
. %s
ip link show docker0 >/dev/null 2>&1 || ip link add docker0 up type bridge
ip -4 address flush dev docker0
ip address add $FLANNEL_SUBNET dev docker0
for link in docker0 $(ip -o link show master docker0 | sed 's/^[0-9]*: //; s/[@:].*//'); do
	ip link set $link mtu $FLANNEL_MTU
done
`

// programs is a folder with those that fixes name, and the lab has not installed.
func (n *node) programs(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(n.Dir(), "bin")
	if err := os.Mkdir(dir, 0o755); errors.Is(err, os.ErrExist) {
		return dir
	}
	write(t, filepath.Join(dir, "systemctl"), fmt.Sprintf(systemctl, n.SubnetFile()))
	write(t, filepath.Join(dir, "mk-docker-opts.sh"), read(t, "../../dist/mk-docker-opts.sh"))
	for _, name := range []string{"systemctl", "mk-docker-opts.sh"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(lab.Binary(t), filepath.Join(dir, "flanneld")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// expect is find for what no command repairs.
func (tr trouble) expect(t *testing.T) {
	t.Helper()
	tr = tr.strike()
	lab.Eventually(t, soon, tr.text, func() error {
		found, code := checked(t, tr.from, "")
		first := firstOf(found, check.Fault)
		if code != 1 || first.Step != tr.step || !strings.Contains(first.Text, tr.text) || !strings.HasPrefix(first.Fix[tr.line], tr.fix) {
			return fmt.Errorf("exit code %d; want step %s, %q and %q in\n%s", code, tr.step, tr.text, tr.fix, shown(found))
		}
		return nil
	})
}
