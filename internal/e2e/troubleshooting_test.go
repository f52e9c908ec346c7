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
	c := start(t, vxLAN)
	for _, name := range []string{"hdss7-21", "hdss7-22"} {
		n := c.join(name, "--healthz-port=2401")
		n.box = n.Container("c1")
	}
	c.connected(soon)
	for _, b := range docs.Blocks(t, "docs/troubleshooting.md") {
		if b.Lang != "console" || b.Notes["not run"] != "" {
			continue
		}
		if !t.Run(fmt.Sprintf("%s, line %d", b.Heading, b.Line), func(t *testing.T) { c.plays(t, b) }) {
			t.FailNow() // the next would find what this one has left
		}
	}
}

// plays breaks hosts as the comments before a block say, and has each command show what
// the block does. Where what is printed is a sentence for people, or leaves something
// behind, comments have what repairs the host and cleans up.
func (c *cluster) plays(t *testing.T, b docs.Block) {
	c.does(t, b, "break")
	var fixes []string
	for _, s := range b.Transcript() {
		n := c.named(t, s.Host)
		lab.Eventually(t, 3*soon, "what line "+fmt.Sprint(b.Line)+" shows of "+s.Command, func() error {
			out, err := n.Try("sh", "-c", "PATH="+n.programs(t)+":$PATH; "+s.Command+" 2>&1")
			if f := printedFixes(out); len(f) > 0 {
				fixes = f
			}
			if !docs.Shows(s.Output+"...\n", strings.ReplaceAll(out, n.SubnetFile(), "/run/flannel/subnet.env")) {
				return fmt.Errorf("%v\n%s\nand the page has\n%s", err, out, s.Output)
			}
			return nil
		})
	}
	if !c.does(t, b, "repair") {
		for _, line := range fixes {
			command, remark, _ := strings.Cut(line, "   # ")
			n := c.hosts[0]
			switch {
			case strings.HasPrefix(remark, "on the peer"):
				n = c.hosts[1]
			case strings.HasPrefix(remark, "on 10.4.7.12"):
				n = c.store
			}
			if typeable(command) {
				n.typed(t, command)
			}
		}
	}
	c.does(t, b, "clean")
	for _, n := range c.hosts {
		clean(t, n, "all to be well after "+strings.Join(fixes, "; "), "")
	}
}

// does what comments before a block say under a word, each on its host: "break",
// "break on hdss7-22". There may be none.
func (c *cluster) does(t *testing.T, b docs.Block, word string) (any bool) {
	t.Helper()
	for i, n := range []*node{c.store, c.hosts[1], c.hosts[0]} {
		commands, ok := b.Notes[word+[]string{" on hdss7-12", " on hdss7-22", ""}[i]]
		any = any || ok
		for command := range strings.SplitSeq(commands, "; ") {
			switch {
			case command == "":
			case command == "systemctl stop flanneld":
				n.daemon.Stop()
			case command == "systemctl start flanneld":
				n.daemon.Restart()
				n.daemon.WaitReady()
			case command == "systemctl restart flanneld":
				n.daemon.Restart()
			case command == "systemctl stop etcd":
				c.etcd.Stop()
			case command == "systemctl start etcd":
				c.etcd.Start()
			case strings.Contains(command, "pidof flanneld"):
				n.Shell(strings.ReplaceAll(command, "$(pidof flanneld)", fmt.Sprint(n.daemon.PID)))
			case word == "clean":
				_, _ = n.Try("sh", "-c", command) // of several fixes, one may have done it
			default:
				n.Shell(command)
			}
		}
	}
	return any
}

// typeable tells a command from a sentence, and from a look at what comes next.
func typeable(command string) bool {
	program, _, _ := strings.Cut(command, " ")
	if exec.Command("sh", "-n", "-c", command).Run() != nil {
		return false
	}
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
