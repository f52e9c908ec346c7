package rules

import (
	"cmp"
	"slices"

	"flanneld/pkg/inet"
)

// Ruleset is all tables of a host, in the order in which they were created. Every
// packet passes through each of them that is for its family.
type Ruleset []*Table

// Table is chains by name.
type Table struct {
	Family string // "ip", "ip6"; "inet": both
	Name   string // "filter"
	// Program is the one that changes the table: "iptables", "ip6tables-legacy",
	// "nft".
	Program string
	Chains  map[string]*Chain
}

// sees reports whether packets of a family pass through the table.
func (t *Table) sees(f inet.Family) bool {
	switch t.Family {
	case "ip":
		return f == inet.IPv4
	case "ip6":
		return f == inet.IPv6
	}
	return true
}

// Chain is rules in order. A base chain sees the packets of its Hook.
type Chain struct {
	Name     string
	Hook     Hook // empty: other chains jump to it
	Priority int  // of chains with one hook, the lower comes first
	NAT      bool // translates addresses; sees a connection's first packet
	Drops    bool // its policy: a packet that no rule accepts is dropped
	Rules    []Rule
}

// Rule is one rule, and where it stands.
type Rule struct {
	Table   *Table
	Chain   string
	Text    string // in the notation of its program
	Comment string
	Handle  uint64 // for nft delete; 0: a rule of iptables, which is deleted by its text
	Body    Body
}

// Body is what a rule does.
type Body interface {
	// Evaluate applies the rule to a packet. It may set the packet's mark.
	Evaluate(*Packet) Effect
}

// Effect is what a rule does with one packet.
type Effect struct {
	Match  Truth // whether the rule matches
	Action Action
	Chain  string // of Jump and Goto
}

// Action is what happens to a packet next.
type Action int

// The actions. Translate accepts the packet with another source address, and
// AcceptNoNAT with its own, so that no later chain translates it.
const (
	Continue Action = iota
	Accept
	Drop
	Return
	Jump
	Goto
	Translate
	AcceptNoNAT
)

// baseChains are the base chains of a hook for a family, in the kernel's order: among
// those of the same priority, the one that was created last comes first.
func (s Ruleset) baseChains(h Hook, f inet.Family) (out []baseChain) {
	for i, t := range s {
		if !t.sees(f) {
			continue
		}
		for _, c := range t.Chains {
			if c.Hook == h {
				out = append(out, baseChain{i, t, c})
			}
		}
	}
	slices.SortFunc(out, func(a, b baseChain) int {
		return cmp.Or(cmp.Compare(a.chain.Priority, b.chain.Priority), cmp.Compare(b.order, a.order),
			cmp.Compare(a.chain.Name, b.chain.Name))
	})
	return out
}

type baseChain struct {
	order int // of its table
	table *Table
	chain *Chain
}
