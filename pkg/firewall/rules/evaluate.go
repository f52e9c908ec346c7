package rules

// Verdict is what becomes of a packet.
type Verdict struct {
	Dropped bool
	Rule    *Rule  // by which; nil: by a chain's policy
	Table   *Table // in which
	Chain   string // the base chain
	SNAT    *Rule  // that gives the packet another source address
	Mark    uint32 // of the packet in the end
}

// Pass sends a packet along a path. A rule whose conditions are not all known is
// passed over.
func (s Ruleset) Evaluate(p Packet, path Path) Verdict {
	var v Verdict
	for _, h := range path {
		natDone := false // which address the connection has: the first chain that translates is the last
		for _, b := range s.baseChains(h) {
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
	by     *Rule // that ended it
	tried  int   // rules
	visits map[visit]result
}

// visit is all that decides what a chain does with the packet: the packet is the
// same at each visit but for its mark.
type visit struct {
	chain *Chain
	mark  uint32
}

type result struct {
	end  Action
	by   *Rule
	mark uint32
}

// MaxTries is how many rules are tried in one table; after that no jump is followed
// any more. It bounds rule sets that count in the packet's mark, which may need as
// many visits as there are marks.
const MaxTries = 1 << 20

// jump is what chain returns for a chain that others jump to. Each visit is made
// once: chains that jump to one chain many times would otherwise multiply. A chain
// that jumps to itself, which the kernel refuses, does nothing there.
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

// chain returns Accept, Drop, Translate or Settle where a rule has ended the packet's
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
