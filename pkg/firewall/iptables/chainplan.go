package iptables

import (
	"fmt"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// home is a chain that holds rules of ours.
type chainID struct{ table, chain string }

func (h chainID) String() string { return h.table + " " + h.chain }

// part is what one chain shall hold of ours.
type chainPlan struct {
	chainID
	want []string // specs
	// former are unmarked specs that an earlier flannel wrote.
	legacy []string
	// obstacle is the rule that must stand behind ours, and slot how many of the
	// others stand in front of it; "": there is none, ours are appended.
	before   string
	position int
	// yields: ours stand behind all rules of others, up to the obstacle.
	afterOthers bool
}

func isOurs(b *body) bool { return b.comment == ourComment }

// isOurs tells our own rules, and those of a flannel before us that ours replace.
func (q chainPlan) isOurs(b *body) bool {
	if isOurs(b) {
		return true
	}
	if b.comment != "" && !strings.HasPrefix(b.comment, ourComment+" ") {
		return false
	}
	plain := withoutRandomFully(b.spec)
	return slices.ContainsFunc(q.legacy, func(s string) bool { return withoutRandomFully(s) == plain })
}

// wrong says what has to be put right in the chain; "" if nothing.
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
		case q.afterOthers && len(have) > 0 && !seen && overruled == "":
			overruled = r.Text
		}
	}
	same := func(b *body, s string) bool { return isOurs(b) && b.spec == s }
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

// script is what iptables-restore --noflush reads to put the wanted rules in
// place: all of ours away, then the wanted ones in front of the obstacle.
func (q chainPlan) script(c *rules.Chain) string {
	var s strings.Builder
	fmt.Fprintf(&s, "*%s\n", q.table)
	for _, r := range c.Rules { // by text, not number: whatever moved meanwhile, no other rule is hit
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
