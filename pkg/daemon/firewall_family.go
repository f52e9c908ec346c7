package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/nftables"
	"flanneld/pkg/inet"
)

// familyRules are the rules of one family, and what writes them.
type familyRules struct {
	family   inet.Family
	network  netip.Prefix // that was set last
	former   netip.Prefix // the network of the run before
	left     netip.Prefix // one that our table of an earlier run names
	flannels netip.Prefix // the network of flannel 0.28's table

	rules        *firewall.Reconciler // nil: not needed so far
	tasks        []task
	iptables     bool // this host has it
	marks        bool // this kernel has nf_tables, to mark packets by
	keyIsIgnored bool // EnableNFTables cannot be followed, and that is logged

	// The rest is told by tasks, and guarded by their mutex.
	used        bool                           // the cluster has the family
	unavailable []condition.Condition          // what the host does not have
	chains      map[string]condition.Condition // what is wrong with rules
	kept        []string                       // the rules
}

// open finds what this host has to write rules of a family by.
func (f *firewallTasks) open(r *familyRules) error {
	o, program := f.options, iptables.Program(r.family)
	settings := firewall.Options{
		Resync: o.IPTablesResync, Repaired: f.inside.rulesRepaired,
		Rules:  func(kept []string) { f.change(func() { r.kept = kept }) },
		Report: func(chains map[string]condition.Condition) { f.report(r, chains) },
	}
	unavailable := func(what string, err error) {
		r.unavailable = append(r.unavailable, condition.Condition{
			Code: condition.FirewallUnavailable, Subject: what, Message: what,
			Cause: err.Error(), Denied: condition.Denied(err),
		})
	}
	old, err := iptables.New(r.family)
	switch {
	case err == nil:
		r.iptables = true
		settings.Writers = append(settings.Writers, old)
	case errors.As(err, &iptables.NotInstalled{}) && !(o.Firewall == IPTables && o.IPMasq):
	case o.Firewall == NFTables: // docker's chains cannot be seen to then
		unavailable(program+" cannot be used", err)
	default:
		return err
	}
	// Where it cannot be asked it may be there: then writing says why, again and again.
	r.marks, err = nftables.Supported()
	switch {
	case r.marks || err != nil:
		r.marks = true
		own := &nftables.Writer{}
		settings.Writers = append(settings.Writers, own)
		if r.iptables {
			old.Generation = own.Generation
		}
		if watch, err := nftables.Watch(); err == nil {
			r.tasks = append(r.tasks, watch)
			settings.Changed = watch.Changed()
		} else {
			klog.ErrorS(err, "Rules that another program removes are restored by the next resync only",
				"resync", o.IPTablesResync)
		}
	case o.Firewall == NFTables || !r.iptables && o.IPMasq:
		return fmt.Errorf("%w: load it (modprobe nf_tables), or install %s and start flanneld "+
			"with --firewall=iptables", nftables.ErrUnsupported, program)
	}
	if o.ForwardRules && !r.iptables && (!r.marks || o.Firewall == IPTables) {
		unavailable(noRules[r.family], iptables.NotInstalled{Family: r.family})
	}
	if r.rules, err = firewall.New(settings); err != nil {
		return err
	}
	r.tasks = append(r.tasks, r.rules)
	f.change(func() {})
	return nil
}

// noRules is what it means that a host has nothing to write rules of a family by.
var noRules = map[inet.Family]string{
	inet.IPv4: "no rules let containers' traffic pass", inet.IPv6: "no rules let containers' IPv6 traffic pass",
}

// use notes whether the cluster has a family. The first time, what writes its rules is
// opened; that this host has nothing does not end the daemon then.
func (f *firewallTasks) use(r *familyRules, used bool) {
	if r.rules == nil {
		if err := f.open(r); err != nil {
			r.unavailable = []condition.Condition{{
				Code: condition.FirewallUnavailable, Subject: noRules[r.family], Message: noRules[r.family],
				Cause: err.Error(), Denied: condition.Denied(err),
			}}
			// It has nothing to do, and so it succeeds.
			r.rules, _ = firewall.New(firewall.Options{Resync: f.options.IPTablesResync})
			r.tasks = []task{r.rules}
		}
		for _, t := range r.tasks {
			f.late <- t
		}
	}
	if r.used != used {
		f.change(func() { r.used = used })
	}
}

// disuse notes that the cluster does not have a family, of which there are no rules.
func (f *firewallTasks) disuse(r *familyRules) {
	if r.used {
		f.change(func() { r.used = false })
	}
}

// report takes up what is wrong with the rules of a family. While that is not in use
// they only have to go, and the host is as well without.
func (f *firewallTasks) report(r *familyRules, chains map[string]condition.Condition) {
	f.change(func() {
		r.chains = chains
		for _, c := range chains {
			if !r.used {
				klog.ErrorS(errors.New(c.Cause), "Cannot remove rules of a family that is not in use",
					"family", r.family, "chain", c.Subject)
			}
		}
	})
}

// change changes what is told of the families, and tells it: what is wrong, and the
// rules of all families together.
func (f *firewallTasks) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	of, kept := map[condition.Code][]condition.Condition{}, []string(nil)
	for _, family := range inet.Families() {
		r := f.families[family]
		kept = append(kept, r.kept...)
		if !r.used {
			continue
		}
		for _, c := range r.unavailable {
			of[c.Code] = append(of[c.Code], c)
		}
		for _, c := range r.chains {
			of[c.Code] = append(of[c.Code], c)
		}
	}
	for _, code := range []condition.Code{
		condition.FirewallUnavailable, condition.FirewallNotApplied, condition.FirewallContention,
	} {
		f.wrong.Replace(code, of[code])
	}
	f.inside.setRules(kept)
}

// lateTasks are those that are added while the daemon runs: what an IPv4-only cluster
// does not need.
type lateTasks chan task

func (l lateTasks) String() string { return "firewall" }

// Run runs them until ctx ends, or one of them fails.
func (l lateTasks) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			return group.Wait()
		case t := <-l:
			group.Go(func() error { return runTask(ctx, t) })
		}
	}
}
