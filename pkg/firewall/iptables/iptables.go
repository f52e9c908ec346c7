package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"flanneld/pkg/firewall/rules"
)

// Writer writes the rules of this host's iptables.
type Writer struct {
	program     program
	randomFully bool

	// Generation tells how often the kernel's rules have changed; nil: nobody
	// tells. It is for iptables-nft, whose rules are in nf_tables.
	Generation func() (uint32, error)
	// The generation in which everything was right, for what, and the result.
	unchangedSince uint32
	wanted         rules.Wanted
	result         rules.Result
	// The rules that were read last do without marks.
	unmarked bool
}

// kernel is what a Writer asks of iptables.
type program interface {
	save(context.Context) (string, error)
	restore(ctx context.Context, script string) error
}

// New finds this machine's iptables, also where PATH lacks sbin. Its error
// wraps ErrNotInstalled where there is none.
func New(ctx context.Context) (*Writer, error) {
	c, err := newCommand(ctx, systemDirs...)
	if err != nil {
		return nil, err
	}
	return &Writer{program: c, randomFully: c.HasRandomFully()}, nil
}

// InNFTables reports whether this iptables keeps its rules in nf_tables.
func (w *Writer) InNFTables() bool {
	c, isCommand := w.program.(command)
	return isCommand && c.inNFTables
}

// Put compares and, where anything differs, writes, one chain after the other.
// The rules that there shall be it returns as arguments of iptables. Where nobody
// has changed anything since all was right it does not look.
func (w *Writer) Apply(ctx context.Context, wanted rules.Wanted, _ bool) (out rules.Result) {
	var before uint32
	if w.Generation != nil {
		before, _ = w.Generation() // 0 where it is not known: then look
	}
	if before != 0 && before == w.unchangedSince && wanted.SameDevices(w.wanted) {
		return w.result
	}
	out = w.apply(ctx, wanted)
	w.unchangedSince = 0
	if !slices.ContainsFunc(out.Outcomes, func(o rules.Outcome) bool { return o.Err != nil || o.Drift != "" }) && ctx.Err() == nil {
		w.unchangedSince, w.wanted, w.result = before, wanted, out
	}
	return out
}

func (w *Writer) apply(ctx context.Context, wanted rules.Wanted) (out rules.Result) {
	text, err := w.program.save(ctx)
	if err == nil {
		err = checkComplete(text)
	}
	if err != nil {
		return rules.Result{
			Outcomes: []rules.Outcome{{Subject: "iptables", Err: fmt.Errorf("list the rules: %w", err)}},
			Marks:    wanted.Marked && !w.unmarked, // rules that stand there may let nothing pass without
		}
	}
	p := planner{Parse("iptables", text), wanted, w.randomFully}
	parts, marks := p.plan()
	out.Marks, w.unmarked = marks, !marks
	for _, q := range parts {
		_, c := p.chain(q.chainID)
		o := rules.Outcome{Subject: "iptables " + q.String(), Drift: q.drift(c)}
		if o.Drift != "" {
			o = w.write(ctx, o, q.script(c))
		}
		out.Outcomes = append(out.Outcomes, o)
		for _, s := range q.want {
			out.Rules = append(out.Rules, fmt.Sprintf("-t %s -A %s %s", q.table, q.chain, s))
		}
		if errors.Is(o.Err, errLocked) {
			return out // the other chains would only wait as long again
		}
	}
	for _, h := range legacyChains { // after ours are there, so that nothing is missing between
		if script := p.legacyScript(h); script != "" && !slices.ContainsFunc(out.Outcomes, func(o rules.Outcome) bool { return o.Err != nil }) {
			o := rules.Outcome{Subject: "iptables " + h.String(), Drift: "an earlier flannel's rules stood there"}
			o = w.write(ctx, o, script)
			out.Outcomes = append(out.Outcomes, o)
		}
	}
	return out
}

func (w *Writer) write(ctx context.Context, o rules.Outcome, script string) rules.Outcome {
	if ctx.Err() != nil {
		return rules.Outcome{Subject: o.Subject}
	}
	if err := w.program.restore(ctx, script); err != nil {
		return rules.Outcome{Subject: o.Subject, Err: fmt.Errorf("write the rules: %w", err)}
	}
	return o
}
