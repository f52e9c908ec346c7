package main

import (
	"context"
	"encoding/json"
	"io"
	"os"

	"golang.org/x/term"

	"flanneld/pkg/status"
)

func statusVerb() verb {
	return verb{
		name:    "status",
		summary: "say how the running flanneld is, and how it reaches each peer",
		text: `It asks the flanneld of this network namespace, as root. With --etcd-endpoints
it reads the leases from etcd instead, on any machine.

Exit codes: 0 it is ready, 1 it is not, 2 it could not be asked.`,
		examples: []example{
			{"flanneld status", "this host, and a table of its peers"},
			{"flanneld status -o json --etcd-endpoints=http://10.4.7.12:2379", "all leases, for a script"},
		},
		topics: func(o *verbOptions) []topic {
			return []topic{{"output", []entry{outputFlag(o)}}, etcdTopic(&o.options)}
		},
		run: runStatus,
	}
}

func runStatus(ctx context.Context, c *call) error {
	ask := status.Ask
	if c.given(endpointsFlag) {
		ask = func(ctx context.Context) (status.Status, error) { return fromStore(ctx, c.options) }
	}
	s, err := ask(ctx)
	if err != nil {
		return exitf(exitUnanswered, "%v", err)
	}
	if err := c.print(s); err != nil {
		return err
	}
	if s.Daemon != nil && !s.Daemon.Ready {
		return exitf(exitFailed, "not ready: %s", s.Daemon.Reason)
	}
	return nil
}

func (c *call) print(s status.Status) error {
	if c.format == "json" {
		e := json.NewEncoder(c.stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	return s.Print(c.stdout, colourful(c.stdout))
}

// colourful reports whether w is a terminal whose user has nothing against
// colours (no-color.org).
func colourful(w io.Writer) bool {
	f, isFile := w.(*os.File)
	return isFile && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
