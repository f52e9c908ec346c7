package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// Writer writes the rules of this host's iptables for one family.
type Writer struct {
	family      inet.Family
	found       *command // nil in tests
	program     program  // nil: its version is not known yet
	randomFully bool

	// Generation returns how often the kernel's rules have changed. Nil: that is
	// not known. It is used with iptables-nft only, whose rules are in nf_tables.
	Generation func() (uint32, error)
	// The generation since which the rules are as wanted, what was wanted, and the
	// result.
	unchangedSince uint32
	wanted         rules.Wanted
	result         rules.Result
	// The rules that were read last match no marks.
	unmarked bool
	// Rules in FORWARD were needed since this writer has had tables of nftables beside it.
	forwarded bool
	// What was reported as done, by chain, until its effect was read.
	unseen map[chainID]attempt
	// What was found out about parts of rules.
	answers map[part]answer
	// No table took even the simplest rule, when that was tried last.
	takesNothing bool
}

// program is what a Writer needs of iptables.
type program interface {
	save(context.Context) (string, error)
	restore(ctx context.Context, script string) error
	has(ctx context.Context, at chainID, rule string) bool
}

// New finds this machine's iptables for a family, also where PATH lacks sbin. It runs
// none: one that hangs is Apply's error. New's error wraps a NotInstalled where there is
// none.
func New(f inet.Family) (*Writer, error) {
	c, err := locate(f, systemDirs...)
	if err != nil {
		return nil, err
	}
	return &Writer{family: f, found: &c}, nil
}

// name is the program's.
func (w *Writer) name() string { return Program(w.family) }

// WaitsFor returns which program Apply waits for, and how long already; "": none. It
// may be called from any goroutine.
func (w *Writer) WaitsFor() (program string, lasted time.Duration) {
	if w.found == nil {
		return "", 0
	}
	return w.found.activity.waitsFor()
}

// ask learns what this version of iptables is able to do, until that has worked once.
func (w *Writer) ask(ctx context.Context) error {
	if w.program != nil {
		return nil
	}
	c, err := w.found.ask(ctx)
	if err != nil {
		return err
	}
	w.program, w.randomFully = c, c.HasRandomFully()
	if !c.inNFTables {
		w.Generation = nil
	}
	return nil
}

// Apply compares and, where anything differs, writes, one chain after the other.
// Result.Rules are arguments of iptables, or a command of ip6tables. If nobody has changed the rules since they
// were as wanted, it reads nothing.
func (w *Writer) Apply(ctx context.Context, wanted rules.Wanted, _ bool) (out rules.Result) {
	if err := w.ask(ctx); err != nil {
		return w.unread(wanted, err)
	}
	var before uint32
	if w.Generation != nil {
		before, _ = w.Generation() // on an error 0: then read the rules
	}
	if !w.forget() && before != 0 && before == w.unchangedSince && wanted.SameDevices(w.wanted) {
		return w.result
	}
	out = w.apply(ctx, wanted)
	w.unchangedSince = 0
	changed := slices.ContainsFunc(out.Outcomes, func(o rules.Outcome) bool { return o.Err != nil || o.Drift != "" })
	if !changed && ctx.Err() == nil {
		w.unchangedSince, w.wanted, w.result = before, wanted, out
	}
	return out
}

func (w *Writer) apply(ctx context.Context, wanted rules.Wanted) (out rules.Result) {
	text, err := w.program.save(ctx)
	if err == nil {
		err = checkComplete(w.name()+"-save", text)
	}
	if err != nil {
		return w.unread(wanted, err)
	}
	w.forwarded = w.forwarded && wanted.NFTables
	p := planner{set: Parse(w.name(), text), wanted: wanted, can: w.can(), forwarded: w.forwarded}
	p.wanted.Marked = wanted.Marked && p.can.marks
	w.sweep(ctx, p.set)
	parts, marks := p.plan()
	if q, doubtful := p.doubtful(parts); doubtful {
		if another, _ := w.learn(ctx, q); another { // on an error there is nothing to write yet
			return w.apply(ctx, wanted)
		}
	}
	out.Marks, w.unmarked = marks, !marks
	for _, q := range parts {
		if q.chainID == filterForward && len(q.want) > 0 && wanted.NFTables {
			w.forwarded = true
		}
		_, c := p.chain(q.chainID)
		o := rules.Outcome{Subject: w.name() + " " + q.String(), Drift: q.drift(c)}
		if o.Drift != "" {
			another, err := false, error(nil)
			if _, unseen := w.unseen[q.chainID]; unseen || w.unsure(q) {
				another, err = w.learn(ctx, q)
			}
			if err != nil && w.unsure(q) {
				o = rules.Outcome{Subject: o.Subject, Err: fmt.Errorf("cannot try what %s takes: %w", w.name(), err)}
			} else if !another {
				if o = w.place(ctx, o, q, c); o.Err != nil {
					another, _ = w.learn(ctx, q)
				}
			}
			if another { // another way to write them
				return w.apply(ctx, wanted).Behind(out)
			}
			if o.Err != nil {
				o.Err = w.lacking(q, o.Err)
			}
		} else {
			delete(w.unseen, q.chainID)
		}
		out.Outcomes = append(out.Outcomes, o)
		for _, s := range q.want {
			out.Rules = append(out.Rules, w.shown(fmt.Sprintf("-t %s -A %s %s", q.table, q.chain, s)))
		}
		if errors.Is(o.Err, errLocked) || errors.As(o.Err, &rules.NoAnswer{}) {
			return out // for the other chains iptables would wait just as long
		}
	}
	failed := func(o rules.Outcome) bool { return o.Err != nil }
	for _, h := range legacyChains { // once ours are in place, so that traffic has rules all the time
		if script := p.legacyScript(h); script != "" && !slices.ContainsFunc(out.Outcomes, failed) {
			o := rules.Outcome{Subject: w.name() + " " + h.String(), Drift: "rules of an earlier flannel were there"}
			out.Outcomes = append(out.Outcomes, w.write(ctx, o, script))
		}
	}
	return out
}

// shown is a rule for operators to read. Those of IPv4 have always been arguments alone.
func (w *Writer) shown(rule string) string {
	if w.family == inet.IPv6 {
		return w.name() + " " + rule
	}
	return rule
}

// unread is the result where the rules could not be read.
func (w *Writer) unread(wanted rules.Wanted, err error) rules.Result {
	return rules.Result{
		Outcomes: []rules.Outcome{{Subject: w.name(), Err: fmt.Errorf("cannot read %s rules: %w", w.name(), err)}},
		Marks:    wanted.Marked && !w.unmarked, // rules that are there may accept marked packets only
	}
}

// attempt is a write, and the chain as it was read before.
type attempt struct{ script, chain string }

// place writes a chain. Where the same was written before, and the rules that were
// read do not show it, that is an error, and rules which iptables itself finds are not
// written again: they would become ever more. Rules that are shown, and only stand in
// another place, are no such case once the chain is another one: somebody else was there.
func (w *Writer) place(ctx context.Context, o rules.Outcome, q chainPlan, c *rules.Chain) rules.Outcome {
	script, missing := q.script(c), q.missing(c) > 0
	now := attempt{script: script}
	for _, r := range c.Rules {
		now.chain += r.Text + "\n"
	}
	again := w.unseen[q.chainID] == now || missing && w.unseen[q.chainID].script == script
	if again && missing && w.program.has(ctx, q.chainID, q.text(q.want[0])) {
		o.Err = fmt.Errorf("%[1]s-save does not show rules that %[1]s -C finds: %[2]s", w.name(), o.Drift)
		return o
	}
	drift := o.Drift
	if o = w.write(ctx, o, script); o.Err != nil || o.Drift == "" {
		return o
	}
	if w.unseen == nil {
		w.unseen = map[chainID]attempt{}
	}
	if w.unseen[q.chainID] = now; again {
		o.Err = fmt.Errorf("%s-restore %w: %s", w.name(), rules.ErrNotThere, drift)
	}
	return o
}

func (w *Writer) write(ctx context.Context, o rules.Outcome, script string) rules.Outcome {
	if ctx.Err() != nil {
		return rules.Outcome{Subject: o.Subject}
	}
	if err := w.program.restore(ctx, script); err != nil {
		return rules.Outcome{Subject: o.Subject, Err: fmt.Errorf("cannot write %s rules: %w", w.name(), err)}
	}
	return o
}
