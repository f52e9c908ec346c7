package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/check"
	"flanneld/pkg/status"
)

func (p *program) checkCommand() *cobra.Command {
	return p.newCommand(&cobra.Command{
		Use:   "check [flags] [PEER-SUBNET|PEER-IP]",
		Short: "say why containers do not reach each other, and what fixes it",
		Long: `It walks along the path of a packet, from a container of this host to one of a
peer (without an argument: of each peer) and back, and changes nothing. It needs
root, and the flanneld of this network namespace.

Exit codes: 0 all is well, 1 there is a fault, 2 something could not be checked.`,
		Example: `  # this host, and the way to all peers
  flanneld check
  # the way to one peer; an address of it will do too
  flanneld check 172.7.22.0/24`,
	}, func(c *call) []cli.Topic { return []cli.Topic{c.outputFlag(), c.prefixTopic()} }, 1, runCheck)
}

func runCheck(ctx context.Context, c *call) error {
	what := ""
	if len(c.args) > 0 {
		what = c.args[0]
	}
	daemon, err := status.Find(c.prefix())
	if err != nil {
		return cli.Exitf(exitUnanswered, "%v", err)
	}
	f := check.Read(ctx, daemon)
	peers, missing, err := check.Select(f.Status, what)
	if err != nil {
		return cli.Exitf(exitUnanswered, "%v", err)
	}
	f.ReadPaths(peers)
	found := check.Run(f, peers)
	if missing != nil {
		found = append(found, *missing)
	} else {
		prober := check.Prober{Network: check.Host{}, Dropped: check.DroppedByReversePath}
		found = append(found, prober.Run(f, peers, found)...)
	}
	found = append(found, check.Rest(f, found)...)
	if err := c.printFindings(found); err != nil {
		return err
	}
	return verdict(found)
}

func (c *call) printFindings(found []check.Finding) error {
	if c.format == formatJSON {
		return c.printJSON(found)
	}
	return check.Print(c.stdout, found, colourful(c.program.stdout))
}

// verdict is the exit code, and the first reason for it.
func verdict(found []check.Finding) error {
	worst := check.Worst(found)
	if worst == check.OK {
		return nil
	}
	n := 0
	for _, x := range found {
		if x.Level == worst {
			n++
		}
	}
	first := found[slices.IndexFunc(found, func(x check.Finding) bool { return x.Level == worst })]
	text := fmt.Sprintf("%s: %s", first.Step, first.Text)
	if n > 1 {
		text = fmt.Sprintf("%d findings; the first: %s", n, text)
	}
	if worst == check.Fault {
		return cli.Exitf(cli.Failed, "%s", text)
	}
	return cli.Exitf(exitUnanswered, "%s", text)
}
