package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestTroubleshooting plays docs/troubleshooting.md: where its source says how to break
// a host, flanneld prints what the page shows, and what it prints repairs the host.
func TestTroubleshooting(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	for _, b := range docs.Blocks(t, "docs/troubleshooting.md") {
		if b.Lang != "console" || b.Notes["not run"] != "" {
			continue
		}
		if !t.Run(fmt.Sprintf("%s, line %d", b.Heading, b.Line), func(t *testing.T) { c.plays(t, b) }) {
			t.FailNow() // the next would find what this one has left
		}
	}
}

// plays breaks a host as the comment before a block says, and has each command show
// what the block does.
func (c *cluster) plays(t *testing.T, b docs.Block) {
	broken := map[*node]string{c.hosts[0]: b.Notes["break"], c.hosts[1]: b.Notes["break on hdss7-22"]}
	for n, how := range broken {
		if rest, stops := strings.CutPrefix(how, "systemctl stop flanneld"); stops {
			n.daemon.Stop()
			how = strings.TrimPrefix(rest, "; ")
		}
		if how != "" {
			n.Shell(how)
		}
	}
	var fixes []string
	for _, s := range transcript(b.Text) {
		n, want := c.named(t, s.host), pattern(s.output)
		args, found := strings.CutPrefix(s.command, "flanneld ")
		if !found {
			t.Fatalf("line %d: only flanneld is played here, not %s", b.Line, s.command)
		}
		lab.Eventually(t, 3*soon, "what line "+fmt.Sprint(b.Line)+" shows of "+s.command, func() error {
			out, code := runCommand(t, n.Host, strings.Fields(args)...)
			out = strings.ReplaceAll(out, n.SubnetFile(), "/run/flannel/subnet.env")
			if fixes = printedFixes(out); !want.MatchString(squeezed(out)) {
				return fmt.Errorf("exit code %d\n%s\nand the page has\n%s", code, out, s.output)
			}
			return nil
		})
	}
	for _, line := range fixes {
		command, remark, _ := strings.Cut(line, "   # ")
		n := c.hosts[0]
		if strings.HasPrefix(remark, "on the peer") {
			n = c.hosts[1]
		}
		if typeable(command) {
			n.typed(t, strings.ReplaceAll(command, "/run/flannel/subnet.env", n.SubnetFile()))
		}
	}
	for _, n := range c.hosts {
		if !n.daemon.Running() {
			n.daemon.Restart()
			n.daemon.WaitReady()
		}
	}
	for _, n := range c.hosts {
		clean(t, n, "all to be well after "+strings.Join(fixes, "; "), "")
	}
}

// typeable tells a command from a sentence, and from a look at what comes next.
func typeable(command string) bool {
	program, _, _ := strings.Cut(command, " ")
	_, err := exec.LookPath(program)
	return program == "systemctl" || program == "mk-docker-opts.sh" || program == "flanneld" && !strings.Contains(command, "check") || err == nil
}

func (c *cluster) named(t *testing.T, name string) *node {
	t.Helper()
	for _, n := range c.hosts {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("there is no host %s", name)
	return nil
}

// printedFixes are the lines after the first "fix:" of check's output.
func printedFixes(out string) (lines []string) {
	for line := range strings.Lines(out) {
		text := strings.TrimSpace(line)
		fix, first := strings.CutPrefix(text, "fix:")
		switch {
		case first && len(lines) == 0:
			lines = append(lines, strings.TrimSpace(fix))
		case len(lines) > 0 && !first && strings.HasPrefix(line, "     "):
			lines = append(lines, text)
		case len(lines) > 0:
			return lines
		}
	}
	return lines
}
