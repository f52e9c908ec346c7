package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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

// Each verb's examples are command lines that it takes.
func TestVerbsAreDescribed(t *testing.T) {
	for _, v := range verbs() {
		if len(v.examples) != 2 {
			t.Errorf("%s has %d examples", v.name, len(v.examples))
		}
		for _, e := range v.examples {
			_, command, found := strings.Cut(" "+e.command, "flanneld ")
			words := shellWords(t, strings.TrimSuffix(command, ")"))
			got, rest, err := findVerb(verbs(), words)
			if !found || err != nil || got == nil || got.name != v.name {
				t.Errorf("%s is no example for %s", e.command, v.name)
				continue
			}
			c := &call{}
			if err := got.parse(c, rest, environment{}.lookup); err != nil {
				t.Errorf("%s: %v", e.command, err)
			}
			if e.purpose == "" || strings.HasSuffix(e.purpose, ".") {
				t.Errorf("%s: %q", e.command, e.purpose)
			}
		}
		text := v.help(v.topicsWithHelp())
		for line := range strings.Lines(text) {
			if len(line) > 101 {
				t.Errorf("%s: longer than 100 characters: %s", v.name, line)
			}
		}
		for _, want := range append([]string{"usage: flanneld " + v.name + " [flags]", "examples\n", "\nother\n  --help"}, v.examples[0].command, v.examples[1].command) {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in the help of %s:\n%s", want, v.name, text)
			}
		}
	}
}

func TestFindVerb(t *testing.T) {
	for line, want := range map[string]string{
		"":                   "the daemon",
		"--iface=status":     "the daemon",
		"status":             "status",
		"status -o json":     "status",
		"config get":         "config get",
		"config set x":       "config set",
		"config":             "flanneld config needs a second word: get, set or check (2)",
		"config put":         `flanneld config "put" is no verb: after config comes get, set or check (2)`,
		"lease --help":       "usage: flanneld lease list|reserve|release (0)",
		"lease -h":           "usage: flanneld lease list|reserve|release (0)",
		"statsu":             `unknown verb "statsu": did you mean flanneld status? (2)`,
		"chek 172.7.22.0/24": `unknown verb "chek": did you mean flanneld check? (2)`,
		"frobnicate":         "the daemon", // whose flags refuse it
	} {
		v, _, err := findVerb(verbs(), strings.Fields(line))
		got := "the daemon"
		var e *exit
		switch {
		case errors.As(err, &e):
			first, _, _ := strings.Cut(e.text, "\n")
			got = first + " (" + string(rune('0'+e.code)) + ")"
		case v != nil:
			got = v.name
		}
		if got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

func TestVerbFlags(t *testing.T) {
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
		{args: []string{"status", "-o=json", "-etcd-prefix=/x"}, check: func(c *call) bool { return c.format == "json" && c.Etcd.Prefix == "/x" }},
		{args: []string{"check", "172.7.22.0/24"}, args2: []string{"172.7.22.0/24"}},
		{args: []string{"config", "set", "--yes", "-"}, args2: []string{"-"}, check: func(c *call) bool { return c.yes }},
		{args: []string{"config", "set", "--", "--odd"}, args2: []string{"--odd"}, check: func(c *call) bool { return !c.yes }},
		{args: []string{"lease", "reserve", "172.7.21.0/24", "--etcd-prefix", "/x", "10.4.7.21"}, args2: []string{"172.7.21.0/24", "10.4.7.21"}},
		{args: []string{"status", "-o", "yaml"}, want: `--o="yaml" must be json`},
		{args: []string{"status", "-o"}, want: "--o needs a value: --o=json"},
		{args: []string{"status", "x"}, want: `unexpected argument "x"; flanneld status --help says what is expected`},
		{args: []string{"status", "--iface=x"}, want: `unknown flag "--iface": flanneld status --help lists the flags`},
		{args: []string{"status", "--etcd-endpoint=x"}, want: `unknown flag "--etcd-endpoint": did you mean --etcd-endpoints?`},
		{args: []string{"config", "get", "--etcd-keyfile=k"}, want: `--etcd-keyfile="k" needs --etcd-certfile beside it: the certificate that belongs to the key`},
		{args: []string{"lease", "release", "--now=maybe", "172.7.21.0/24"}, want: `--now="maybe" must be true or false`},
	} {
		v, rest, err := findVerb(verbs(), tt.args)
		if err != nil || v == nil {
			t.Fatal(tt.args, err)
		}
		c := &call{}
		err = v.parse(c, rest, env.lookup)
		var e *exit
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (!errors.As(err, &e) || e.text != tt.want || e.code == 0):
			t.Errorf("%q: %v, want %q", tt.args, err, tt.want)
		case tt.want == "" && !slices.Equal(c.args, tt.args2), tt.check != nil && !tt.check(c):
			t.Errorf("%q: %+v", tt.args, c.args)
		}
	}
}

// Every verb and flag is in what is made of the tables.
func TestCompletionAndManPageAreComplete(t *testing.T) {
	var o options
	completion, page := bashCompletion(verbs()), strings.ReplaceAll(manPage("1.2.3", verbs()), `\-`, "-")
	mentions := func(what string) {
		t.Helper()
		for name, text := range map[string]string{"completion": completion, "man page": page} {
			if !strings.Contains(text, what) {
				t.Errorf("the %s lacks %s", name, what)
			}
		}
	}
	topics := flagTable(&o)
	for _, v := range verbs() {
		mentions(v.name)
		topics = append(topics, v.topicsWithHelp()...)
	}
	for _, topic := range topics {
		for _, e := range topic.entries {
			mentions(e.dashed())
		}
	}
	if !strings.Contains(page, "flanneld 1.2.3") || strings.Contains(page, "\n'") || strings.Contains(page, "\n..") {
		t.Errorf("the man page is\n%s", page)
	}
	if groff, err := exec.LookPath("groff"); err == nil {
		cmd := exec.Command(groff, "-ww", "-man", "-Tascii")
		cmd.Stdin, cmd.Stdout = strings.NewReader(manPage("1.2.3", verbs())), io.Discard
		var warnings strings.Builder
		cmd.Stderr = &warnings
		if err := cmd.Run(); err != nil || warnings.Len() > 0 {
			t.Errorf("groff: %v\n%s", err, &warnings)
		}
	}
}

// TestBashCompletes asks bash what it would offer.
func TestBashCompletes(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "completion")
	if err := os.WriteFile(script, []byte(bashCompletion(verbs())), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "client.pem"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		words []string // the last is being typed
		want  string   // among what is offered, up to a "!": not among it
	}{
		{[]string{""}, "status check config lease --iface= --ip-masq --version ! get --yes"},
		{[]string{"st"}, "status ! check"},
		{[]string{"--etcd-c"}, "--etcd-certfile= --etcd-cafile= ! --etcd-keyfile="},
		{[]string{"status", ""}, "-o --etcd-endpoints= --help ! --iface= check"},
		{[]string{"config", ""}, "get set check ! list --yes"},
		{[]string{"config", "set", "--"}, "--yes --etcd-endpoints= --help ! --iface="},
		{[]string{"lease", "release", "--n"}, "--now ! --yes"},
		{[]string{"status", "-o", ""}, "json ! --help"},
		{[]string{"--etcd-api", "=", ""}, "auto 2 3"},
		{[]string{"--etcd-api", "="}, "auto 2 3"},
		{[]string{"migrate", "--from", "=", ""}, "2 3 ! auto"},
		{[]string{"--etcd-certfile", "=", "cl"}, "client.pem ! --iface="},
		{[]string{"--iface", "=", "l"}, "lo ! --iface="},
		{[]string{"--etcd-username", ""}, "! --iface= status"},
		{[]string{"--ip-masq", "--health"}, "--healthz-ip= --healthz-port="},
		{[]string{"completion", ""}, "bash"},
	} {
		cmd := exec.Command("bash", append([]string{"-c", `. "$1"; shift; COMP_WORDS=(flanneld "$@"); COMP_CWORD=$#; _flanneld; printf '%s\n' "${COMPREPLY[@]}"`, "bash", script}, tt.words...)...)
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
}
