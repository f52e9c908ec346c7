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
	kernel      kernel
	randomFully bool
}

// kernel is what a Writer asks of iptables.
type kernel interface {
	save(context.Context) (string, error)
	restore(ctx context.Context, script string) error
}

// New finds this machine's iptables, also where PATH lacks sbin. Its error
// wraps ErrNotInstalled where there is none.
func New() (*Writer, error) {
	c, err := newCommand("/usr/sbin", "/sbin", "/usr/local/sbin")
	if err != nil {
		return nil, err
	}
	return &Writer{c, c.HasRandomFully()}, nil
}

// Put compares and, where anything differs, writes, one chain after the other.
// The rules that there shall be it returns as arguments of iptables.
func (w *Writer) Put(ctx context.Context, wanted rules.Wanted, _ bool) (out rules.Result) {
	text, err := w.kernel.save(ctx)
	if err != nil {
		return rules.Result{Outcomes: []rules.Outcome{{Subject: "iptables", Err: fmt.Errorf("list the rules: %w", err)}}}
	}
	p := planner{Parse("iptables", text), wanted, w.randomFully}
	parts, marks := p.plan()
	out.Marks = marks
	for _, q := range parts {
		_, c := p.chain(q.home)
		o := rules.Outcome{Subject: "iptables " + q.String(), Wrong: q.wrong(c)}
		if o.Wrong != "" {
			o = w.write(ctx, o, q.script(c))
		}
		out.Outcomes = append(out.Outcomes, o)
		for _, s := range q.want {
			out.Kept = append(out.Kept, fmt.Sprintf("-t %s -A %s %s", q.table, q.chain, s))
		}
		if errors.Is(o.Err, errLocked) {
			return out // the other chains would only wait as long again
		}
	}
	for _, h := range flannelsChains { // after ours are there, so that nothing is missing between
		if script := p.former(h); script != "" && !slices.ContainsFunc(out.Outcomes, func(o rules.Outcome) bool { return o.Err != nil }) {
			o := rules.Outcome{Subject: "iptables " + h.String(), Wrong: "an earlier flannel's rules stood there"}
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
	if err := w.kernel.restore(ctx, script); err != nil {
		return rules.Outcome{Subject: o.Subject, Err: fmt.Errorf("write the rules: %w", err)}
	}
	return o
}
