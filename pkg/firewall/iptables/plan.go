package iptables

import (
	"net/netip"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// planner plans for one rule set.
type planner struct {
	set    rules.Ruleset
	wanted rules.Wanted
	can    abilities
	// forwarded: rules in FORWARD were needed beside tables of nftables, and may be again.
	forwarded bool
}

// abilities are what rules of ours may be made of, and can do without.
type abilities struct {
	comments    bool // without, ours are known by their form
	marks       bool // without, peers are known by their devices
	randomFully bool // without, source ports stay where they can
	// Without one of these tables, nobody drops anything there either.
	filter, raw bool
}

// texts are specs in the notation of iptables-save, without the comment.
func (p planner) texts(all []rules.Spec) []string { return specs(all, p.can.randomFully) }

// plan is a plan for each chain that has rules of ours, or should have them. marks:
// some of the rules match packets from peers by their mark. It is a pure function.
//
// Where another program's drops have made rules of ours necessary, these stay without the
// drops: in docker's chain and in raw as long as they are there and there are peers, in FORWARD as
// long as forwarded says so. A dockerd that starts, or ufw that is loaded again, takes its own
// rules away and writes them again, and ours would come too late then.
func (p planner) plan() (parts []chainPlan, marks bool) {
	parts = []chainPlan{p.masquerade(), p.forward()}
	docker := p.dockerDrops() || p.stays(filterDockerUser)
	if docker {
		parts = append(parts, p.dockerUser())
	}
	if raw, drops := p.raw(); docker || drops || p.stays(rawPrerouting) {
		parts = append(parts, raw)
	}
	marks = len(parts) > 2 && p.wanted.Marked
	for _, t := range p.set {
		for _, c := range t.Chains {
			h := chainID{t.Name, c.Name}
			known := slices.ContainsFunc(parts, func(q chainPlan) bool { return q.chainID == h })
			if !known && p.hasOurs(h) {
				parts = append(parts, p.nothing(h))
			}
		}
	}
	slices.SortFunc(parts[2:], func(a, b chainPlan) int { return strings.Compare(a.String(), b.String()) })
	parts = slices.DeleteFunc(parts, func(q chainPlan) bool {
		return q.chain == "" || q.table == "filter" && !p.can.filter || q.table == "raw" && !p.can.raw
	})
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

// nothing plans for a chain that should have no rules of ours.
func (p planner) nothing(h chainID) chainPlan { return p.about(h, nil) }

// stays reports whether the rules that let packets of peers pass in a chain are to stay there.
func (p planner) stays(h chainID) bool { return p.wanted.Forward && p.hasOurs(h) }

// hasOurs reports whether a chain has rules of ours, be they wanted or not.
func (p planner) hasOurs(h chainID) bool {
	_, c := p.chain(h)
	return len(p.nothing(h).others) < len(c.Rules)
}

// about begins the plan of a chain that may have these rules of ours: it tells them
// from others'.
func (p planner) about(h chainID, specs []string) chainPlan {
	q := chainPlan{chainID: h, mine: p.mine, bare: append(p.bare(h), specs...), uncommented: !p.can.comments}
	_, c := p.chain(h)
	for _, r := range c.Rules {
		if !q.isOurs(r.Body.(*body)) {
			q.others = append(q.others, r)
		}
	}
	return q
}

var (
	natPostrouting   = chainID{"nat", "POSTROUTING"}
	filterForward    = chainID{"filter", "FORWARD"}
	filterDockerUser = chainID{"filter", dockerUserChain}
	rawPrerouting    = chainID{"raw", "PREROUTING"}
)

// masquerade plans two kinds of rules. Those that keep a packet's addresses stand in
// front of whatever translates traffic between containers, such as docker's
// "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE". Those that masquerade stand behind
// what translates the same packets to something else, such as an operator's SNAT, and
// in front of a rule that ends the chain for all packets.
func (p planner) masquerade() chainPlan {
	specs := p.wanted.MasqueradeSpecs()
	if p.wanted.NFTables || len(specs) == 0 {
		return p.nothing(natPostrouting)
	}
	q := p.about(natPostrouting, p.texts(specs))
	t, _ := p.chain(natPostrouting)
	translates := func(b *body, _ string, _ class, _ bool) bool { return b.action() == rules.Translate }
	between := class{src: p.wanted.Network, dst: p.wanted.Network}
	keep, masquerade := q.anywhereIn(), q.anywhereIn()
	if i := (search{table: t, unwanted: translates, allowExceptions: true}).first(q.chain, q.others, between); i >= 0 {
		keep.before = i
	}
	masquerade.after = p.decided(t, q)
	masquerade.before = max(masquerade.after, p.endOf(t, q))
	if masquerade.after <= keep.before { // all four together, as flannel has them
		keep.before = min(keep.before, masquerade.before)
		masquerade.before = keep.before
	} else {
		slices.SortStableFunc(specs, func(a, b rules.Spec) int { return keepsFirst(a) - keepsFirst(b) })
	}
	for _, s := range specs {
		at := masquerade
		if s.Target == rules.TargetNoNAT {
			at = keep
		}
		q.add(at, p.texts([]rules.Spec{s})...)
	}
	return q
}

func keepsFirst(s rules.Spec) int {
	if s.Target == rules.TargetNoNAT {
		return 0
	}
	return 1
}

// decided is how many rules of other programs there are up to the last one, in front of
// the end of the chain, that decides the address of packets which we masquerade: it
// translates some of them to another address than we would. Where another program
// masquerades as well, it does not matter who does.
func (p planner) decided(t *rules.Table, q chainPlan) int {
	network, own := p.wanted.Network, p.wanted.Subnet
	within := func(a, b netip.Prefix) bool { return a.Bits() >= b.Bits() && b.Overlaps(a) }
	otherwise := func(b *body) bool {
		return b.action() == rules.Translate && (b.target != "MASQUERADE" || slices.Contains(b.options, "--to-ports"))
	}
	leaving := search{table: t, special: true, unwanted: func(b *body, _ string, c class, _ bool) bool {
		return otherwise(b) && !within(c.dst, network)
	}}
	entering := search{table: t, special: true, unwanted: func(b *body, _ string, c class, _ bool) bool {
		return otherwise(b) && !within(c.src, network) && !within(c.dst, own)
	}}
	count := 0
	for _, fates := range [][]fate{
		leaving.fates(q.chain, q.others, class{src: network, dst: p.anywhere()}),
		entering.fates(q.chain, q.others, class{src: p.anywhere(), dst: network}),
	} {
		for i, f := range fates[:min(p.endOf(t, q)+1, len(fates))] {
			if f == isUnwanted {
				count = max(count, i+1)
			}
		}
	}
	return count
}

// endOf is how many rules of other programs precede the one that ends the chain for all
// packets.
func (p planner) endOf(t *rules.Table, q chainPlan) int {
	never := func(*body, string, class, bool) bool { return false }
	anywhere := p.anywhere()
	fates := search{table: t, unwanted: never}.fates(q.chain, q.others, class{src: anywhere, dst: anywhere})
	if i := slices.IndexFunc(fates, func(f fate) bool { return f == returns || f == ends }); i >= 0 {
		return i
	}
	return len(q.others)
}

// forward plans rules in front of a final REJECT or DROP of everything else, in the
// chain or behind jumps, as CentOS and ufw have it.
func (p planner) forward() chainPlan {
	specs := p.texts(p.wanted.ForwardSpecs())
	q := p.about(filterForward, specs)
	t, c := p.chain(filterForward)
	at, s := q.anywhereIn(), search{table: t, unwanted: dropsAll, skip: isDockerUser}
	network, anywhere := p.wanted.Network, p.anywhere()
	for _, packets := range []class{{src: network, dst: anywhere}, {src: anywhere, dst: network}} {
		if i := s.first(q.chain, q.others, packets); i >= 0 {
			at.before = min(at.before, i)
		}
	}
	if p.wanted.NFTables && at == q.anywhereIn() && !c.Drops && !p.forwarded {
		return p.nothing(filterForward) // iptables drops nothing, so the rules in nftables suffice
	}
	q.add(at, specs...)
	return q
}

// anywhere is all addresses of the family.
func (p planner) anywhere() netip.Prefix {
	return netip.PrefixFrom(p.wanted.Network.Addr(), 0).Masked()
}

func dropsAll(b *body, _ string, _ class, unconditional bool) bool { return unconditional && drops(b) }

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
	t, _ := p.chain(filterForward)
	q := p.about(filterForward, p.texts(p.wanted.ForwardSpecs()))
	docker := search{
		table: t,
		unwanted: func(b *body, chain string, _ class, _ bool) bool {
			return strings.HasPrefix(chain, "DOCKER") && drops(b)
		},
		skip: isDockerUser,
	}
	return p.wanted.Forward && slices.ContainsFunc(p.wanted.Devices(), func(d string) bool {
		return docker.first(q.chain, q.others, class{src: p.wanted.Network, dst: p.wanted.Subnet, in: d}) >= 0
	})
}

// dockerUser accepts packets between peers and containers in the chain that docker has
// for the operator. There the rules also work while dockerd restarts, which puts its
// chains in front of everything in FORWARD. The operator's rules stay in front of
// ours, also if they are appended later, except for the RETURN at the end that older
// dockerds write.
func (p planner) dockerUser() chainPlan {
	if t, _ := p.chain(filterDockerUser); t.Chains == nil {
		return chainPlan{}
	}
	specs := p.texts(append(p.wanted.FromPeers(), p.wanted.ToPeers()...))
	q := p.about(filterDockerUser, specs)
	at := q.anywhereIn()
	for i, r := range q.others {
		b := r.Body.(*body)
		if b.target == "RETURN" && len(b.conditions) == 0 {
			at.before = i
			break
		}
		if !isOurs(b) && !(q.uncommented && p.ofDaemon(q.chainID, b)) { // not another daemon's, which wants the same
			at.after = i + 1
		}
	}
	q.add(at, specs...)
	return q
}

// raw accepts packets that docker 28 drops in the raw table, in front of all other
// chains: each packet to a container's own address that does not come from its
// bridge. Ours accept only packets from a peer by the device that leads to it. drops:
// docker drops some already.
func (p planner) raw() (q chainPlan, drops bool) {
	specs := p.texts(p.wanted.FromPeers())
	q = p.about(rawPrerouting, specs)
	t, _ := p.chain(rawPrerouting)
	at, direct := q.anywhereIn(), search{table: t, unwanted: func(b *body, chain string, _ class, _ bool) bool {
		return chain == q.chain && b.target == "DROP" && b.isContainerDrop(p.wanted)
	}}
	if i := direct.first(q.chain, q.others, class{src: p.wanted.Network, dst: p.wanted.Subnet}); i >= 0 {
		at.before, drops = i, true
	}
	q.add(at, specs...)
	return q, drops
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
