package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"flanneld/internal/cli"
	"flanneld/pkg/check"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

func (p *program) checkCommand() *cobra.Command {
	return p.newCommand(&cobra.Command{
		Use:   "check [flags] [--all | PEER-SUBNET|PEER-IP]",
		Short: "say why containers do not reach each other, and what fixes it",
		Long: `It walks along the path of a packet, from a container of this host to one of a
peer (without an argument: of each peer) and back, and changes nothing. It needs
root, and the flanneld of this network namespace.

With --all it is for large clusters: it tries thousands of peers at a time, at most
2,000 packets a second, and prints each cause once, with the peers that it concerns
and since when. Ctrl-C ends it, and prints what is known by then.

Exit codes: 0 all is well, 1 there is a fault, 2 something could not be checked.`,
		Example: `  # this host, and the way to all peers
  flanneld check
  # which of 300 hosts are not reached, since when, and why
  flanneld check --all`,
	}, func(c *call) []cli.Topic { return []cli.Topic{c.outputFlag(), c.allFlag(), c.prefixTopic()} }, 1, runCheck)
}

// allFlag chooses the form for many peers.
func (c *call) allFlag() cli.Topic {
	return newTopic("peers", cli.Flag{Name: "all", Help: "try all peers at a time, and print each cause once",
		Set: cli.Into(&c.all, cli.Bool)})
}

func runCheck(ctx context.Context, c *call) error {
	if c.all {
		return checkAll(ctx, c)
	}
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
	if f.Status != nil {
		peers = check.NewSessions(daemon).Run(ctx, &f, peers)
	}
	found := check.Run(f, peers)
	if missing != nil {
		found = append(found, *missing)
	} else {
		prober := check.Prober{Network: probe.Host{}, Dropped: check.DroppedByReversePath}
		found = append(found, prober.Run(f, peers, found)...)
	}
	found = append(found, check.Rest(f, found)...)
	if err := c.printFindings(found); err != nil {
		return err
	}
	return verdict(found)
}

// checkAll is for clusters of which nobody reads a line for each peer.
func checkAll(ctx context.Context, c *call) error {
	if len(c.args) > 0 {
		return cli.Exitf(cli.Usage, "--all is about each peer: leave %q away", c.args[0])
	}
	daemon, err := status.Find(c.prefix())
	if err != nil {
		return cli.Exitf(exitUnanswered, "%v", err)
	}
	progress := c.startBar()
	report, err := sweep(ctx, daemon, progress.Set)
	progress.End()
	if err != nil {
		return cli.Exitf(exitUnanswered, "%v", err)
	}
	if c.format == formatJSON {
		err = c.printJSON(report)
	} else {
		err = report.Print(c.stdout, colourful(c.program.stdout))
	}
	if err != nil {
		return err
	}
	return verdict(report.Findings())
}

// sweep looks at this host and at all of its peers.
func sweep(ctx context.Context, daemon status.Socket, progress func(done, total int)) (*check.Report, error) {
	f := check.Read(ctx, daemon)
	peers, _, err := check.Select(f.Status, "")
	if err != nil {
		return nil, err
	}
	f.ReadPaths(peers)
	network := probe.Open(ctx)
	defer network.Close()
	s := check.Sweep{
		Network: network, Dropped: check.DroppedByReversePath, Sessions: check.NewSessions(daemon), Progress: progress,
	}
	return s.Run(ctx, f, peers), nil
}

// startBar shows a bar where the program's errors go, if that is a terminal; scripts see nothing of it.
func (c *call) startBar() *cli.Bar {
	const usual = 80
	f, isFile := c.program.stderr.(*os.File)
	if !isFile || !terminal(f) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return cli.StartBar(f, func() int {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			return columns
		}
		return usual
	})
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
