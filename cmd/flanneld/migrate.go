package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"flanneld/internal/cli"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/etcdmove"
)

// move is what migrate's flags ask for.
type move struct{ from, to etcdauto.API }

func (p *program) migrateCommand() *cobra.Command {
	var m move
	return p.newCommand(&cobra.Command{
		Use:   "migrate",
		Short: "move config and leases from one of etcd's APIs to the other",
		Long: `It copies what is missing, and prints what it does about each key. Without --yes
nothing is written. Afterwards flanneld is restarted on each host, one after the
other; traffic flows on meanwhile. Until the last one has moved, do not change the
config key, and add no hosts. It may be repeated at any time, and then prolongs
leases in the store in which their host does not renew them.

Exit codes: 0 everything is as it should be, 1 it is not, or nothing could be done.`,
		Example: `  # say what would be done
  flanneld migrate --from=2 --to=3 --etcd-endpoints=http://10.4.7.12:2379
  # do it
  flanneld migrate --from=2 --to=3 --yes --etcd-endpoints=http://10.4.7.12:2379`,
	}, func(c *call) []cli.Topic {
		const apis = "2|3"
		api := cli.OneOf(apis, etcdauto.V2, etcdauto.V3)
		return []cli.Topic{newTopic("move",
			newFlag("from", apis, "", "the API by which the keys are there", cli.Into(&m.from, api)),
			newFlag("to", apis, "", "the API by which they shall be there", cli.Into(&m.to, api)),
			c.yesFlag("do it"),
		), etcdFlags(&c.options)}
	}, 0, func(ctx context.Context, c *call) error { return c.migrate(ctx, m) })
}

func (c *call) migrate(ctx context.Context, m move) error {
	if m.from == etcdauto.Auto || m.to == etcdauto.Auto || m.from == m.to {
		return cli.Exitf(cli.Usage, "flanneld migrate needs --from=2 --to=3, or --from=3 --to=2")
	}
	e, err := c.options.etcd()
	if err != nil {
		return err
	}
	stores := map[etcdauto.API]etcdauto.Store{}
	for _, api := range []etcdauto.API{m.from, m.to} {
		s, err := etcdauto.Open(e.Config(), api)
		if err != nil {
			return err
		}
		defer s.Close()
		stores[api] = s
	}
	plan, mark, err := m.plan(ctx, stores)
	if err != nil {
		return err
	}
	if err := m.followed(ctx, stores); err != nil {
		return err
	}
	if err := c.printPlan(plan, m); err != nil {
		return err
	}
	if !c.yes {
		_, err := fmt.Fprintln(c.stdout, "\nNothing was written. The same with --yes does it.")
		return err
	}
	if err := etcdmove.Apply(ctx, plan, stores[m.from], stores[m.to]); err != nil {
		return err
	}
	if plan, _, err = m.plan(ctx, stores); err != nil {
		return err
	}
	if left := etcdmove.Left(plan); len(left) > 0 {
		return cli.Exitf(cli.Failed, "%d keys are not as they should be, as somebody has written them meanwhile, "+
			"%s among them: do the same again", len(left), left[0].Key)
	}
	if now := fmt.Sprint(int(m.to)); mark.Value != now {
		mark.Key, mark.Value = etcdauto.APIKey, now
		if _, err := stores[etcdauto.V2].Put(ctx, mark); err != nil {
			return err
		}
	}
	return c.printNext(plan, m)
}

// followed says why hosts would not go by the keys where they are moved to.
func (m move) followed(ctx context.Context, stores map[etcdauto.API]etcdauto.Store) error {
	if m.to != etcdauto.V2 {
		return nil
	}
	counts, err := etcdauto.V2Counts(ctx, stores[etcdauto.V2], stores[etcdauto.V3], nil)
	if err == nil && !counts {
		return cli.Exitf(cli.Failed, "nothing was written: etcd's v2 store needs no password while the v3 store does, "+
			"and flanneld does not go by such a store: turn authentication on there as well")
	}
	return err
}

// plan compares the stores. mark is the key by which all hosts choose the API.
func (m move) plan(
	ctx context.Context, stores map[etcdauto.API]etcdauto.Store,
) (plan []etcdmove.Change, mark subnet.Entry, err error) {
	lists := map[etcdauto.API]subnet.Snapshot{}
	for api, s := range stores {
		if lists[api], err = s.ListExact(ctx); err != nil {
			return nil, mark, err
		}
	}
	for _, e := range lists[etcdauto.V2].Entries {
		if e.Key == etcdauto.APIKey {
			mark = e
		}
	}
	moved := mark.Value == fmt.Sprint(int(m.to))
	plan = etcdmove.Plan(lists[m.from], lists[m.to], moved)
	isConfig := func(c etcdmove.Change) bool { return c.Key == "config" && c.Old.Modified != 0 }
	if !slices.ContainsFunc(plan, isConfig) && !moved {
		return nil, mark, cli.Exitf(cli.Failed,
			"etcd's %v store has no config key under the prefix: there is nothing to move", m.from)
	}
	return plan, mark, nil
}

func (c *call) printPlan(plan []etcdmove.Change, m move) error {
	fmt.Fprintf(c.stdout, "from etcd's %v store to the %v store:\n", m.from, m.to)
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	for _, change := range plan {
		e := change.Old
		if e.Modified == 0 {
			e = change.New
		}
		fmt.Fprintf(w, "  %q\t%s\t%s\t%s\n", change.Key, lasts(change.Key, e), change.Do, change.Reason)
	}
	return w.Flush()
}

func lasts(key string, e subnet.Entry) string {
	switch {
	case key == "config":
		return ""
	case e.TTL == 0:
		return "reservation"
	}
	return e.TTL.Round(time.Minute).String()
}

// printNext says what is left to people, and for how long.
func (c *call) printNext(plan []etcdmove.Change, m move) error {
	within := subnet.LeaseTTL
	for _, change := range plan {
		for _, e := range []subnet.Entry{change.Old, change.New} {
			if change.Old.Modified != 0 && e.TTL > 0 {
				within = min(within, e.TTL)
			}
		}
	}
	rest := fmt.Sprintf("What is in the %v store may be deleted once the last one has moved.", m.from)
	if m.from == etcdauto.V2 {
		rest = "Once the last one has moved, delete what is in the v2 store, and the folders above it: " +
			"etcd 3.6 does not start with them."
	}
	_, err := fmt.Fprintf(c.stdout, `
All is copied, and read back. What is left to do, within %v:
  1. Where --etcd-api or FLANNELD_ETCD_API is set, set it to %d.
  2. Restart flanneld on each host, one after the other, in any order.
If that takes longer, run this command again before the time is over.
%s
`, within.Truncate(time.Minute), m.to, rest)
	return err
}
