package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"k8s.io/klog/v2"

	"flanneld/pkg/firewall"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/nftables"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/subnet"
)

// wall is what --firewall says.
type wall string

const (
	wallAuto     wall = "auto" // nftables where the config key says so, or the host has no iptables
	wallIPTables wall = "iptables"
	wallNFTables wall = "nftables"
)

// walls are the tasks that keep the rules that the flags and the config key ask
// for, and sweep up those of an earlier run that are not asked for any more.
type walls struct {
	options  options
	iptables bool // this host has it
	marks    bool // this kernel has nf_tables, to mark packets by
	rules    *firewall.Reconciler
	tasks    []task
	told     bool // that the config key's EnableNFTables cannot be
}

// newFirewall finds what this host has of the two. That neither can be used ends
// flanneld only where --ip-masq asks for one, as the forward rules are on by
// default.
func newFirewall(ctx context.Context, o options, inside *insider) (*walls, error) {
	w := &walls{options: o}
	say, lasting := reportRules(), map[string]string{}
	settings := firewall.Options{
		Resync: o.IPTablesResync, Repaired: inside.counts.RulesRepaired, Rules: inside.keep,
		Report: func(problems map[string]string) {
			maps.Copy(problems, lasting)
			say(problems)
			inside.heed(problems)
		},
	}
	old, err := iptables.New(ctx)
	switch {
	case err == nil:
		w.iptables = true
		settings.Writers = append(settings.Writers, old)
	case errors.Is(err, iptables.ErrNotInstalled) && !(o.Firewall == wallIPTables && o.IPMasq):
	case o.Firewall == wallNFTables: // docker's chains cannot be seen to then
		lasting["iptables cannot be used"] = err.Error()
	default:
		return nil, err
	}
	// Where it cannot be asked it may be there: then writing says why, again and again.
	w.marks, err = nftables.Supported()
	switch {
	case w.marks || err != nil:
		w.marks = true
		own := &nftables.Writer{}
		settings.Writers = append(settings.Writers, own)
		if w.iptables && old.InNFTables() {
			old.Generation = own.Generation
		}
		if watch, err := nftables.Watch(); err == nil {
			w.tasks = append(w.tasks, watch)
			settings.Changed = watch.Changed()
		} else {
			klog.Warningf("%v: rules that somebody removes are back within %v only", err, o.IPTablesResync)
		}
	case o.Firewall == wallNFTables || !w.iptables && o.IPMasq:
		return nil, fmt.Errorf("%w: load it (modprobe nf_tables), or install iptables and start flanneld with --firewall=iptables", nftables.ErrUnsupported)
	}
	if o.ForwardRules && !w.iptables && (!w.marks || o.Firewall == wallIPTables) {
		lasting["no rules let containers' traffic pass"] = iptables.ErrNotInstalled.Error()
	}
	if len(lasting) > 0 {
		settings.Report(map[string]string{})
	}
	if w.rules, err = firewall.New(settings); err != nil {
		return nil, err
	}
	w.tasks = append(w.tasks, w.rules)
	return w, nil
}

// set has the rules made for a network and this host's subnet in it. Only the
// agent calls it.
func (w *walls) set(c subnet.Config, own netip.Prefix, peers []rules.Peer) <-chan struct{} {
	o := w.options
	impossible := o.Firewall == wallAuto && c.NFTables && w.iptables && !w.marks
	if impossible && !w.told {
		klog.Warningf("the config key has EnableNFTables, and %v: rules are written by iptables", nftables.ErrUnsupported)
	}
	w.told = impossible
	return w.rules.Set(rules.Wanted{
		Network: c.Network, Subnet: own, Peers: peers, Marked: w.marks,
		Masquerade: o.IPMasq, Forward: o.ForwardRules,
		NFTables: !impossible && (o.Firewall == wallNFTables || o.Firewall == wallAuto && (c.NFTables || !w.iptables)),
	})
}

// reportRules logs what is wrong with the rules, once for each change.
func reportRules() func(map[string]string) {
	said := map[string]string{}
	return func(problems map[string]string) {
		for subject, text := range problems {
			if said[subject] != text {
				klog.Errorf("%s: %s", subject, text)
			}
		}
		for subject := range said {
			if problems[subject] == "" {
				klog.Infof("%s: all is well again", subject)
			}
		}
		said = problems
	}
}
