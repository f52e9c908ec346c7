package iptables

import (
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// planner plans for one rule set.
type planner struct {
	set         rules.Ruleset
	wanted      rules.Wanted
	randomFully bool
}

// plan is a plan for each chain that has rules of ours, or should have them. marks:
// some of the rules match packets from peers by their mark. It is a pure function.
func (p planner) plan() (parts []chainPlan, marks bool) {
	parts = []chainPlan{p.masquerade(), p.forward()}
	raw := p.raw()
	if p.dockerDrops() {
		parts = append(parts, p.dockerUser(), raw)
	} else if raw.before != "" {
		parts = append(parts, raw)
	}
	marks = len(parts) > 2 && p.wanted.Marked
	for _, t := range p.set {
		for _, c := range t.Chains {
			h := chainID{t.Name, c.Name}
			known := slices.ContainsFunc(parts, func(q chainPlan) bool { return q.chainID == h })
			if !known && slices.ContainsFunc(c.Rules, func(r rules.Rule) bool { return p.mine(r.Body.(*body)) }) {
				parts = append(parts, chainPlan{mine: p.mine, chainID: h})
			}
		}
	}
	parts = slices.DeleteFunc(parts, func(q chainPlan) bool { return q.chain == "" })
	slices.SortFunc(parts[2:], func(a, b chainPlan) int { return strings.Compare(a.String(), b.String()) })
	return parts, marks
}

// chain is a chain of the rule set; an empty one if it does not exist: tables of
// iptables-legacy exist only once somebody uses them.
func (p planner) chain(h chainID) (*rules.Table, *rules.Chain) {
	for _, t := range p.set {
		if t.Name == h.table && t.Chains[h.chain] != nil {
			return t, t.Chains[h.chain]
		}
	}
	return &rules.Table{Name: h.table}, &rules.Chain{Name: h.chain}
}

// masquerade plans rules in front of those that translate traffic between
// containers, such as docker's "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE".
func (p planner) masquerade() chainPlan {
	q := chainPlan{mine: p.mine, chainID: chainID{"nat", "POSTROUTING"}}
	all := p.wanted
	all.Masquerade = true
	q.legacy = p.legacyMasquerade(q.chainID, specs(all.MasqueradeSpecs(), false))
	if p.wanted.NFTables || !p.wanted.Masquerade {
		return q
	}
	q.want = specs(p.wanted.MasqueradeSpecs(), p.randomFully)
	q.legacy = append(q.legacy, q.want...)
	translates := func(b *body, _ string, _ bool) bool { return b.action() == rules.Translate }
	between := class{src: p.wanted.Network, dst: p.wanted.Network}
	p.findPosition(&q, search{unwanted: translates, allowExceptions: true}, between)
	return q
}

// forward plans rules in front of a final REJECT or DROP of everything else, in the
// chain or behind jumps, as CentOS and ufw have it.
func (p planner) forward() chainPlan {
	q := chainPlan{mine: p.mine, chainID: chainID{"filter", "FORWARD"}}
	q.want = specs(p.wanted.ForwardSpecs(), p.randomFully)
	q.legacy = q.want
	p.findPosition(&q, search{unwanted: dropsAll, skip: isDockerUser},
		class{src: p.wanted.Network, dst: anywhere}, class{src: anywhere, dst: p.wanted.Network})
	if _, c := p.chain(q.chainID); p.wanted.NFTables && q.before == "" && !c.Drops {
		return chainPlan{mine: p.mine, chainID: q.chainID} // iptables drops nothing, so the rules in nftables suffice
	}
	return q
}

var anywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

func dropsAll(b *body, _ string, unconditional bool) bool { return unconditional && drops(b) }

func drops(b *body) bool { return b.action() == rules.Drop }

// dockerUserChain is for the operator: dockerd jumps to it first and never changes
// it.
const dockerUserChain = "DOCKER-USER"

// isDockerUser reports whether a chain is that one, whose verdicts we do not
// override.
func isDockerUser(chain string) bool { return chain == dockerUserChain }

// dockerDrops reports whether a chain of docker drops packets from peers to
// containers, as with docker 28 and later.
func (p planner) dockerDrops() bool {
	t, c := p.chain(chainID{"filter", "FORWARD"})
	docker := search{
		table:    t,
		unwanted: func(b *body, chain string, _ bool) bool { return strings.HasPrefix(chain, "DOCKER") && drops(b) },
		skip:     isDockerUser,
	}
	return p.wanted.Forward && slices.ContainsFunc(p.wanted.Devices(), func(d string) bool {
		i, _ := docker.first(c, class{src: p.wanted.Network, dst: p.wanted.Subnet, in: d}, p.mine)
		return i >= 0
	})
}

// dockerUser accepts packets between peers and containers in the chain that docker has
// for the operator. There the rules also work while dockerd restarts, which puts its
// chains in front of everything in FORWARD. The operator's rules stay in front of
// ours, also if they are appended later, except for the RETURN at the end that older
// dockerds write.
func (p planner) dockerUser() chainPlan {
	q := chainPlan{mine: p.mine, chainID: chainID{"filter", dockerUserChain}, afterOthers: true}
	t, c := p.chain(q.chainID)
	if t.Chains == nil {
		return chainPlan{}
	}
	q.want = specs(append(p.wanted.FromPeers(), p.wanted.ToPeers()...), p.randomFully)
	others := 0
	for _, r := range c.Rules {
		b := r.Body.(*body)
		if p.mine(b) {
			continue
		}
		if b.target == "RETURN" && len(b.conditions) == 0 {
			q.before, q.position = r.Text, others
			break
		}
		others++
	}
	return q
}

// raw accepts packets that docker 28 drops in the raw table, in front of all other
// chains: each packet to a container's own address that does not come from its
// bridge. Ours accept only packets from a peer by the device that leads to it.
func (p planner) raw() chainPlan {
	q := chainPlan{mine: p.mine, chainID: chainID{"raw", "PREROUTING"}, want: specs(p.wanted.FromPeers(), p.randomFully)}
	direct := func(b *body, chain string, _ bool) bool {
		return chain == q.chain && b.target == "DROP" && b.isContainerDrop(p.wanted)
	}
	p.findPosition(&q, search{unwanted: direct}, class{src: p.wanted.Network, dst: p.wanted.Subnet})
	return q
}

// isContainerDrop reports whether a rule has the conditions of docker's rule for one
// container: its address, and any interface except its bridge.
func (b *body) isContainerDrop(w rules.Wanted) bool {
	if len(b.conditions) != 2 {
		return false
	}
	dst, in := b.conditions[0], b.conditions[1]
	_, narrowed, _ := class{src: w.Network, dst: w.Subnet}.match(b)
	return dst.option == "-d" && !dst.not && narrowed.dst.IsSingleIP() && in.option == "-i" && in.not
}

// findPosition finds the rule that a chain plan's rules must precede: the first one
// that is unwanted for any of the classes.
func (p planner) findPosition(q *chainPlan, s search, packets ...class) {
	t, c := p.chain(q.chainID)
	s.table = t
	for _, one := range packets {
		if i, text := s.first(c, one, q.isOurs); i >= 0 && (q.before == "" || i < q.position) {
			q.before, q.position = text, i
		}
	}
}
