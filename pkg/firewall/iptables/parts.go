package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
)

// part is something that rules of a table are made of and that a kernel may lack: a
// match with its options, a target, or a target with its options. Without text it is
// the table itself.
type part struct{ table, text string }

// partsOf are the parts of a rule in the notation of iptables-save, the simplest first.
func partsOf(table, rule string) []part {
	out, args := []part{{table, ""}}, splitArgs(rule)
	for i := 0; i < len(args); i++ {
		end := i + 1
		switch args[i] {
		case "-m":
			for end < len(args) && args[end] != "-m" && args[end] != "-j" {
				end++
			}
		case "-j":
			if !slices.Contains([]string{"ACCEPT", "RETURN"}, args[i+1]) { // which need no module
				out = append(out, part{table, strings.Join(args[i:i+2], " ")})
			}
			if end = len(args); end <= i+2 {
				return out
			}
		default:
			continue
		}
		out = append(out, part{table, strings.Join(args[i:end], " ")})
		i = end - 1
	}
	return out
}

// rule is the simplest rule that has the part.
func (p part) rule() string {
	if strings.HasPrefix(p.text, "-j ") {
		return p.text
	}
	return strings.TrimSpace(p.text + " -j RETURN")
}

// Parts that rules can do without.
var (
	commentPart = "-m comment --comment " + ourComment
	markPart    = "-m mark --mark " + peerMark
	randomPart  = "-j MASQUERADE --random-fully"
)

// answer is what this host's iptables has said to a part.
type answer struct {
	refused bool
	when    time.Time
	old     bool // it may be another one by now
}

// answerTime is how long an answer holds: a module may be loaded later.
const answerTime = 10 * time.Minute

// tryChain is where a part is tried. Nothing jumps there, so no packet sees it.
const tryChain = "FLANNELD-TRY"

// can is what rules may be made of on this host, as far as is known.
func (w *Writer) can() abilities {
	refuses := func(text string) bool {
		for p, a := range w.answers {
			if p.text == text && a.refused && !a.old {
				return true
			}
		}
		return false
	}
	has := func(table string) bool { a := w.answers[part{table, ""}]; return a.old || !a.refused }
	return abilities{
		comments: !refuses(commentPart), marks: !refuses(markPart),
		randomFully: w.randomFully && !refuses(randomPart),
		filter:      has("filter"), raw: has("raw"),
	}
}

// forget has answers that are no longer fresh asked for again, and reports whether there
// are any.
func (w *Writer) forget() (any bool) {
	for p, a := range w.answers {
		if !a.old && time.Since(a.when) > answerTime {
			a.old, any = true, true
			w.answers[p] = a
		}
	}
	return any
}

// unsure reports whether a chain must not be written before its parts were tried: where
// one was refused before, and where there is one that iptables-nft may write as another.
// Rules that work must not be replaced by such.
func (w *Writer) unsure(q chainPlan) bool {
	for _, spec := range q.want {
		for _, p := range partsOf(q.table, q.text(spec)) {
			if a, known := w.answers[p]; a.refused && a.old || p.text == markPart && (!known || a.old) {
				return true
			}
		}
	}
	return false
}

// learn tries all parts of a chain's rules that were not tried lately. It is called
// where rules could not be written or may not be, as what the program prints then is for
// people, and differs from release to release. another: that changes what rules are made
// of. The error is why a part could not be tried.
func (w *Writer) learn(ctx context.Context, q chainPlan) (another bool, err error) {
	before := w.can()
	for _, spec := range q.want {
		lacks := "" // a target without which there is none with options
		for _, p := range partsOf(q.table, q.text(spec)) {
			if lacks != "" && strings.HasPrefix(p.text, lacks) {
				continue
			}
			a, known := w.answers[p]
			if !known || a.old {
				refused, err := w.refuses(ctx, p)
				if w.takesNothing = errors.Is(err, errNoTable); err != nil {
					return w.can() != before, err // it says nothing about the part
				}
				switch { // only what has changed since the last trial
				case refused && !a.refused:
					klog.InfoS("This host's "+w.name()+" refuses a part of rules", "table", p.table, "part", p.text)
				case !refused && a.refused:
					klog.InfoS("This host's "+w.name()+" takes a part of rules that it refused",
						"table", p.table, "part", p.text)
				}
				if w.answers == nil {
					w.answers = map[part]answer{}
				}
				a = answer{refused: refused, when: time.Now()}
				w.answers[p] = a
			}
			if a.refused && p.text == "" {
				return w.can() != before, nil
			} else if a.refused {
				lacks = p.text
			}
		}
	}
	return w.can() != before, nil
}

// errNoTable: no table takes even the simplest rule, for which there are many reasons.
var errNoTable = errors.New("no table takes a rule")

// refuses reports whether a rule with that part is refused, or is another one once it is
// written. That of a table is refused if another table takes one.
func (w *Writer) refuses(ctx context.Context, p part) (bool, error) {
	takes, err := w.takes(ctx, p)
	if takes || err != nil || p.text != "" {
		return !takes, err
	}
	other := part{"filter", ""}
	if p == other {
		other.table = "nat"
	}
	if takes, err = w.takes(ctx, other); err == nil && !takes {
		err = errNoTable
	}
	return true, err
}

// takes writes the simplest rule with a part where no packet sees it, and reads it.
func (w *Writer) takes(ctx context.Context, p part) (bool, error) {
	rule, base := p.rule(), ""
	if p.table == natPostrouting.table { // in nf_tables it is this chain that a kernel may lack
		base = ":" + natPostrouting.chain + " - [0:0]\n"
	}
	err := w.program.restore(ctx,
		fmt.Sprintf("*%s\n%s:%s - [0:0]\n-A %s %s\nCOMMIT\n", p.table, base, tryChain, tryChain, rule))
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case errors.Is(err, errLocked), errors.Is(err, errCutOff), errors.Is(err, fs.ErrPermission),
		errors.As(err, &rules.NoAnswer{}):
		return false, err
	case err != nil:
		return false, nil
	}
	text, err := w.program.save(ctx)
	if err != nil {
		return false, err
	}
	set := Parse(w.name(), text)
	_, c := planner{set: set}.chain(chainID{p.table, tryChain})
	w.sweep(ctx, set)
	want := parseRule(rule)
	same := func(r rules.Rule) bool { b := r.Body.(*body); return b.spec == want.spec && b.comment == want.comment }
	if len(c.Rules) == 0 {
		return false, errSwept
	}
	return slices.ContainsFunc(c.Rules, same), nil
}

// errSwept: another daemon on this host has deleted the chain in which a part was tried.
var errSwept = errors.New("the rule that was tried is gone")

// sweep deletes the chain in which parts are tried, also where a daemon was killed in
// between. A failure is no trouble: the next pass does it.
func (w *Writer) sweep(ctx context.Context, set rules.Ruleset) {
	for _, t := range set {
		if t.Chains[tryChain] != nil {
			_ = w.program.restore(ctx, fmt.Sprintf("*%s\n-F %s\n-X %s\nCOMMIT\n", t.Name, tryChain, tryChain))
			delete(t.Chains, tryChain)
		}
	}
}

// lacking is the error for a chain whose rules need what this host refuses; err where
// that is not the reason.
func (w *Writer) lacking(q chainPlan, err error) error {
	for _, spec := range q.want {
		for _, p := range partsOf(q.table, q.text(spec)) {
			if a := w.answers[p]; a.refused && !a.old {
				text, fix := p.advice(w.family, w.inNFTables())
				return rules.Lacks{Text: text + "; or start flanneld with --firewall=nftables", Fix: fix, Err: err}
			}
		}
	}
	if w.takesNothing {
		modules := "ip_tables, iptable_filter and iptable_nat"
		if w.family == inet.IPv6 {
			modules = "ip6_tables, ip6table_filter and ip6table_nat"
		}
		if w.inNFTables() {
			modules = "nf_tables, nft_compat and nft_counter"
		}
		return fmt.Errorf("this host's %s takes no rule at all: use a kernel with %s, give flanneld "+
			"CAP_NET_ADMIN and CAP_NET_RAW, or start it with --firewall=nftables: %w", w.name(), modules, err)
	}
	return err
}

func (w *Writer) inNFTables() bool {
	c, is := w.program.(command)
	return is && c.inNFTables
}

// advice names the part, and what brings it about.
func (p part) advice(f inet.Family, inNFTables bool) (text, fix string) {
	what, module, option := "the table "+p.table, "iptable_"+p.table, "CONFIG_IP_NF_"+strings.ToUpper(p.table)
	if f == inet.IPv6 {
		module, option = "ip6table_"+p.table, "CONFIG_IP6_NF_"+strings.ToUpper(p.table)
	}
	load := []string{}
	words := splitArgs(p.text)
	switch {
	case len(words) < 2 && inNFTables:
		module, option = "nft_chain_"+p.table, "CONFIG_NFT_"+strings.ToUpper(p.table)
	case len(words) >= 2:
		what, module, option = `"`+p.text+`"`, "xt_"+words[1], "CONFIG_NETFILTER_XT_TARGET_"+strings.ToUpper(words[1])
		if words[0] == "-m" {
			option = "CONFIG_NETFILTER_XT_MATCH_" + strings.ToUpper(words[1])
		}
		if inNFTables {
			load, option = []string{"-a", "nft_compat"}, "CONFIG_NFT_COMPAT and "+option
		}
	}
	fix = printable.Command("modprobe", append(load, module)...)
	return fmt.Sprintf("this host's %s refuses %s: run %s, or use a kernel with %s", Program(f), what, fix, option), fix
}
