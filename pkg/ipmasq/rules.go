package ipmasq

import (
	"fmt"
	"net/netip"
	"strings"
)

// Rule is one iptables rule. Spec is in the order and notation in which
// iptables-save prints it.
type Rule struct {
	Table, Chain, Spec string
}

// String is the rule as arguments of iptables.
func (r Rule) String() string { return fmt.Sprintf("-t %s -A %s %s", r.Table, r.Chain, r.Spec) }

const randomly = " --random-fully"

// MasqRules give traffic that leaves the cluster's network, or enters it from
// a host, this host's address, and let containers see each other's own. own is
// this host's subnet. randomFully spreads source ports, which avoids a race
// between connections opened at once; it needs Linux 3.14 and iptables 1.6.2.
func MasqRules(network, own netip.Prefix, randomFully bool) []Rule {
	masquerade := "MASQUERADE"
	if randomFully {
		masquerade += randomly
	}
	n, s := network.Masked(), own.Masked()
	return rules("nat", "POSTROUTING",
		fmt.Sprintf("-s %v -d %v -j RETURN", n, n),
		fmt.Sprintf("-s %v ! -d 224.0.0.0/4 -j %s", n, masquerade),
		fmt.Sprintf("! -s %v -d %v -j RETURN", n, s), // containers see who calls from outside
		fmt.Sprintf("! -s %v -d %v -j %s", n, n, masquerade),
	)
}

// ForwardRules let traffic of the cluster's network pass this host.
func ForwardRules(network netip.Prefix) []Rule {
	n := network.Masked()
	return rules("filter", "FORWARD",
		fmt.Sprintf("-s %v -j ACCEPT", n),
		fmt.Sprintf("-d %v -j ACCEPT", n),
	)
}

func rules(table, chain string, specs ...string) []Rule {
	var out []Rule
	for _, spec := range specs {
		out = append(out, Rule{Table: table, Chain: chain, Spec: spec})
	}
	return out
}

// mark is the comment that makes a rule ours.
const mark = "flanneld"

// marked is the rule's text with the mark, as iptables prints and reads it.
func (r Rule) marked() string {
	conditions, target, _ := strings.Cut(r.Spec, " -j ")
	return conditions + " -m comment --comment " + mark + " -j " + target
}
