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
	}})
	sub := &cobra.Command{Use: "sub", RunE: noop, Args: l.AtMost(1)}
	AddFlags(sub, Topic{"some", []Flag{{Name: "level", Arg: "2|3", Set: Ignore(OneOf("2|3", 2, 3))}}})
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
	} {
		got, behind := normalize(program(new(Line)), strings.Fields(line))
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q: %q (%q), want %q", line, got, behind, want)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for line, want := range map[string]string{
		"-name":             "--name needs a value: --name=TEXT",
		"-on=maybe":         `--on="maybe" must be true or false`,
		"-on yes":           `unexpected argument "yes" after --on: a flag's value is written --on=VALUE`,
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
