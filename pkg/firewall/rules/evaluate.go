package rules

// Verdict is what a rule set does to a packet.
type Verdict struct {
	Dropped bool
	Rule    *Rule  // that dropped it; nil: a chain's policy did
	Table   *Table // in which it was dropped
	Chain   string // the base chain in which it was dropped
	SNAT    *Rule  // that translates the source address
	Mark    uint32 // of the packet at the end of the path
}

// Evaluate sends a packet along a path. A rule that may match or not, as not all of
// its conditions are known, is skipped.
func (s Ruleset) Evaluate(p Packet, path Path) Verdict {
	var v Verdict
	family := p.Family()
	for _, h := range path {
		natDone := false // only the first chain that translates a connection counts
		for _, b := range s.baseChains(h, family) {
			if b.chain.NAT && natDone {
				continue
			}
			here := p.at(h)
			w := walk{table: b.table, packet: &here}
			end := w.chain(b.chain)
			p.Mark = here.Mark
			natDone = natDone || end == Translate || end == AcceptNoNAT
			if end == Translate && v.SNAT == nil && h == Postrouting {
				v.SNAT = w.by
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
	by     *Rule // the rule that ended it
	tried  int   // number of rules
	visits map[visit]result
}

// visit is everything that the result of a chain depends on. At each visit the packet
// is the same except for its mark.
type visit struct {
	chain *Chain
	mark  uint32
}

type result struct {
	end  Action
	by   *Rule
	mark uint32
}

// MaxTries bounds the number of rules that are evaluated for one packet in one table.
// After that no jumps are followed: where such a chain would lead is unknown. Only
// rule sets that use the mark as a counter need that many.
const MaxTries = 1 << 20

// jump is the result of a chain that other chains jump to. Each visit is evaluated
// once: otherwise the time would grow exponentially with chains that jump to the next
// one many times. A jump within a chain to itself, which the kernel refuses, does
// nothing.
func (w *walk) jump(c *Chain) Action {
	at := visit{c, w.packet.Mark}
	r, known := w.visits[at]
	if !known && w.tried < MaxTries {
		if w.visits == nil {
			w.visits = map[visit]result{}
		}
		w.visits[at] = result{mark: at.mark}
		r.end = w.chain(c)
		r.by, r.mark = w.by, w.packet.Mark
		w.visits[at] = r
	} else if !known {
		return Continue
	}
	w.by, w.packet.Mark = r.by, r.mark
	return r.end
}

// chain returns Accept, Drop, Translate or AcceptNoNAT if a rule ended the packet's
// way through the table, and otherwise Continue.
func (w *walk) chain(c *Chain) Action {
	for i := range c.Rules {
		w.tried++
		e := c.Rules[i].Body.Evaluate(w.packet)
		if e.Match != Yes {
			continue
		}
		switch e.Action {
		case Accept, Drop, Translate, AcceptNoNAT:
			w.by = &c.Rules[i]
			return e.Action
		case Return:
			return Continue
		case Jump, Goto:
			next := w.table.Chains[e.Chain]
			if next == nil {
				continue
			}
			if end := w.jump(next); end != Continue || e.Action == Goto {
				return end
			}
		}
	}
	return Continue
}
