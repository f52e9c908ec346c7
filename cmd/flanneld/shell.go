package main

import (
	"context"
	_ "embed"
	"io"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/printable"
)

func (p *program) completionCommand() *cobra.Command {
	return p.newCommand(&cobra.Command{
		Use:       "completion [flags] bash|zsh|fish",
		Short:     "print what completes commands, flags and values in a shell",
		Long:      "That for bash needs the package bash-completion.",
		ValidArgs: []string{"bash", "zsh", "fish"},
		Example: `  # for everybody, from the next login on
  flanneld completion bash > /etc/bash_completion.d/flanneld
  # in this shell
  source <(flanneld completion bash)`,
	}, noFlags, 1, func(_ context.Context, c *call) error {
		shell := ""
		if len(c.args) > 0 {
			shell = c.args[0]
		}
		switch root := p.root(); shell {
		case "bash":
			return root.GenBashCompletionV2(c.stdout, true)
		case "zsh":
			return root.GenZshCompletion(c.stdout)
		case "fish":
			return root.GenFishCompletion(c.stdout, true)
		}
		return cli.Exitf(cli.Usage, "flanneld completion needs the name of a shell: bash, zsh or fish")
	})
}

func noFlags(*call) []cli.Topic { return nil }

// interfaces are completions of --iface.
func interfaces(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	all, _ := net.Interfaces()
	var names []string
	for _, i := range all {
		if printable.Line(i.Name) == i.Name {
			names = append(names, i.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// manual is the pages of all commands, one after the other. cobra writes them in a
// test (make man), as what that takes would be a thirtieth
// of the program.
//
//go:embed flanneld.8
var manual string

// manualVersion stands in it for the version.
const manualVersion = "@VERSION@"

func (p *program) manCommand() *cobra.Command {
	return p.newCommand(&cobra.Command{
		Use:   "man",
		Short: "print the manual page",
		Example: `  # read it
  flanneld man | man -l -
  # install it
  flanneld man > /usr/local/share/man/man8/flanneld.8`,
	}, noFlags, 0, func(_ context.Context, c *call) error {
		_, err := io.WriteString(c.stdout, strings.ReplaceAll(manual, manualVersion, p.version))
		return err
	})
}
