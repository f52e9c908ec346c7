package e2e

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// types does on the machine what a block of a page says, with the machine's numbers: it
// writes the file, or types the commands, and returns what they print.
func (m *machine) types(b docs.Block) string {
	m.t.Helper()
	if file := b.Notes["file"]; file != "" {
		m.write(file, m.own(b.Text), 0o644)
		return ""
	}
	return m.sh("set -e\n" + m.own(b.Text))
}

// shows waits until commands print on the machine what a block shows of them. Like
// every login it has what pages put into the profile.
func (m *machine) shows(b docs.Block) {
	m.t.Helper()
	b.Text = m.own(b.Text)
	prints(m.t, b, func(s docs.Step) (string, error) {
		return m.try("[ ! -e " + profile + " ] || . " + profile + "\n" + s.Command)
	})
}

// prints waits until each command of a transcript prints what the page has: what follows
// a command takes a moment.
func prints(t *testing.T, b docs.Block, try func(docs.Step) (string, error)) {
	t.Helper()
	steps := b.Transcript()
	if len(steps) == 0 {
		t.Fatalf("line %d shows no command:\n%s", b.Line, b.Text)
	}
	for _, s := range steps {
		lab.Eventually(t, 2*soon, fmt.Sprintf("what line %d shows of %s", b.Line, s.Command), func() error {
			if out, err := try(s); !docs.Shows(s.Output, out) {
				return fmt.Errorf("%s\n(%v), and the page has\n%s", out, err, s.Output)
			}
			return nil
		})
	}
}

const profile = "/etc/profile.d/flanneld.sh"

// installCommand gives the machine the program and what it needs to know of etcd.
func (m *machine) installCommand(settings ...string) {
	m.t.Helper()
	m.put(lab.Binary(m.t), "/usr/local/sbin/flanneld", 0o755)
	settings = append(settings, "GORACE=atexit_sleep_ms=0") // no second's wait for late reports of races
	m.write(profile, "export "+strings.Join(settings, " ")+"\n", 0o644)
}

// pingIs makes busybox the machine's ping, where there is no other.
func (m *machine) pingIs() {
	m.t.Helper()
	m.sh(`command -v ping || { mkdir -p /usr/local/bin && ln -s "$(command -v busybox)" /usr/local/bin/ping; }`)
}
