package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"flanneld/internal/cli"
)

const (
	cliPage  = "../../docs/cli.md"
	cliIntro = `# Commands and flags

This page is made from the program's own tables, so it says what ` + "`flanneld --help`" + ` and ` + "`flanneld COMMAND --help`" + ` say.
What the flags of the daemon do together is in [configuration.md](configuration.md).
`
)

// TestCLIPage: docs/cli.md is what the command tables say. UPDATE=1 writes it.
func TestCLIPage(t *testing.T) {
	root := new(program).root()
	want := cliIntro + commandPage(root)
	for _, c := range commands(root) {
		if c.IsAvailableCommand() {
			want += commandPage(c)
		}
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(cliPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/cli.md is not up to date: make man\n%s", diff)
	}
}

// commandPage is a command's chapter. What is said of the flags about etcd stands with
// the daemon's alone.
func commandPage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n%s\n\n```text\n%s\n```\n", cmd.CommandPath(), cmd.Long, cmd.UseLine())
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
	topics, byTopic := []string{}, map[string][]*pflag.Flag{}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		topic := f.Annotations["topic"][0]
		if byTopic[topic] == nil {
			topics = append(topics, topic)
		}
		byTopic[topic] = append(byTopic[topic], f)
	})
	for _, topic := range topics {
		flags := byTopic[topic]
		switch {
		case !cmd.HasParent():
			fmt.Fprintf(&b, "\n### %s%s\n", strings.ToUpper(topic[:1]), topic[1:])
		case topic == "etcd" && len(flags) > 1:
			b.WriteString("\nThe flags about etcd: [Etcd](#etcd).\n")
			continue
		case topic == cli.Other && len(flags) == 1:
			continue // --help
		}
		b.WriteString("\n| flag | |\n|---|---|\n")
		for _, f := range flags {
			fmt.Fprintf(&b, "| `--%s` | %s |\n", f.Name+argument(f), described(f))
		}
	}
	return b.String()
}

// argument is what stands behind a flag, within a table.
func argument(f *pflag.Flag) string {
	if f.Value.Type() == "bool" {
		return ""
	}
	return " " + strings.ReplaceAll(f.Value.Type(), "|", `\|`)
}

func described(f *pflag.Flag) string {
	text := strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(f.Usage)
	if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "false" {
		text += " (default `" + f.DefValue + "`)"
	}
	return text
}
