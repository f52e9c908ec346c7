package cli

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// program has a command below another, and flags of each kind.
func program(l *Line) *cobra.Command {
	noop := func(*cobra.Command, []string) error { return nil }
	root := &cobra.Command{Use: "prog", RunE: noop, SilenceErrors: true, SilenceUsage: true}
	root.SetOut(io.Discard)
	root.SetFlagErrorFunc(FlagError)
	root.SetUsageFunc(UsageText)
	root.Args = l.AtMost(0)
	AddFlags(root, Topic{"some", []Flag{
		{Name: "name", Arg: "TEXT", Set: Ignore(Text)},
		{Name: "secret", Arg: "TEXT", Set: Ignore(Text), Secret: true},
		{Name: "on", Set: Ignore(Bool)},
		{Name: "list", Arg: "TEXT", Set: Ignore(Text), Repeatable: true},
	}})
	sub := &cobra.Command{Use: "sub", RunE: noop, Args: l.AtMost(1)}
	AddFlags(sub, Topic{"some", []Flag{{Name: "on", Set: Ignore(Bool)}, {Name: "level", Arg: "2|3", Set: Ignore(OneOf("2|3", 2, 3))}}})
	root.AddCommand(sub)
	return root
}

func TestNormalize(t *testing.T) {
	for line, want := range map[string]string{
		"-name=x -on":            "--name=x --on",
		"-name -x --on":          "--name -x --on",
		"--name -- -on":          "--name -- --on",
		"sub -level 2 -":         "sub --level 2 -",
		"sub -- -level":          "sub -- -level",
		"-on -name":              "--on --name",
		"-h":                     "--help",
		"-unknown x":             "--unknown x",
		"__complete -name x -on": "__complete --name x -on",
		"__complete -on -name=x": "__complete --on --name=x",
		"__complete -unknown=x":  "__complete -unknown=x",
		// the last one counts, and is the only one to be judged
		"-on=maybe sub -name=a -on -name b":       "sub --on --name b",
		"-level=9 sub -level 2":                   "sub --level 2",
		"-list=a -name=b -list c -list=d -name=e": "--list=a --list c --list=d --name=e",
		// an empty value is none, also as the last one
		"-name= -name=x":           "--name=x",
		"-name=x -on= -name=":      "",
		"-list= -list=a -list=":    "--list=a",
		"-level= sub":              "sub",
		"-unknown= -unknown=":      "--unknown= --unknown=",
		"-name=x -name":            "--name",
		"__complete sub -name=x =": "__complete sub --name=x =",
	} {
		got, behind := normalize(program(new(Line)), strings.Fields(line))
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q: %q (%q), want %q", line, got, behind, want)
		}
	}
}

// What a unit file makes of "${OPTIONS}" where the variable is not set is no
// argument; what is being typed is one.
func TestNormalizeEmptyArguments(t *testing.T) {
	for _, c := range []struct{ args, want, behind []string }{
		{[]string{"", "-on", "", "sub", ""}, []string{"--on", "sub"}, []string{"on"}},
		{[]string{"-name", "", "-list", "", "-list", "a"}, []string{"--list", "a"}, nil},
		{[]string{"-name", "x", "sub", "-name", ""}, []string{"sub"}, []string{"name"}},
		{[]string{"sub", "--", "", "a"}, []string{"sub", "--", "a"}, []string{"", "", ""}},
		{[]string{"__complete", "-name", ""}, []string{"__complete", "--name", ""}, []string{""}},
		{[]string{"__complete", "sub", ""}, []string{"__complete", "sub", ""}, []string{"", ""}},
	} {
		got, behind := normalize(program(new(Line)), c.args)
		if !slices.Equal(got, c.want) || !slices.Equal(behind, c.behind) {
			t.Errorf("%q: %q behind %q, want %q behind %q", c.args, got, behind, c.want, c.behind)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for line, want := range map[string]string{
		"-name":             "--name needs a value: --name=TEXT",
		"-on=maybe":         `--on="maybe" must be true or false`,
		"-on true":          `unexpected argument "true" after --on: write --on=true`,
		"-on False":         `unexpected argument "False" after --on: write --on=False`,
		"-on yes":           `unexpected argument "yes" after --on: remove it; a switch takes =true or =false alone`,
		"-name a b":         `unexpected argument "b" after --name: remove it, or quote a value with spaces, --name="..."`,
		"sub one -on true":  `unexpected argument "true" after --on: write --on=true`,
		"-on=maybe -on":     "",
		"-help=maybe":       `--help="maybe" must be true or false`,
		"-secret two words": "unexpected argument after --secret: quote the value",
		"-secretword":       `unknown flag "--secret...": did you mean --secret?`,
		"sub -secretword":   `unknown flag "--secret...": did you mean --secret?`,
		"sub -level=4":      `--level="4" must be 2 or 3`,
		"sub one two":       `unexpected argument "two"; prog sub --help says what is expected`,
		"sub one -level 2":  "",
		"-name=x -on":       "",
	} {
		var l Line
		root := program(&l)
		root.SetArgs(l.Normalize(root, strings.Fields(line)))
		got := ""
		if err := root.Execute(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}
