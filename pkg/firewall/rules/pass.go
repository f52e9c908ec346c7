package rules

// Verdict is what becomes of a packet.
type Verdict struct {
	Dropped bool
	Rule    *Rule  // by which; nil: by a chain's policy
	Table   *Table // in which
	Chain   string // the base chain
	Hidden  *Rule  // that gives the packet another source address
	Mark    uint32 // of the packet in the end
}

// Pass sends a packet along a path. A rule whose conditions are not all known is
// passed over.
func (s Ruleset) Pass(p Packet, path Path) Verdict {
	var v Verdict
	for _, h := range path {
		settled := false // which address the connection has: the first chain that translates is the last
		for _, b := range s.base(h) {
			if b.chain.NAT && settled {
				continue
			}
			here := p.at(h)
			w := walk{table: b.table, packet: &here}
			end := w.chain(b.chain, 0)
			p.Mark = here.Mark
			settled = settled || end == Translate || end == Settle
			if end == Translate && v.Hidden == nil && h == Postrouting {
				v.Hidden = w.by
			}
			if end == Drop || end == Continue && b.chain.Drops {
				v.Dropped, v.Rule, v.Table, v.Chain = true, w.by, b.table, b.chain.Name
				return v
			}
		}
	}
	v.Mark = p.Mark
	return v
}

// walk is a packet's way through one table.
type walk struct {
	table  *Table
	packet *Packet
	by     *Rule // that ended it
}

// deepest bounds jumps, for rule sets that the kernel would not take.
const deepest = 100

// chain returns Accept, Drop, Translate or Settle where a rule has ended the packet's
// way through the table, and otherwise Continue.
func (w *walk) chain(c *Chain, depth int) Action {
	for i := range c.Rules {
		e := c.Rules[i].Body.Apply(w.packet)
		if e.Match != Yes {
			continue
		}
		switch e.Action {
		case Accept, Drop, Translate, Settle:
			w.by = &c.Rules[i]
			return e.Action
		case Return:
			return Continue
		case Jump, Goto:
			next := w.table.Chains[e.Chain]
			if next == nil || depth == deepest {
				continue
			}
			if end := w.chain(next, depth+1); end != Continue || e.Action == Goto {
				return end
			}
		}
	}
	return Continue
}
