package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"flanneld/pkg/admin"
	"flanneld/pkg/daemon"
	"flanneld/pkg/subnet"
)

func configVerbs() []verb {
	const document = "JSON|-"
	etcd := func(o *verbOptions) []topic { return []topic{etcdTopic(&o.options)} }
	return []verb{
		{
			name:    "config get",
			summary: "print the config key",
			examples: []example{
				{"flanneld config get", "from etcd on this host"},
				{"flanneld config get --etcd-endpoints=http://10.4.7.12:2379 > config.json", "from another one, into a file"},
			},
			topics: etcd,
			run:    withAdmin(getConfig),
		},
		{
			name:    "config set",
			args:    document,
			summary: "check a config and write it; running flanneld follow it by themselves",
			text: `It asks before a change by which hosts lose their subnets, and before one that
flanneld would ignore in part. - stands for standard input.`,
			examples: []example{
				{`flanneld config set '{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"}}'`, "tunnels between all hosts"},
				{"flanneld config set --yes - < config.json", "a file, without being asked"},
			},
			topics: func(o *verbOptions) []topic { return []topic{{"writing", []entry{yesFlag(o)}}, etcdTopic(&o.options)} },
			most:   1,
			run:    withAdmin(setConfig),
		},
		{
			name:    "config check",
			args:    "[" + document + "]",
			summary: "say what a config means, or which of its fields is wrong",
			text:    "Without an argument it looks at the config key in etcd, and at the leases under it.",
			examples: []example{
				{"flanneld config check", "the config key"},
				{"flanneld config check - < config.json", "a file, without asking etcd"},
			},
			topics: etcd,
			most:   1,
			run:    checkConfig,
		},
	}
}

func yesFlag(o *verbOptions) entry {
	return entry{"yes", "", "", "do not ask", into(&o.yes, boolean)}
}

// withAdmin gives a verb the keys in etcd.
func withAdmin(run func(context.Context, *call, admin.Admin) error) func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		r, err := openStore(c.options)
		if err != nil {
			return err
		}
		defer r.Close()
		return run(ctx, c, admin.Admin{Store: r, Backends: daemon.Backends()})
	}
}

func getConfig(ctx context.Context, c *call, a admin.Admin) error {
	now, err := a.Read(ctx)
	switch {
	case err != nil:
		return err
	case now.Config.Modified == 0:
		return admin.ErrNoConfig
	}
	_, err = fmt.Fprintln(c.stdout, now.Config.Value)
	return err
}

func setConfig(ctx context.Context, c *call, a admin.Admin) error {
	text, given, err := c.document()
	if err != nil {
		return err
	}
	if !given {
		return exitf(exitUsage, "flanneld config set needs the config, or - to read it from standard input")
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
		return c.explainConfig(admin.Admin{Backends: daemon.Backends()}, subnet.Contents{Config: subnet.Entry{Value: text}})
	}
	return withAdmin(func(ctx context.Context, c *call, a admin.Admin) error {
		now, err := a.Read(ctx)
		switch {
		case err != nil:
			return err
		case now.Config.Modified == 0:
			return admin.ErrNoConfig
		}
		return c.explainConfig(a, now)
	})(ctx, c)
}

// explainConfig says what a config means for the leases that there are.
func (c *call) explainConfig(a admin.Admin, now subnet.Contents) error {
	config, ignored, err := a.Check(now.Config.Value)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "network  %v\nsubnets  /%d, from %v to %v\nbackend  %s\n",
		config.Network, config.SubnetLen, config.SubnetMin, config.SubnetMax, config.BackendType)
	if note := admin.Ignored(ignored); note != "" {
		fmt.Fprintln(c.stderr, note)
	}
	for _, l := range admin.Leaving(config, now.Leases) {
		fmt.Fprintf(c.stderr, "the lease of %v by %v does not fit it\n", l.Subnet, l.PublicIP)
	}
	return nil
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
