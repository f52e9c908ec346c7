package iptables

import (
	"net/netip"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// class is all packets from one range of addresses to another, by interfaces
// that are known or, where empty, may be any. Where one packet stands for many
// by chance, a class does not: a rule for 172.7.21.2 is no rule for 172.7.21.3.
type class struct {
	src, dst netip.Prefix
	in, out  string
}

// extent is how many of a class's packets meet a condition.
type extent int

const (
	none extent = iota
	some
	all
)

func (e extent) not() extent { return all - e }

// meet returns how many of the packets meet a rule's conditions, and the class
// of those that do. special says that it is about more than addresses and
// interfaces: then somebody had a case in mind.
func (c class) match(b *body) (e extent, narrowed class, special bool) {
	e = all
	for _, cond := range b.conditions {
		var one extent
		switch value := strings.Join(cond.values, " "); cond.option {
		case "-s":
			one, special = inRange(value, c.src, cond.not, &c.src, special)
		case "-d":
			one, special = inRange(value, c.dst, cond.not, &c.dst, special)
		case "-i":
			one = throughInterface(value, c.in, cond.not)
		case "-o":
			one = throughInterface(value, c.out, cond.not)
		default:
			one, special = some, true
		}
		e = min(e, one)
	}
	return e, c, special
}

func inRange(value string, have netip.Prefix, not bool, narrowed *netip.Prefix, special bool) (extent, bool) {
	p, err := netip.ParsePrefix(value)
	if err != nil { // a mask with gaps: 10.0.0.1/255.0.0.255
		return some, true
	}
	e := some
	switch {
	case !p.Overlaps(have):
		e = none
	case p.Bits() <= have.Bits():
		e = all
	}
	if not {
		return e.not(), special
	}
	if e == some {
		*narrowed = p
	}
	return e, special
}

func throughInterface(value, name string, not bool) extent {
	e := some
	switch {
	case name != "" && isInterface(value, name):
		e = all
	case name != "" || value == "lo":
		e = none
	}
	if not {
		return e.not()
	}
	return e
}

// search looks for the first rule of a chain by which packets of a class come
// to an end that we do not want.
type search struct {
	table *rules.Table
	// bad tells such an end. plain: the packets came there by no condition at
	// all. chain is where the rule stands.
	unwanted func(b *body, chain string, plain bool) bool
	// skip are chains that are not looked into.
	skip func(chain string) bool
	// trusts: a chain of another program that lets special cases go decides for
	// itself.
	allowExceptions bool

	tried  int // rules, up to rules.MaxTries
	visits map[visit]fate
}

// visit is all that decides what becomes of packets in a chain.
type visit struct {
	chain         *rules.Chain
	packets       class
	unconditional bool
}

// fate is what becomes of a class at a rule.
type fate int

const (
	continues  fate = iota // some packets, or all, to the next rule
	returns                // all, to the calling chain
	ends                   // all, and not badly
	isUnwanted             // some come to a bad end
)

// first is the index of that rule among those of a base chain that are not
// ours, and its text; -1: there is none.
func (s search) first(c *rules.Chain, packets class, ours func(*body) bool) (index int, text string) {
	index, s.visits = -1, map[visit]fate{}
	for _, r := range c.Rules {
		b := r.Body.(*body)
		if ours(b) {
			continue
		}
		index++
		switch s.rule(b, c.Name, packets, true, true) {
		case isUnwanted:
			return index, r.Text
		case returns, ends:
			return -1, ""
		}
	}
	return -1, ""
}

// rule judges one rule. base: it stands in the chain that the search began with.
func (s *search) rule(b *body, chain string, packets class, unconditional, base bool) fate {
	s.tried++
	e, narrowed, special := packets.match(b)
	unconditional = unconditional && len(b.conditions) == 0
	matchesAll := e == all && !special
	switch {
	case e == none:
		return continues
	case b.target == "RETURN" && (matchesAll || special && s.allowExceptions && !base):
		return returns
	case b.target == "ACCEPT" && matchesAll:
		return ends
	case b.target == "RETURN", b.target == "ACCEPT", special:
		return continues
	}
	next := s.table.Chains[b.target]
	switch {
	case next == nil && s.unwanted(b, chain, unconditional):
		return isUnwanted
	case next == nil && matchesAll && b.action() == rules.Drop:
		return ends
	case next == nil || s.skip != nil && s.skip(next.Name):
		return continues
	}
	switch f := s.jump(next, narrowed, unconditional); {
	case f == isUnwanted, f == ends && matchesAll:
		return f
	case f == continues && matchesAll && !b.jumps:
		return returns
	}
	return continues // others of the class did not come there, or are back
}

// jump is the fate of packets in a chain that others jump to. Each visit is made
// once: chains that jump to one chain many times would otherwise multiply. What it
// would take too many tries to find out counts as harmless.
func (s *search) jump(c *rules.Chain, packets class, unconditional bool) fate {
	at := visit{c, packets, unconditional}
	f, known := s.visits[at]
	if known || s.tried >= rules.MaxTries {
		return f
	}
	s.visits[at] = continues // where it jumps to itself, which the kernel refuses
	for _, r := range c.Rules {
		if f = s.rule(r.Body.(*body), c.Name, packets, unconditional, false); f != continues {
			break
		}
	}
	s.visits[at] = f
	return f
}
