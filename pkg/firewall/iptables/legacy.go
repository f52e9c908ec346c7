package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// legacyChains are the chains of flannel 0.28.
var legacyChains = []chainID{{"nat", "FLANNEL-POSTRTG"}, {"filter", "FLANNEL-FWD"}}

// legacyScript is the script that deletes the rules of flannel 0.28 for our network
// from one of its chains, and also the chain, unless it has rules for another
// network; "" if there are no such rules.
func (p planner) legacyScript(h chainID) string {
	t, c := p.chain(h)
	var lines []string
	others := false
	for _, r := range c.Rules {
		switch ours, foreign := refersTo(r.Body.(*body), p.partOfNetwork); {
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

// partOfNetwork reports whether addresses are all of our network.
func (p planner) partOfNetwork(a netip.Prefix) bool {
	return p.wanted.Network.Contains(a.Addr()) && a.Bits() >= p.wanted.Network.Bits()
}

// refersTo reports whether a rule is about addresses of ours, or of others.
func refersTo(b *body, of func(netip.Prefix) bool) (ours, foreign bool) {
	for _, c := range b.conditions {
		if c.option != "-s" && c.option != "-d" {
			continue
		}
		prefix, err := netip.ParsePrefix(strings.Join(c.values, " "))
		switch {
		case err != nil || prefix.Addr().IsMulticast():
		case of(prefix):
			ours = true
		default:
			foreign = true
		}
	}
	return ours, foreign
}

// jumpsTo are the lines that delete the jumps to a chain.
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

// legacyMasquerade is the four rules by which v0.11 masquerades, for whatever subnet
// the host had then; none if one of them is missing.
func (p planner) legacyMasquerade(h chainID, four []string) (out []string) {
	_, c := p.chain(h)
	own := "-d " + p.wanted.Subnet.Masked().String() + " "
	for _, s := range four {
		before, after, varies := strings.Cut(s, own)
		i := slices.IndexFunc(c.Rules, func(r rules.Rule) bool {
			b := r.Body.(*body)
			return b.comment == "" && (withoutRandomFully(b.spec) == s ||
				varies && strings.HasPrefix(b.spec, before+"-d ") && strings.HasSuffix(b.spec, after) && p.inNetwork(b))
		})
		if i < 0 {
			return nil
		}
		out = append(out, c.Rules[i].Body.(*body).spec)
	}
	return out
}

// inNetwork reports whether a rule's destination lies in the network.
func (p planner) inNetwork(b *body) bool {
	_, narrowed, special := class{src: p.wanted.Network, dst: p.wanted.Network}.match(b)
	return !special && narrowed.dst.Bits() > p.wanted.Network.Bits()
}
