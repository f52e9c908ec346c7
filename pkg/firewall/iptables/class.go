package iptables

import (
	"net/netip"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// class is all packets from one range of addresses to another, by the given
// interfaces, or by any where empty. A single packet would not do as a sample: a rule
// for 172.7.21.2 is no rule for 172.7.21.3.
type class struct {
	src, dst netip.Prefix
	in, out  string
}

// extent is how many packets of a class match.
type extent int

const (
	none extent = iota
	some
	all
)

func (e extent) not() extent { return all - e }

// match returns how many of the packets match a rule's conditions, and the class
// of those that do. special: the rule has conditions on more than addresses and
// interfaces, so it is for a special case.
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

// search looks for the first rule of a chain that does something unwanted to
// packets of a class.
type search struct {
	table *rules.Table
	// unwanted reports whether a rule of chain is of that kind, for those packets of
	// the class that get to it. unconditional: no rule on the way to it had a condition.
	unwanted func(b *body, chain string, packets class, unconditional bool) bool
	// skip reports whether a chain is not searched.
	skip func(chain string) bool
	// allowExceptions: a chain in which special cases return is left as it is.
	allowExceptions bool
	// special: also a rule for a special case may be unwanted.
	special bool

	tried  int // number of rules, bounded by rules.MaxTries
	visits map[visit]fate
}

// visit is everything that the fate of packets in a chain depends on.
type visit struct {
	chain         *rules.Chain
	packets       class
	unconditional bool
}

// fate is what a rule does to the packets of a class.
type fate int

const (
	continues  fate = iota // some packets, or all, go on to the next rule
	returns                // all return to the calling chain
	ends                   // all are accepted, or dropped in a way that is not unwanted
	isUnwanted             // the rule does something unwanted to some
)

// first is the index of that rule among the given ones of a base chain; -1: there is
// none.
func (s search) first(chain string, of []rules.Rule, packets class) int {
	for i, f := range s.fates(chain, of, packets) {
		switch f {
		case isUnwanted:
			return i
		case returns, ends:
			return -1
		}
	}
	return -1
}

// fates are what each of these rules of a base chain does to packets that come so far.
func (s search) fates(chain string, of []rules.Rule, packets class) (out []fate) {
	s.visits = map[visit]fate{}
	for _, r := range of {
		out = append(out, s.rule(r.Body.(*body), chain, packets, true, true))
	}
	return out
}

// rule evaluates one rule. base: it is in the chain that the search began with.
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
	case b.target == "RETURN", b.target == "ACCEPT", special && !s.special:
		return continues
	}
	next := s.table.Chains[b.target]
	switch {
	case next == nil && s.unwanted(b, chain, narrowed, unconditional):
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
	return continues // packets of the class that did not go there, or returned
}

// jump is the fate of packets in a chain that other chains jump to. Each visit is
// evaluated once: otherwise the time would grow exponentially with chains that jump
// to the next one many times. After MaxTries a chain counts as empty.
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
