package daemon

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/nftables"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// firewallTasks keep the rules that the flags and the config key ask for, and
// remove those of an earlier run that are not asked for any more.
type firewallTasks struct {
	options      Options
	iptables     bool         // this host has it
	former       netip.Prefix // the network of the run before
	marks        bool         // this kernel has nf_tables, to mark packets by
	rules        *firewall.Reconciler
	tasks        []task
	keyIsIgnored bool // EnableNFTables cannot be followed, and that is logged
}

// newFirewall finds what this host has of the two. That neither can be used ends
// flanneld only where --ip-masq asks for one, as the forward rules are on by
// default. It runs no program: one that hangs keeps no host from routing.
func newFirewall(
	o Options, former netip.Prefix, inside *introspection, wrong *condition.Set,
) (*firewallTasks, error) {
	f := &firewallTasks{options: o, former: former}
	settings := firewall.Options{
		Resync: o.IPTablesResync, Repaired: inside.counts.RulesRepaired, Rules: inside.setRules,
		Report: func(chains map[string]condition.Condition) { reportRules(wrong, chains) },
	}
	unavailable := func(what string, err error) {
		wrong.Set(condition.Condition{Code: condition.FirewallUnavailable, Subject: what, Message: what,
			Cause: err.Error(), Denied: condition.Denied(err)})
	}
	old, err := iptables.New()
	switch {
	case err == nil:
		f.iptables = true
		settings.Writers = append(settings.Writers, old)
	case errors.Is(err, iptables.ErrNotInstalled) && !(o.Firewall == IPTables && o.IPMasq):
	case o.Firewall == NFTables: // docker's chains cannot be seen to then
		unavailable("iptables cannot be used", err)
	default:
		return nil, err
	}
	// Where it cannot be asked it may be there: then writing says why, again and again.
	f.marks, err = nftables.Supported()
	switch {
	case f.marks || err != nil:
		f.marks = true
		own := &nftables.Writer{}
		settings.Writers = append(settings.Writers, own)
		if f.iptables {
			old.Generation = own.Generation
		}
		if watch, err := nftables.Watch(); err == nil {
			f.tasks = append(f.tasks, watch)
			settings.Changed = watch.Changed()
		} else {
			klog.ErrorS(err, "Rules that another program removes are restored by the next resync only",
				"resync", o.IPTablesResync)
		}
	case o.Firewall == NFTables || !f.iptables && o.IPMasq:
		return nil, fmt.Errorf("%w: load it (modprobe nf_tables), or install iptables and start flanneld "+
			"with --firewall=iptables", nftables.ErrUnsupported)
	}
	if o.ForwardRules && !f.iptables && (!f.marks || o.Firewall == IPTables) {
		unavailable("no rules let containers' traffic pass", iptables.ErrNotInstalled)
	}
	if f.rules, err = firewall.New(settings); err != nil {
		return nil, err
	}
	f.tasks = append(f.tasks, f.rules)
	return f, nil
}

// set has the rules made for a network and this host's subnet in it. Only the
// agent calls it.
func (f *firewallTasks) set(c subnet.Config, own netip.Prefix, peers []rules.Peer) <-chan struct{} {
	o := f.options
	impossible := o.Firewall == FirewallAuto && c.NFTables && f.iptables && !f.marks
	if impossible && !f.keyIsIgnored {
		klog.ErrorS(nftables.ErrUnsupported, "The config key has EnableNFTables, but rules are written by iptables")
	}
	f.keyIsIgnored = impossible
	if v := klog.V(1); v.Enabled() {
		v.InfoS("Asking for rules", "network", c.Network, "subnet", own, "peers", len(peers))
	}
	return f.rules.Set(rules.Wanted{
		Network: c.Network, Former: f.former, Subnet: own, Peers: peers, Marked: f.marks,
		Table:      tableOf(o.Etcd.Config().Dir()),
		Masquerade: o.IPMasq, PlainPorts: o.PlainPorts, Forward: o.ForwardRules,
		NFTables: !impossible && (o.Firewall == NFTables || o.Firewall == FirewallAuto && (c.NFTables || !f.iptables)),
	})
}

// tableOf is the name of the table in nftables of the daemon with a prefix.
func tableOf(prefix string) string {
	if prefix == "" || prefix == status.DefaultPrefix {
		return nftables.DefaultTable
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(prefix))
	return fmt.Sprintf("%s-%08x", nftables.DefaultTable, sum.Sum32())
}

// reportRules keeps what is wrong with the rules.
func reportRules(wrong *condition.Set, chains map[string]condition.Condition) {
	of := map[condition.Code][]condition.Condition{}
	for _, c := range chains {
		of[c.Code] = append(of[c.Code], c)
	}
	for _, code := range []condition.Code{condition.FirewallNotApplied, condition.FirewallContention} {
		wrong.Replace(code, of[code])
	}
}

// unset has no rules of a family.
func (f *firewallTasks) unset(inet.Family) {}
