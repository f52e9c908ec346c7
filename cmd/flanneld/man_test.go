package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// manSections go on from flanneld's description, in Markdown.
const manSections = `

# ENVIRONMENT
Each flag can be given as a variable, as said above. Commands read those about etcd.

**NO_COLOR**
	set to anything, it keeps colours out of what is shown on a terminal

**NOTIFY_SOCKET**
	where a service manager wants to be told that everything is in place: sd_notify(3)

**LISTEN_FDS**, **LISTEN_FDNAMES**
	what a service manager has kept for the backend udp over a restart: sd_pid_notify_with_fds(3)

**WIREGUARD_KEY_FILE**
	flannel's name for --wireguard-key-file, which overrules it

**CREDENTIALS_DIRECTORY**
	where systemd keeps the service's credentials etcd-password, etcd-cert, etcd-key and etcd-ca, for what no flag tells: systemd.exec(5)

# SIGNALS
**SIGINT**, **SIGTERM**, **SIGQUIT**
	end it within a second; routes, devices and firewall rules stay. A second one ends it at once

**SIGHUP**
	reads etcd's password and certificates anew, and connects with them. At a terminal it ends flanneld

# FILES
**/run/flannel/subnet.env**
	the subnet file, unless --subnet-file names another: this host's subnet and MTU, for dockerd

**/run/flannel/wgkey**
	the private key of the backend wireguard, unless --wireguard-key-file names another

# EXIT STATUS
**0**
	after a signal; of a command: it is done, or all is well

**1**
	a wrong value, a failure at start; of a command: it could not be done, or all is not well

**2**
	a command line that cannot be read; of status and check: they could not find out
`

// writeManual writes the page of a command and those of the commands below it.
func writeManual(cmd *cobra.Command, w io.Writer) error {
	cmd.DisableAutoGenTag = true
	cmd.SetHelpCommand(&cobra.Command{Hidden: true})
	header := &doc.GenManHeader{
		Section: "8", Date: new(time.Time), Source: "flanneld " + manualVersion, Manual: "System administration",
	}
	if err := doc.GenMan(cmd, header, w); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		if err := writeManual(c, w); err != nil {
			return err
		}
	}
	return nil
}

// TestManual: flanneld.8 is what cobra makes of the commands and flags. UPDATE=1
// writes it.
func TestManual(t *testing.T) {
	root := new(program).root()
	root.Long += manSections
	var made bytes.Buffer
	if err := writeManual(root, &made); err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer(`"Jan 0001"`, `""`, "-", `\-`).Replace(made.String())
	// A flag is to stand above its description, and not before it.
	want = regexp.MustCompile(`(?m)(^\.PP\n)?^(\\fB.*)\n\t`).ReplaceAllString(want, ".TP\n$2\n")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile("flanneld.8", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, manual); diff != "" {
		t.Errorf("flanneld.8 is not up to date: make man\n%s", diff)
	}
}

// The page that is printed names every command and flag, and groff takes it.
func TestManIsPrinted(t *testing.T) {
	var printed bytes.Buffer
	p := &program{version: "1.2.3", env: environment{}.lookup, stdout: &printed, stderr: &printed}
	if err := p.run(t.Context(), []string{"man"}); err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(printed.String(), `\-`, "-")
	mentions := func(what string) {
		t.Helper()
		if !strings.Contains(page, what) {
			t.Errorf("the man page lacks %s", what)
		}
	}
	root := new(program).root()
	for _, cmd := range append(commands(root), root) {
		mentions(cmd.CommandPath())
		cmd.Flags().VisitAll(func(f *pflag.Flag) { mentions("--" + f.Name) })
	}
	for _, what := range []string{"-o", "flanneld 1.2.3", "EXIT STATUS", "NO_COLOR"} {
		mentions(what)
	}
	if strings.Contains(page, "\n'") || strings.Contains(page, "\n..") || strings.Contains(page, manualVersion) {
		t.Errorf("the man page is\n%s", page)
	}
	if groff, err := exec.LookPath("groff"); err == nil {
		cmd := exec.Command(groff, "-ww", "-man", "-Tascii")
		cmd.Stdin, cmd.Stdout = &printed, io.Discard
		var warnings strings.Builder
		cmd.Stderr = &warnings
		if err := cmd.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("groff: %v\n%s", err, &warnings)
		}
	}
}
