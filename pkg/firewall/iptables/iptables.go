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

	// Generation returns how often the kernel's rules have changed. Nil: that is
	// not known. It is for iptables-nft, whose rules are in nf_tables.
	Generation func() (uint32, error)
	// The generation since which the rules are as wanted, what was wanted, and the
	// result.
	unchangedSince uint32
	wanted         rules.Wanted
	result         rules.Result
	// The rules that were read last match no marks.
	unmarked bool
}

// program is what a Writer needs of iptables.
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

// Running is the path of the program that runs at this moment; "" if none does.
func (w *Writer) Running() string {
	if c, isCommand := w.program.(command); isCommand {
		return *c.running.Load()
	}
	return ""
}

// Apply compares and, where anything differs, writes, one chain after the other.
// Result.Rules are arguments of iptables. If nobody has changed the rules since they
// were as wanted, it reads nothing.
func (w *Writer) Apply(ctx context.Context, wanted rules.Wanted, _, look bool) (out rules.Result) {
	var before uint32
	if w.Generation != nil {
		before, _ = w.Generation() // on an error 0: then read the rules
	}
	if before != 0 && before == w.unchangedSince && wanted.SameDevices(w.wanted) {
		return w.result
	}
	out = w.apply(ctx, wanted, look)
	w.unchangedSince = 0
	changed := slices.ContainsFunc(out.Outcomes, func(o rules.Outcome) bool { return o.Err != nil || o.Drift != "" })
	if !changed && ctx.Err() == nil {
		w.unchangedSince, w.wanted, w.result = before, wanted, out
	}
	return out
}

func (w *Writer) apply(ctx context.Context, wanted rules.Wanted, look bool) (out rules.Result) {
	text, err := w.program.save(ctx)
	if err == nil {
		err = checkComplete(text)
	}
	if err != nil {
		return rules.Result{
			Outcomes: []rules.Outcome{{Subject: "iptables", Err: fmt.Errorf("cannot read iptables rules: %w", err)}},
			Marks:    wanted.Marked && !w.unmarked, // rules that are there may accept marked packets only
		}
	}
	p := planner{Parse("iptables", text), wanted, w.randomFully}
	parts, marks := p.plan()
	out.Marks, w.unmarked = marks, !marks
	for _, q := range parts {
		_, c := p.chain(q.chainID)
		o := rules.Outcome{Subject: "iptables " + q.String(), Drift: q.drift(c)}
		if o.Drift != "" && !look {
			o = w.write(ctx, o, q.script(c))
		}
		out.Outcomes = append(out.Outcomes, o)
		for _, s := range q.want {
			out.Rules = append(out.Rules, fmt.Sprintf("-t %s -A %s %s", q.table, q.chain, s))
		}
		if errors.Is(o.Err, errLocked) {
			return out // for the other chains iptables would wait just as long
		}
	}
	failed := func(o rules.Outcome) bool { return o.Err != nil }
	for _, h := range legacyChains { // once ours are in place, so that traffic has rules all the time
		if script := p.legacyScript(h); script != "" && !slices.ContainsFunc(out.Outcomes, failed) {
			o := rules.Outcome{Subject: "iptables " + h.String(), Drift: "rules of an earlier flannel were there"}
			if !look {
				o = w.write(ctx, o, script)
			}
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
		return rules.Outcome{Subject: o.Subject, Err: fmt.Errorf("cannot write iptables rules: %w", err)}
	}
	return o
}
