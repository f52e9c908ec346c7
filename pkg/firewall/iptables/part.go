package iptables

import (
	"fmt"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
)

// home is a chain that holds rules of ours.
type home struct{ table, chain string }

func (h home) String() string { return h.table + " " + h.chain }

// part is what one chain shall hold of ours.
type part struct {
	home
	want []string // specs
	// former are unmarked specs that an earlier flannel wrote.
	former []string
	// obstacle is the rule that must stand behind ours, and slot how many of the
	// others stand in front of it; "": there is none, ours are appended.
	obstacle string
	slot     int
	// yields: ours stand behind all rules of others, up to the obstacle.
	yields bool
}

func isOurs(b *body) bool { return b.comment == ours }

// isOurs tells our own rules, and those of a flannel before us that ours replace.
func (q part) isOurs(b *body) bool {
	if isOurs(b) {
		return true
	}
	if b.comment != "" && !strings.HasPrefix(b.comment, ours+" ") {
		return false
	}
	plain := plainly(b.spec)
	return slices.ContainsFunc(q.former, func(s string) bool { return plainly(s) == plain })
}

// wrong says what has to be put right in the chain; "" if nothing.
func (q part) wrong(c *rules.Chain) string {
	var have []*body
	blocked, seen, overruled := false, false, ""
	for _, r := range c.Rules {
		b := r.Body.(*body)
		switch {
		case q.isOurs(b):
			have = append(have, b)
			blocked = blocked || seen
		case r.Text == q.obstacle:
			seen = true
		case q.yields && len(have) > 0 && !seen && overruled == "":
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
	case blocked && len(q.want) > 0:
		return fmt.Sprintf("rules stood behind %q", q.obstacle)
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
func (q part) script(c *rules.Chain) string {
	var s strings.Builder
	fmt.Fprintf(&s, "*%s\n", q.table)
	for _, r := range c.Rules { // by text, not number: whatever moved meanwhile, no other rule is hit
		if q.isOurs(r.Body.(*body)) {
			fmt.Fprintf(&s, "-D %s %s\n", q.chain, r.Text)
		}
	}
	for i, w := range q.want {
		if q.obstacle == "" {
			fmt.Fprintf(&s, "-A %s %s\n", q.chain, marked(w))
		} else {
			fmt.Fprintf(&s, "-I %s %d %s\n", q.chain, q.slot+i+1, marked(w))
		}
	}
	s.WriteString("COMMIT\n")
	return s.String()
}
