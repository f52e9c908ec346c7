package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/admin"
	"flanneld/pkg/daemon"
	"flanneld/pkg/subnet"
)

func (p *program) configCommand() *cobra.Command {
	const choice = "get, set or check"
	return newGroup(&cobra.Command{Use: "config", Short: "the config key: " + choice}, choice,
		p.newCommand(&cobra.Command{
			Use:   "get",
			Short: "print the config key",
			Long: `A file or a pipe gets it byte by byte. On a terminal, what does not print is
shown as a question mark.`,
			Example: `  # from etcd on this host
  flanneld config get
  # from another one, into a file
  flanneld config get --etcd-endpoints=http://10.4.7.12:2379 > config.json`,
		}, onlyEtcdFlags, 0, withAdmin(getConfig)),
		p.newCommand(&cobra.Command{
			Use:   "set [flags] JSON|-",
			Short: "check a config and write it; running hosts follow it by themselves",
			Long: `It asks before a change by which hosts lose their subnets, and before one that
flanneld would ignore in part. - stands for standard input.`,
			Example: `  # tunnels between all hosts
  flanneld config set '{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"}}'
  # a file, without being asked
  flanneld config set --yes - < config.json`,
		}, writingFlags, 1, withAdmin(setConfig)),
		p.newCommand(&cobra.Command{
			Use:   "check [flags] [JSON|-]",
			Short: "say what a config means, or which of its fields is wrong",
			Long:  "Without an argument it looks at the config key in etcd, and at the leases under it.",
			Example: `  # the config key
  flanneld config check
  # a file, without asking etcd
  flanneld config check - < config.json`,
		}, onlyEtcdFlags, 1, checkConfig),
	)
}

func onlyEtcdFlags(c *call) []cli.Topic { return []cli.Topic{etcdFlags(&c.options)} }

func writingFlags(c *call) []cli.Topic {
	return []cli.Topic{newTopic("writing", c.yesFlag("do not ask")), etcdFlags(&c.options)}
}

func (c *call) yesFlag(help string) cli.Flag {
	return newFlag("yes", "", "", help, cli.Into(&c.yes, cli.Bool))
}

// withAdmin gives a command the keys in etcd.
func withAdmin(run func(context.Context, *call, admin.Admin) error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		r, err := openStore(c.options)
		if err != nil {
			return err
		}
		defer r.Close()
		return run(ctx, c, admin.Admin{
			Store: r, Backends: daemon.Backends(), Underlay: c.Etcd.Underlay(ctx), Dir: r.Dir,
		})
	}
}

func getConfig(ctx context.Context, c *call, a admin.Admin) error {
	now, err := a.Read(ctx)
	switch {
	case err != nil:
		return err
	case now.Config.Modified == 0:
		return now.NoConfig
	}
	text, err := now.Config.Text()
	if err != nil {
		return fmt.Errorf("the config key %w", err)
	}
	return c.printDocument(text, terminal(c.program.stdout))
}

// printDocument gives a file or a pipe the text as it is.
func (c *call) printDocument(text string, toTerminal bool) error {
	w := c.program.stdout
	if toTerminal {
		w = c.stdout
	}
	_, err := fmt.Fprintln(w, text)
	return err
}

func setConfig(ctx context.Context, c *call, a admin.Admin) error {
	text, given, err := c.document()
	if err != nil {
		return err
	}
	if !given {
		return cli.Exitf(cli.Usage, "flanneld config set needs the config, or - to read it from standard input")
	}
	change, err := a.SetConfig(ctx, text)
	if err != nil {
		return err
	}
	return c.carryOut(ctx, a, change)
}

func checkConfig(ctx context.Context, c *call) error {
	text, given, err := c.document()
	if err != nil {
		return err
	}
	if given {
		a := admin.Admin{Backends: daemon.Backends(), Underlay: c.Etcd.Underlay(ctx)}
		return c.explainConfig(a, subnet.Contents{Config: subnet.Entry{Value: text}})
	}
	return withAdmin(func(ctx context.Context, c *call, a admin.Admin) error {
		now, err := a.Read(ctx)
		switch {
		case err != nil:
			return err
		case now.Config.Modified == 0:
			return now.NoConfig
		}
		return c.explainConfig(a, now)
	})(ctx, c)
}

// explainConfig says what a config means for the leases that there are.
func (c *call) explainConfig(a admin.Admin, now subnet.Contents) error {
	text, err := now.Config.Text()
	if err != nil {
		return fmt.Errorf("the config key %w", err)
	}
	config, ignored, err := a.Check(text)
	if err != nil {
		return err
	}
	for _, f := range config.Families() {
		half, _ := config.For(f)
		fmt.Fprintf(c.stdout, "network  %v\nsubnets  /%d, from %v to %v\n",
			half.Network, half.SubnetLen, half.SubnetMin, half.SubnetMax)
	}
	fmt.Fprintf(c.stdout, "backend  %s\n", config.BackendType)
	if note := admin.Ignored(ignored); note != "" {
		fmt.Fprintln(c.stderr, note)
	}
	for _, l := range admin.Leaving(config, now.Leases) {
		fmt.Fprintf(c.stderr, "the lease of %v by %v does not fit it\n", l.Subnets(), l.PublicIP)
	}
	warnings, err := a.CheckUnderlay(config, now.Leases)
	for _, warning := range warnings {
		fmt.Fprintln(c.stderr, warning)
	}
	return err
}

// document is the argument, or standard input where that is "-".
func (c *call) document() (text string, given bool, err error) {
	switch {
	case len(c.args) == 0:
		return "", false, nil
	case c.args[0] != "-":
		return c.args[0], true, nil
	}
	content, err := io.ReadAll(io.LimitReader(c.stdin, 1<<20))
	if err != nil {
		return "", true, fmt.Errorf("read the config from standard input: %w", err)
	}
	return string(content), true, nil
}

// carryOut writes a change, with the consent of whoever is there.
func (c *call) carryOut(ctx context.Context, a admin.Admin, change admin.Change) error {
	for _, note := range change.Notes {
		fmt.Fprintln(c.stderr, note)
	}
	if change.Question != "" && !c.yes && !c.consent(change.Question) {
		return errors.New("nothing was written; --yes answers beforehand")
	}
	if err := a.Do(ctx, change); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, change.Done)
	return err
}

func (c *call) consent(question string) bool {
	fmt.Fprintf(c.stderr, "%s [y/N] ", question)
	line, _ := bufio.NewReader(c.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	return false
}
