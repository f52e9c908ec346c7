package iptables

import (
	"fmt"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// chainID names a chain that has rules of ours.
type chainID struct{ table, chain string }

func (h chainID) String() string { return h.table + " " + h.chain }

// chainPlan is the rules that one chain should have of ours, and their place.
type chainPlan struct {
	chainID
	want []string // specs
	// mine tells a rule with our comment from another daemon's.
	mine func(*body) bool
	// legacy are specs that an earlier flannel wrote, without our comment.
	legacy []string
	// before is the rule that ours must precede, and position the number of other
	// programs' rules in front of it; "": there is none, ours are appended.
	before   string
	position int
	// afterOthers: ours follow all rules of other programs, up to before.
	afterOthers bool
}

// isOurs reports whether flanneld has written a rule, for whatever network.
func isOurs(b *body) bool { return b.comment == ourComment }

// mine reports whether this daemon has written a rule, or an earlier run of it: one
// for its network.
func (p planner) mine(b *body) bool {
	ours, others := refersTo(b, p.wanted.Concerns)
	return isOurs(b) && (ours || !others)
}

// isOurs reports whether a rule is our own, or one of an earlier flannel that ours
// replace.
func (q chainPlan) isOurs(b *body) bool {
	if q.mine(b) {
		return true
	}
	if b.comment != "" && !strings.HasPrefix(b.comment, ourComment+" ") {
		return false
	}
	plain := withoutRandomFully(b.spec)
	return slices.ContainsFunc(q.legacy, func(s string) bool { return withoutRandomFully(s) == plain })
}

// drift is how the chain differs from the plan; "" if it does not.
func (q chainPlan) drift(c *rules.Chain) string {
	var have []*body
	behind, seen, overruled := false, false, ""
	for _, r := range c.Rules {
		b := r.Body.(*body)
		switch {
		case q.isOurs(b):
			have = append(have, b)
			behind = behind || seen
		case r.Text == q.before:
			seen = true
		case q.afterOthers && len(have) > 0 && !seen && overruled == "" && !isOurs(b):
			overruled = r.Text
		}
	}
	same := func(b *body, s string) bool { return q.mine(b) && b.spec == s }
	missing := 0
	for _, s := range q.want {
		if !slices.ContainsFunc(have, func(b *body) bool { return same(b, s) }) {
			missing++
		}
	}
	switch {
	case missing > 0:
		return fmt.Sprintf("%d of %d rules missing", missing, len(q.want))
	case behind && len(q.want) > 0:
		return fmt.Sprintf("rules stood behind %q", q.before)
	case overruled != "" && len(q.want) > 0:
		return fmt.Sprintf("rules stood in front of %q", overruled)
	case len(have) > len(q.want):
		return fmt.Sprintf("%d rules too many", len(have)-len(q.want))
	case !slices.EqualFunc(have, q.want, same):
		return "rules out of order"
	}
	return ""
}

// script is the input of iptables-restore --noflush that puts the wanted rules in
// place: it deletes all of ours, and then adds the wanted ones.
func (q chainPlan) script(c *rules.Chain) string {
	var s strings.Builder
	fmt.Fprintf(&s, "*%s\n", q.table)
	for _, r := range c.Rules { // by text, not number: rules may have moved meanwhile
		if q.isOurs(r.Body.(*body)) {
			fmt.Fprintf(&s, "-D %s %s\n", q.chain, r.Text)
		}
	}
	for i, w := range q.want {
		if q.before == "" {
			fmt.Fprintf(&s, "-A %s %s\n", q.chain, commented(w))
		} else {
			fmt.Fprintf(&s, "-I %s %d %s\n", q.chain, q.position+i+1, commented(w))
		}
	}
	s.WriteString("COMMIT\n")
	return s.String()
}
