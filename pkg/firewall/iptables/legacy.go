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

// bare are the specs of those rules of a chain that have no comment and the form of
// ours, for this daemon's networks and whatever subnet or device. In the two chains
// where such a rule may be an operator's own, they are ours if one of each kind is
// there; the forward rules only on a host where ours can have no comment.
func (p planner) bare(h chainID) (out []string) {
	whole := h == natPostrouting || h == filterForward
	if p.can.comments && h != natPostrouting {
		return nil
	}
	_, c := p.chain(h)
	for _, network := range []netip.Prefix{p.wanted.Network, p.wanted.Former} {
		var found []string
		kinds := map[int]bool{}
		of := 1
		for _, r := range c.Rules {
			b := r.Body.(*body)
			kind, all := kindOf(h, b, network.Masked())
			if b.comment == "" && kind >= 0 {
				found, kinds[kind], of = append(found, b.spec), true, all
			}
		}
		if !whole || len(kinds) == of {
			out = append(out, found...)
		}
	}
	return out
}

// doubtful is a plan for a rule with our comment, if there are rules without one that may
// be ours and that nobody wants: they are, on a host where ours can have none.
func (p planner) doubtful(parts []chainPlan) (chainPlan, bool) {
	bare := p
	bare.can.comments = false
	for _, h := range []chainID{filterForward, filterDockerUser, rawPrerouting} {
		wanted := slices.ContainsFunc(parts, func(q chainPlan) bool { return q.chainID == h && len(q.want) > 0 })
		if p.can.comments && !wanted && len(bare.bare(h)) > 0 {
			return chainPlan{chainID: h, want: []string{"-j RETURN"}}, true
		}
	}
	return chainPlan{}, false
}

// ofDaemon reports whether a rule without a comment has the form of a daemon's, for
// whatever network.
func (p planner) ofDaemon(h chainID, b *body) bool {
	s, _ := specOf(b)
	kind, _ := kindOf(h, b, s.Src.Prefix)
	other, _ := kindOf(h, b, s.Dst.Prefix)
	return b.comment == "" && (kind >= 0 || other >= 0)
}

// kindOf is which of a chain's rules of a daemon for a network a rule is, of how many;
// -1: none. The planner's own specs say so.
func kindOf(h chainID, b *body, network netip.Prefix) (kind, of int) {
	s, ok := specOf(b)
	if !ok || !network.IsValid() {
		return -1, 0
	}
	w := rules.Wanted{
		Network: network, Subnet: network, Masquerade: true, Forward: true, Marked: s.Marked,
		Peers: []rules.Peer{{Device: s.In + s.Out}},
	}
	for _, side := range []rules.Side{s.Src, s.Dst} {
		if side.Prefix.IsValid() && side.Prefix.Bits() > network.Bits() && network.Overlaps(side.Prefix) {
			w.Subnet = side.Prefix
		}
	}
	var all []rules.Spec
	switch h {
	case natPostrouting:
		all = w.MasqueradeSpecs()
	case filterForward:
		all = w.ForwardSpecs()
	case rawPrerouting:
		all = w.FromPeers()
	case filterDockerUser:
		all = append(w.FromPeers(), w.ToPeers()...)
	}
	return slices.Index(all, s), len(all)
}

// specOf is a rule as a spec of ours; false: it has a condition or a target that ours
// never have.
func specOf(b *body) (s rules.Spec, ok bool) {
	for target, name := range targets {
		if b.target == name && b.jumps && target != rules.TargetMasqueradePlain {
			s.Target, ok = target, true
		}
	}
	if slices.ContainsFunc(b.options, func(o string) bool { return o != "--random-fully" }) {
		return s, false
	}
	for _, c := range b.conditions {
		value := strings.Join(c.values, " ")
		switch {
		case c.option == "-s" || c.option == "-d":
			prefix, err := netip.ParsePrefix(value)
			side := &s.Src
			if c.option == "-d" {
				side = &s.Dst
			}
			*side, ok = rules.Side{Prefix: prefix, Not: c.not}, ok && err == nil
		case c.option == "-i" && !c.not:
			s.In = value
		case c.option == "-o" && !c.not:
			s.Out = value
		case c.option == "--mark" && !c.not && value == peerMark:
			s.Marked = true
		case c.option == "-m" && value == "mark":
		default:
			return s, false
		}
	}
	return s, ok
}
