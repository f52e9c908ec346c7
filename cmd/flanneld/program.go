package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/printable"
)

// program is flanneld but for what belongs to the process.
type program struct {
	version        string
	env            func(name string) (string, bool)
	environ        func() []string
	stdin          io.Reader
	stdout, stderr io.Writer

	// What is done in the end; tests put something else in.
	serve   func(context.Context, options) error // the daemon
	command func(context.Context, *call) error   // nil: what the command is for

	line      cli.Line
	logFormat string // of the daemon, also where the rest of its command line is wrong
}

// run does what a command line says.
func (p *program) run(ctx context.Context, args []string) error {
	root := p.root()
	args = p.line.Normalize(root, args)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && cmd == root && p.wantsJSON(args) {
		p.logFormat = formatJSON
		_ = setUpLog(options{LogFormat: formatJSON})
	}
	return err
}

func (p *program) root() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "flanneld [flags]",
		Short: "one network for the containers of many hosts",
		Long: `flanneld gives the containers of many hosts one network: it takes a subnet for
this host from etcd and keeps the routes to all other hosts' subnets.

Without a command it is the daemon. A flag without a value is switched on, and
off by --FLAG=false; one dash does as well as two. Each can also be given in the
environment: FLANNELD_ and its name in upper case, with _ for -, such as
FLANNELD_ETCD_ENDPOINTS. The command line wins. An empty value is as none; of
several, the last one counts.`,
		Args:                       p.line.AtMost(0),
		ValidArgsFunction:          cobra.NoFileCompletions,
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !o.version { // what is in the environment does not keep it from printing its version
				if err := cli.ReadEnv(cmd.Flags(), p.env); err != nil {
					return err
				}
			}
			if o.version {
				_, err := fmt.Fprintln(p.stdout, p.version)
				return err
			}
			told := func(flag string) bool { _, is := cli.Given(cmd.Flags(), flag); return is }
			o.takeKeyFile(p.env, told)
			o.takeCredentials(p.env, told)
			if err := o.check(); err != nil {
				return err
			}
			p.noteUnread(&o, cmd)
			o.noteVain(situation{cmd: cmd})
			for variable, flag := range cli.Overruled(cmd.Flags(), p.env) {
				o.without(variable, "--"+flag+" on the command line overrules it")
			}
			o.Version = p.version
			return p.serve(cmd.Context(), o)
		},
	}
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(cli.FlagError)
	root.SetUsageFunc(cli.UsageText)
	cli.AddFlags(root, daemonFlags(&o)...)
	root.AddCommand(p.statusCommand(), p.checkCommand(), p.configCommand(), p.leaseCommand(), p.wireguardCommand(),
		p.migrateCommand(), p.completionCommand(), p.manCommand())
	return root
}

// noteUnread notes variables that are meant for flanneld, and that it does not know.
func (p *program) noteUnread(o *options, cmd *cobra.Command) {
	if p.environ == nil {
		return
	}
	for name, meant := range cli.UnreadEnv(cmd.Flags(), p.environ()) {
		if meant == "" {
			o.without(name, "no flag has this name")
		} else {
			o.without(name, "no flag has this name: did you mean "+meant+"?")
		}
	}
}

// call is one use of a command.
type call struct {
	*program
	stdout, stderr io.Writer // the program's, for people

	options        // those about etcd alone
	format  string // "", "json"
	yes     bool
	now     bool
	all     bool

	path  string // "flanneld config set"
	args  []string
	given func(flag string) bool // on the command line
	told  func(flag string) bool // there, or in the environment
}

// newCommand completes a command: its flags, the most arguments that it takes, and
// what it does. Of the environment it reads what is about etcd.
func (p *program) newCommand(
	cmd *cobra.Command, flags func(*call) []cli.Topic, most int, run func(context.Context, *call) error,
) *cobra.Command {
	c := &call{program: p}
	cli.AddFlags(cmd, flags(c)...)
	cmd.Args = p.line.AtMost(most)
	if cmd.ValidArgs == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	cmd.Long = strings.TrimSpace(strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + ".\n\n" + cmd.Long)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cli.ReadEnv(cmd.Flags(), onlyEtcd(p.env)); err != nil {
			return err
		}
		c.path, c.args, c.given = cmd.CommandPath(), args, cmd.Flags().Changed
		c.told = func(flag string) bool { _, is := cli.Given(cmd.Flags(), flag); return is }
		if cmd.Flags().Lookup(passwordFileFlag) != nil {
			c.takeCredentials(p.env, c.told)
		}
		if err := c.check(); err != nil {
			return err
		}
		if p.command != nil {
			return p.command(cmd.Context(), c)
		}
		logErrorsTo(p.stderr)
		c.stdout, c.stderr = printable.People(p.stdout), printable.People(p.stderr)
		c.sayVain(situation{cmd: cmd, args: args})
		return run(cmd.Context(), c)
	}
	return cmd
}

// newGroup is a word that others must follow.
func newGroup(cmd *cobra.Command, choice string, members ...*cobra.Command) *cobra.Command {
	cli.AddFlags(cmd)
	cmd.AddCommand(members...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cli.Exitf(cli.Usage, "%s needs a second word: %s", cmd.CommandPath(), choice)
		}
		return cli.Exitf(cli.Usage, "%s %q is no command: after %s comes %s", cmd.CommandPath(), args[0], cmd.Name(), choice)
	}
	return cmd
}
