package daemon

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"

	"k8s.io/klog/v2"

	"flanneld/pkg/condition"
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
	options  Options
	inside   *introspection
	wrong    *condition.Set
	families map[inet.Family]*familyRules
	late     lateTasks
	tasks    []task

	mu sync.Mutex // of what the families' tasks tell
}

// newFirewall finds what this host has of the two. That neither can be used ends
// flanneld only where --ip-masq asks for one, as the forward rules are on by
// default. It runs no program: one that hangs keeps no host from routing. formers are
// the networks of the run before.
func newFirewall(
	o Options, formers []netip.Prefix, inside *introspection, wrong *condition.Set,
) (*firewallTasks, error) {
	f := &firewallTasks{options: o, inside: inside, wrong: wrong, families: map[inet.Family]*familyRules{}}
	f.late = make(lateTasks, 2*len(inet.Families()))
	for _, family := range inet.Families() {
		f.families[family] = &familyRules{family: family}
	}
	for _, p := range slices.Backward(formers) { // of several, the first
		if p.IsValid() {
			f.families[inet.Of(p.Addr())].former = p
		}
	}
	first := f.families[inet.IPv4]
	first.used = true
	if err := f.open(first); err != nil {
		return nil, err
	}
	if first.marks {
		f.lookForTables()
	}
	f.tasks = append(first.tasks, f.late)
	return f, nil
}

// lookForTables finds out which networks' tables of nftables earlier runs have left.
func (f *firewallTasks) lookForTables() {
	for _, r := range f.families {
		var err error
		if r.left, r.flannels, err = nftables.Left(r.family, tableOf(f.options.Etcd.Config().Dir())); err != nil {
			klog.V(1).ErrorS(err, "Cannot tell which rules an earlier run has left", "family", r.family)
		}
	}
}

// set has the rules made for a network and this host's subnet in it, which are of one
// family; the other one's stay. Only the agent calls it.
func (f *firewallTasks) set(c subnet.Config, own netip.Prefix, peers []rules.Peer) <-chan struct{} {
	r := f.families[inet.Of(c.Network.Addr())]
	f.use(r, true)
	r.network = c.Network
	o := f.options
	impossible := o.Firewall == FirewallAuto && c.NFTables && r.iptables && !r.marks
	if impossible && !r.keyIsIgnored {
		klog.ErrorS(nftables.ErrUnsupported,
			"The config key has EnableNFTables, but rules are written by "+iptables.Program(r.family))
	}
	r.keyIsIgnored = impossible
	if v := klog.V(1); v.Enabled() {
		v.InfoS("Asking for rules", "network", c.Network, "subnet", own, "peers", len(peers))
	}
	return r.rules.Set(rules.Wanted{
		Network: c.Network, Former: r.former, Subnet: own, Peers: peers, Marked: r.marks,
		Table:      tableOf(o.Etcd.Config().Dir()),
		Masquerade: o.IPMasq, PlainPorts: o.PlainPorts, Forward: o.ForwardRules,
		NFTables: !impossible && (o.Firewall == NFTables || o.Firewall == FirewallAuto && (c.NFTables || !r.iptables)),
	})
}

// unset says that a family is not in use, or not any more. It removes what this run or
// an earlier one has written for it, and does nothing where there cannot be anything.
// Only the agent calls it.
func (f *firewallTasks) unset(family inet.Family) {
	r := f.families[family]
	former := cmp.Or(r.former, r.left)
	for _, other := range f.families { // flannel 0.28's two tables belong together
		if other.flannels.IsValid() && other.flannels == other.network {
			former = cmp.Or(former, r.flannels)
		}
	}
	network := cmp.Or(r.network, former)
	if !network.IsValid() {
		f.disuse(r)
		return
	}
	f.use(r, false)
	r.rules.Remove(network, former, tableOf(f.options.Etcd.Config().Dir()))
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
