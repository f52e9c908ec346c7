package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/internal/lab"
)

// shellWords takes a command line apart as a shell does, up to a redirection.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	line, _, _ = strings.Cut(line, " > ")
	line, _, _ = strings.Cut(line, " < ")
	line, _, _ = strings.Cut(line, " | ")
	out, err := exec.Command("sh", "-c", `printf '%s\n' `+line).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// commands are all that do something, but for cobra's own.
func commands(cmd *cobra.Command) (all []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.HasSubCommands() {
			all = append(all, commands(c)...)
		} else {
			all = append(all, c)
		}
	}
	return all
}

// parse is the call that a command line amounts to.
func parse(args []string, env func(string) (string, bool)) (path string, c *call, err error) {
	p := &program{
		env: env, stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard,
		serve: func(context.Context, options) error { path = "the daemon"; return nil },
	}
	p.command = func(_ context.Context, started *call) error { c = started; return nil }
	if err := p.run(context.Background(), args); err != nil {
		return "", nil, err
	}
	if c != nil {
		path = strings.TrimPrefix(c.path, "flanneld ")
	}
	return path, c, nil
}

// Each command's examples are command lines that it takes.
func TestCommandsAreDescribed(t *testing.T) {
	for _, cmd := range commands(new(program).root()) {
		name := strings.TrimPrefix(cmd.CommandPath(), "flanneld ")
		lines := strings.Split(cmd.Example, "\n")
		if len(lines) != 4 {
			t.Errorf("%s has %d lines of examples", name, len(lines))
		}
		for i := 1; i < len(lines); i += 2 {
			purpose, example := strings.TrimPrefix(lines[i-1], "  # "), lines[i]
			_, command, found := strings.Cut(" "+example, "flanneld ")
			got, _, err := parse(shellWords(t, strings.TrimSuffix(command, ")")), environment{}.lookup)
			if !found || err != nil || got != name {
				t.Errorf("%s is no example for %s: %v", example, name, err)
			}
			if purpose == "" || purpose == lines[i-1] || strings.HasSuffix(purpose, ".") {
				t.Errorf("%s: %q", example, purpose)
			}
		}
		var help bytes.Buffer
		p := &program{stdout: &help, stderr: &help}
		if err := p.run(t.Context(), append(strings.Fields(name), "--help")); err != nil {
			t.Errorf("%s --help: %v", name, err)
		}
		text := help.String()
		for line := range strings.Lines(text) {
			if len(line) > 101 {
				t.Errorf("%s: longer than 100 characters: %s", name, line)
			}
		}
		wanted := []string{"usage: flanneld " + name + " [flags]", "examples\n", "\nother\n  -h, --help", strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:]}
		for _, want := range append(wanted, lines...) {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in the help of %s:\n%s", want, name, text)
			}
		}
	}
}

func TestFindCommand(t *testing.T) {
	for line, want := range map[string]string{
		"":                   "the daemon",
		"--iface=status":     "the daemon",
		"--iface status":     "the daemon",
		"-iface status":      "the daemon",
		"status":             "status",
		"status -o json":     "status",
		"config get":         "config get",
		"config set x":       "config set",
		"config":             "flanneld config needs a second word: get, set or check (2)",
		"config put":         `flanneld config "put" is no command: after config comes get, set or check (2)`,
		"lease --help":       "printed help",
		"lease -h":           "printed help",
		"statsu":             `unknown command "statsu": did you mean flanneld status? (2)`,
		"chek 172.7.22.0/24": `unknown command "chek": did you mean flanneld check? (2)`,
		"frobnicate":         `unexpected argument "frobnicate": flanneld takes flags only, and flanneld --help lists them (2)`,
	} {
		got, _, err := parse(strings.Fields(line), environment{}.lookup)
		var e *cli.Exit
		switch {
		case errors.As(err, &e):
			got = e.Text + " (" + string(rune('0'+e.Code)) + ")"
		case err == nil && got == "":
			got = "printed help"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

func TestHelpOfAGroup(t *testing.T) {
	var help bytes.Buffer
	p := &program{stdout: &help, stderr: &help}
	if err := p.run(t.Context(), []string{"lease", "-help"}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"usage: flanneld lease", "\n  list ", "\n  reserve ", "\n  release "} {
		if !strings.Contains(help.String(), want) {
			t.Errorf("no %q in it:\n%s", want, &help)
		}
	}
}

func TestCommandFlags(t *testing.T) {
	env := environment{"FLANNELD_ETCD_PREFIX": "/elsewhere", "FLANNELD_ETCD_PASSWORD": "s3cret", "FLANNELD_HEALTHZ_PORT": "x", "FLANNELD_O": "json", "FLANNELD_YES": "true"}
	for _, tt := range []struct {
		args  []string
		want  string // the error; "": none
		args2 []string
		check func(*call) bool
	}{
		{args: []string{"status"}, check: func(c *call) bool {
			return c.Etcd.Prefix == "/elsewhere" && string(c.Etcd.Password) == "s3cret" && c.format == "" && !c.given(endpointsFlag) && c.Etcd.Endpoints[0] == "http://127.0.0.1:4001"
		}},
		{args: []string{"status", "-o", "json", "--etcd-endpoints", "http://a:1"}, check: func(c *call) bool {
			return c.format == "json" && c.given(endpointsFlag) && c.Etcd.Endpoints[0] == "http://a:1"
		}},
		{args: []string{"status", "--output=json"}, check: func(c *call) bool { return c.format == "json" }},
		{args: []string{"status", "-o=json", "-etcd-prefix=/x"}, check: func(c *call) bool { return c.format == "json" && c.Etcd.Prefix == "/x" }},
		{args: []string{"check", "--all"}, check: func(c *call) bool { return c.all }},
		{args: []string{"check", "172.7.22.0/24"}, args2: []string{"172.7.22.0/24"}},
		{args: []string{"config", "set", "--yes", "-"}, args2: []string{"-"}, check: func(c *call) bool { return c.yes }},
		{args: []string{"config", "set", "--", "--odd"}, args2: []string{"--odd"}, check: func(c *call) bool { return !c.yes }},
		{args: []string{"lease", "reserve", "172.7.21.0/24", "--etcd-prefix", "/x", "10.4.7.21"}, args2: []string{"172.7.21.0/24", "10.4.7.21"}},
		{args: []string{"status", "-o", "yaml"}, want: `--output="yaml" must be json`},
		{args: []string{"status", "-o"}, want: "--output needs a value: --output=json"},
		{args: []string{"status", "x"}, want: `unexpected argument "x"; flanneld status --help says what is expected`},
		{args: []string{"status", "--iface=x"}, want: `unknown flag "--iface": flanneld status --help lists the flags`},
		{args: []string{"status", "--etcd-endpoint=x"}, want: `unknown flag "--etcd-endpoint": did you mean --etcd-endpoints?`},
		{args: []string{"check", "--etcd-passwords3cret"}, want: `unknown flag "--etcd-password...": did you mean --etcd-password?`},
		{args: []string{"status", "--etcd-password", "not", "s3cret"}, want: "unexpected argument after --etcd-password: quote the value"},
		{args: []string{"config", "get", "--etcd-keyfile=k"}, want: `--etcd-keyfile="k" needs --etcd-certfile beside it: the certificate that belongs to the key`},
		{args: []string{"lease", "release", "--now=maybe", "172.7.21.0/24"}, want: `--now="maybe" must be true or false`},
	} {
		_, c, err := parse(tt.args, env.lookup)
		var e *cli.Exit
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (!errors.As(err, &e) || e.Text != tt.want || e.Code == 0):
			t.Errorf("%q: %v, want %q", tt.args, err, tt.want)
		case tt.want == "" && !slices.Equal(c.args, tt.args2), tt.check != nil && !tt.check(c):
			t.Errorf("%q: %+v", tt.args, c.args)
		}
	}
}

// The scripts for the shells ask the program itself.
func TestShellScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var script bytes.Buffer
		p := &program{env: environment{}.lookup, stdout: &script, stderr: &script}
		if err := p.run(t.Context(), []string{"completion", shell}); err != nil || !strings.Contains(script.String(), "__complete") {
			t.Errorf("%s: %v\n%s", shell, err, &script)
		}
		if path, err := exec.LookPath(shell); err == nil {
			check := exec.Command(path, "-n")
			check.Stdin = &script
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", shell, err, out)
			}
		}
	}
	err := newProgram().run(t.Context(), []string{"completion"})
	var e *cli.Exit
	if !errors.As(err, &e) || e.Code != cli.Usage {
		t.Errorf("without a shell: %v", err)
	}
}

// TestBashCompletes asks bash what it would offer.
func TestBashCompletes(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "completion")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(script)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := &program{env: environment{}.lookup, stdout: f, stderr: f}
	for _, err := range []error{
		p.run(t.Context(), []string{"completion", "bash"}),
		os.Symlink(self, filepath.Join(dir, "flanneld")), // see TestMain
		os.WriteFile(filepath.Join(dir, "client.pem"), nil, 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for _, tt := range []struct {
		words []string // the last is being typed
		want  string   // among what is offered, up to a "!": not among it
	}{
		{[]string{""}, "status check config lease ! get --yes"},
		{[]string{"-"}, "--iface --ip-masq --version --help ! --yes"},
		{[]string{"st"}, "status ! check"},
		{[]string{"--etcd-c"}, "--etcd-certfile --etcd-cafile ! --etcd-keyfile"},
		{[]string{"status", ""}, "! --iface check client.pem"},
		{[]string{"status", "-"}, "-o --output --etcd-endpoints --help ! --iface check"},
		{[]string{"config", ""}, "get set check ! list --yes"},
		{[]string{"config", "set", "--"}, "--yes --etcd-endpoints --help ! --iface"},
		{[]string{"lease", "release", "--n"}, "--now ! --yes"},
		{[]string{"status", "-o", ""}, "json ! --help"},
		{[]string{"--etcd-api", ""}, "auto 2 3"},
		{[]string{"-etcd-api", ""}, "auto 2 3"},
		{[]string{"--etcd-api="}, "auto 2 3"},
		{[]string{"-etcd-api="}, "auto 2 3"},
		{[]string{"migrate", "--from="}, "2 3 ! auto"},
		{[]string{"--etcd-certfile=cl"}, "! --iface"}, // files: bash's own, see below
		{[]string{"--iface=l"}, "lo ! --iface"},
		{[]string{"--etcd-username", ""}, "! --iface status"},
		{[]string{"--ip-masq", "--health"}, "--healthz-ip --healthz-page --healthz-port"},
		{[]string{"completion", ""}, "bash zsh fish"},
	} {
		// What cobra's script takes from the package bash-completion: words that "=" does not part.
		const ask = `_init_completion() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
			. "$1"; shift; COMP_WORDS=(flanneld "$@"); COMP_CWORD=$#; COMP_TYPE=9; __start_flanneld; printf '%s\n' "${COMPREPLY[@]%% *}"`
		cmd := exec.Command("bash", append([]string{"-c", ask, "bash", script}, tt.words...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v: %s", tt.words, err, out)
		}
		offered := strings.Fields(string(out))
		present := true
		for _, w := range strings.Fields(tt.want) {
			if w == "!" {
				present = false
			} else if slices.Contains(offered, w) != present {
				t.Errorf("%q: %q offered is %t, want %t; all: %q", tt.words, w, !present, present, offered)
			}
		}
	}
	for flag, want := range map[string]string{"--etcd-certfile=": ":0\n", "--etcd-username=": ":4\n"} { // of ShellCompDirective
		if out, err := exec.Command("flanneld", "__complete", flag).Output(); err != nil || string(out) != want {
			t.Errorf("%s: %q, %v, want %q", flag, out, err, want)
		}
	}
}

// TestShellsComplete types at an interactive bash, zsh and fish what is completed by the Tab key.
func TestShellsComplete(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(dir, "flanneld")) // see TestMain
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "client.pem"), nil, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	typed := map[string]string{
		"flanneld --firewall=ipt": "flanneld --firewall=iptables", "flanneld -firewall=ipt": "flanneld -firewall=iptables",
		"flanneld --etcd-certfile=cl": "flanneld --etcd-certfile=client.pem", "flanneld lease rel": "flanneld lease release",
		"flanneld --log-format js": "flanneld --log-format json",
	}
	for shell, setUp := range map[string]string{
		"bash --norc -i": ". /usr/share/bash-completion/bash_completion; . <(flanneld completion bash)",
		"zsh -f -i":      "autoload -U compinit; compinit -u; . <(flanneld completion zsh)",
	} {
		cmd := exec.Command("script", "-qec", shell, "/dev/null")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "TERM=dumb", "HOME="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
		keys, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var screen screen
		cmd.Stdout = &screen
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		enter := func(text string) { _, _ = io.WriteString(keys, text) }
		enter(setUp + "; echo is set' 'up\n")
		screen.waits(t, shell, "is set up")
		for before, after := range typed {
			// Tab completes; Ctrl-A goes to the line's begin, to have it printed.
			enter(before + "\t\x01echo completed: \x05\n")
			screen.waits(t, shell, "completed: "+after+"\n")
		}
		enter("exit\n")
		_ = keys.Close()
		_ = cmd.Wait()
	}
	for before, after := range typed {
		cmd := exec.Command("fish", "--no-config", "-c", "flanneld completion fish | source; complete -C "+"'"+before+"'")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "HOME="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		want := after[strings.LastIndexByte(after, ' ')+1:]
		if offered, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\t"); err != nil || offered != want {
			t.Errorf("fish: %s: %v: %q, want %q", before, err, out, want)
		}
	}
}

// screen is what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(bytes.ReplaceAll(p, []byte("\r"), nil))
	return len(p), nil
}

func (s *screen) waits(t *testing.T, shell, text string) {
	t.Helper()
	lab.Eventually(t, time.Minute, shell+" to show "+text, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if shown := s.text.String(); !strings.Contains(shown, "\n"+text) {
			return errors.New(shown)
		}
		return nil
	})
}
