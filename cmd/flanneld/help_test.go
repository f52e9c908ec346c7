package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"

	"flanneld/internal/cli"
)

func TestAnswers(t *testing.T) {
	broken := environment{"FLANNELD_HEALTHZ_PORT": "x", "FLANNELD_ETCD_PASSWORD": "s3cret"}
	tests := []struct {
		args []string
		env  environment
		want string // the beginning
	}{
		{[]string{"--version"}, broken, "1.2.3"},
		{[]string{"-version", "--iface=eth0"}, broken, "1.2.3"},
		{nil, environment{"FLANNELD_VERSION": "true"}, "1.2.3"},
		{[]string{"--help"}, broken, "flanneld gives the containers"},
		{[]string{"-help"}, broken, "flanneld gives the containers"},
		{[]string{"-h"}, broken, "flanneld gives the containers"},
		{[]string{"--etcd-password=s3cret", "--version", "--help"}, broken, "flanneld gives the containers"},
	}
	for _, tt := range tests {
		_, err := parseFlags(tt.args, tt.env.lookup, "1.2.3")
		var e *cli.Exit
		if !errors.As(err, &e) || e.Code != 0 || !strings.HasPrefix(e.Text, tt.want) || strings.HasSuffix(e.Text, "\n") {
			t.Errorf("%q: %v", tt.args, err)
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q shows the password", tt.args)
		}
	}
}

func TestHelp(t *testing.T) {
	_, err := parseFlags([]string{"--help"}, environment{}.lookup, "1.2.3")
	text := err.Error()
	root := new(program).root()
	listed := regexp.MustCompile(`(?m)^ {2,6}(?:-[a-z], )?--([a-z0-9_-]+)`).FindAllStringSubmatch(text[strings.Index(text, "\netcd\n"):], -1)
	count := map[string]int{}
	for _, f := range listed {
		count[f[1]]++
	}
	spaces := regexp.MustCompile(`\s+`)
	oneLine := spaces.ReplaceAllString(text, " ")
	total := 0
	root.Flags().VisitAll(func(f *pflag.Flag) {
		total++
		if title := f.Annotations["topic"]; len(title) != 1 || !strings.Contains(text, "\n\n"+title[0]+"\n") {
			t.Errorf("topic %q is missing", title)
		}
		if count[f.Name] != 1 {
			t.Errorf("--%s is listed %d times", f.Name, count[f.Name])
		}
		if f.Usage == "" || len(f.Usage) > 2*cli.HelpColumns {
			t.Errorf("--%s is described in no line, or in more than two", f.Name)
		}
		if f.Value.Type() != "bool" && f.DefValue != "" && !strings.Contains(oneLine, "(default "+f.DefValue+")") {
			t.Errorf("--%s does not show its default", f.Name)
		}
	})
	if total != len(listed) {
		t.Errorf("%d flags listed, there are %d", len(listed), total)
	}
	for line := range strings.Lines(text) {
		if len(line) > cli.HelpColumns+1 {
			t.Errorf("longer than %d characters: %s", cli.HelpColumns, line)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	o, err := parseFlags([]string{"--etcd-password=s3cret"}, environment{}.lookup, "")
	if err != nil || string(o.Etcd.Password) != "s3cret" {
		t.Fatal(o.Etcd.Password, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, holder := range []any{o, &o, o.Etcd.Password} {
			if text := fmt.Sprintf(verb, holder); strings.Contains(text, "s3cret") || strings.Contains(text, "733363726574") {
				t.Errorf("%s prints %s", verb, text)
			}
		}
	}
}

// checkAnswer holds for every outcome of parseFlags.
func checkAnswer(t interface{ Errorf(string, ...any) }, args []string, o options, err error) {
	var e *cli.Exit
	switch {
	case err == nil && len(o.Etcd.Endpoints) > 0 && o.SubnetFile != "" && o.LeaseRenewMargin > 0 && o.IPTablesResync > 0 && o.HealthzIP.IsValid():
	case err == nil:
		t.Errorf("%q: unusable options %+v", args, o)
	case !errors.As(err, &e) || e.Code < 0 || e.Code > 2 || e.Text == "" && e.Code > 0:
		t.Errorf("%q: error %#v", args, err)
	case e.Code > 0 && strings.ContainsAny(e.Text, "\n\r"):
		t.Errorf("%q: not one line: %q", args, e.Text)
	}
}

// TestAnyCommandLine builds command lines of plausible pieces.
func TestAnyCommandLine(t *testing.T) {
	var names []string
	new(program).root().Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.SampledFrom(names), rapid.String())
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"true", "0", "1", "-1", "10.4.7.21", "http://a:1,https://b", "a(", "a=1", "x.go:1", "99999999999999999999"}))
		arg := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"", "-", "--", "---"}).Draw(t, "dashes") + name.Draw(t, "name") +
				rapid.SampledFrom([]string{"", "="}).Draw(t, "equals") + text.Draw(t, "value")
		})
		args := rapid.SliceOfN(rapid.OneOf(arg, text), 0, 6).Draw(t, "args")
		env := func(string) (string, bool) { return rapid.OneOf(rapid.Just(""), text).Draw(t, "variable"), true }
		got, err := parseFlags(args, env, "v")
		checkAnswer(t, args, got, err)

		// A password shows in no answer, whatever stands around it.
		const hidden = "s3cret-pass"
		args = append([]string{"--etcd-password", hidden}, args...)
		if _, err := parseFlags(args, environment{}.lookup, "v"); err != nil && strings.Contains(err.Error(), hidden) {
			t.Errorf("%q: %v", args, err)
		}
	})
}

func FuzzParseFlags(f *testing.F) {
	f.Add("--iface=a\n-v\n5", "true")
	f.Add("-etcd-endpoints=https://[::1%25a]:1\n--\n-h", "http://u:p@h")
	f.Fuzz(func(t *testing.T, lines, variable string) {
		args := strings.Split(lines, "\n")
		o, err := parseFlags(args, func(string) (string, bool) { return variable, true }, "v")
		checkAnswer(t, args, o, err)
		o, err = parseFlags(args, environment{}.lookup, "v")
		checkAnswer(t, args, o, err)
	})
}
