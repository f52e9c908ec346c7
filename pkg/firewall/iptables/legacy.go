package iptables

import (
	"fmt"
	"net/netip"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// flannelsChains are those in which flannel 0.28 keeps its rules.
var legacyChains = []chainID{{"nat", "FLANNEL-POSTRTG"}, {"filter", "FLANNEL-FWD"}}

// former is the script that takes what flannel 0.28 wrote for our network out of
// a chain of its own, and the chain with it unless it also serves another
// network; "" where there is nothing.
func (p planner) legacyScript(h chainID) string {
	t, c := p.chain(h)
	var lines []string
	others := false
	for _, r := range c.Rules {
		switch ours, foreign := p.refersTo(r.Body.(*body)); {
		case ours:
			lines = append(lines, fmt.Sprintf("-D %s %s\n", h.chain, r.Text))
		case foreign:
			others = true
		}
	}
	if len(lines) == 0 {
		return ""
	}
	if !others {
		lines = append(jumpsTo(t, h.chain), "-F "+h.chain+"\n", "-X "+h.chain+"\n")
	}
	return "*" + h.table + "\n" + strings.Join(lines, "") + "COMMIT\n"
}

// names reports whether a rule is about addresses of our network, or of another.
func (p planner) refersTo(b *body) (ours, foreign bool) {
	for _, c := range b.conditions {
		if c.option != "-s" && c.option != "-d" {
			continue
		}
		prefix, err := netip.ParsePrefix(strings.Join(c.values, " "))
		switch {
		case err != nil || prefix.Addr().IsMulticast():
		case p.wanted.Network.Contains(prefix.Addr()) && prefix.Bits() >= p.wanted.Network.Bits():
			ours = true
		default:
			foreign = true
		}
	}
	return ours, foreign
}

// jumps are the lines that delete what leads to a chain.
func jumpsTo(t *rules.Table, to string) (out []string) {
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			if r.Body.(*body).target == to {
				out = append(out, fmt.Sprintf("-D %s %s\n", c.Name, r.Text))
			}
		}
	}
	return out
}
