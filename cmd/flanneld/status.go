package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"flanneld/internal/cli"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

func (p *program) statusCommand() *cobra.Command {
	return p.newCommand(&cobra.Command{
		Use:   "status",
		Short: "say how the running flanneld is, and how it reaches each peer",
		Long: `It asks the flanneld of this network namespace, as root. With --etcd-endpoints
it reads the leases from etcd instead, on any machine.

Exit codes: 0 it is ready, 1 it is not, 2 it could not be asked.`,
		Example: `  # this host, and a table of its peers
  flanneld status
  # all leases, for a script
  flanneld status -o json --etcd-endpoints=http://10.4.7.12:2379`,
	}, func(c *call) []cli.Topic { return []cli.Topic{c.outputFlag(), etcdFlags(&c.options)} }, 0, runStatus)
}

// outputFlag chooses between people and scripts.
func (c *call) outputFlag() cli.Topic {
	return newTopic("output", cli.Flag{Name: "output", Letter: "o", Arg: formatJSON, Help: "print JSON, for scripts",
		Set: cli.Into(&c.format, outputFormat)})
}

func outputFormat(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	return cli.OneOf(formatJSON, formatJSON)(s)
}

func runStatus(ctx context.Context, c *call) error {
	var s status.Status
	var err error
	if c.given(endpointsFlag) {
		s, err = fromStore(ctx, c.options)
	} else if daemon, several := status.Find(c.prefix()); several != nil {
		err = several
	} else {
		s, err = daemon.Ask(ctx)
	}
	switch variable := cli.EnvName(endpointsFlag); {
	case errors.Is(err, status.ErrNoDaemon) && c.told(endpointsFlag): // and not by the command line
		return cli.Exitf(exitUnanswered, "%v; %s is for the daemon: give --%s to read the leases in etcd",
			err, variable, endpointsFlag)
	case err != nil:
		return cli.Exitf(exitUnanswered, "%v", err)
	}
	if err := c.print(s); err != nil {
		return err
	}
	if s.Daemon != nil && !s.Daemon.Ready {
		return cli.Exitf(cli.Failed, "not ready: %s", s.Daemon.Reason)
	}
	return nil
}

func (c *call) print(s status.Status) error {
	if c.format == formatJSON {
		return c.printJSON(s)
	}
	return s.Print(c.stdout, colourful(c.program.stdout))
}

// prefix is the one that was asked for; "": none was.
func (c *call) prefix() string {
	if c.told(prefixFlag) {
		return c.options.Etcd.Prefix
	}
	return ""
}

// prefixTopic chooses between several daemons.
func (c *call) prefixTopic() cli.Topic {
	return newTopic("etcd", newPrefixFlag(&c.options))
}

// terminal reports whether w is one.
func terminal(w io.Writer) bool {
	f, isFile := w.(*os.File)
	return isFile && term.IsTerminal(int(f.Fd()))
}

// colourful reports whether w is a terminal whose user has nothing against
// colours (no-color.org).
func colourful(w io.Writer) bool {
	return terminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

func (c *call) printJSON(v any) error {
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n", printable.JSON(out))
	return err
}
