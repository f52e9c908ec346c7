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

// chainPlan is the rules that one chain should have of ours, and their places.
type chainPlan struct {
	chainID
	want   []string // specs, in order
	places []place  // of each of them
	// others are the rules of other programs, in order.
	others []rules.Rule
	// mine tells a rule with our comment from another daemon's.
	mine func(*body) bool
	// bare are the specs of rules without a comment that are ours, or an earlier
	// flannel's.
	bare []string
	// uncommented: this host can write no comments.
	uncommented bool
}

// place is how many rules of other programs must be in front of a rule of ours, at
// least and at most.
type place struct{ after, before int }

// isOurs reports whether flanneld has written a rule, for whatever network.
func isOurs(b *body) bool { return b.comment == ourComment }

// mine reports whether this daemon has written a rule, or an earlier run of it: one
// for its network.
func (p planner) mine(b *body) bool {
	ours, others := refersTo(b, p.wanted.Concerns)
	return isOurs(b) && (ours || !others)
}

// isOurs reports whether a rule is our own, or one without our comment that ours
// replace.
func (q chainPlan) isOurs(b *body) bool {
	if q.mine(b) {
		return true
	}
	if b.comment != "" && !strings.HasPrefix(b.comment, ourComment+" ") {
		return false
	}
	plain := withoutRandomFully(b.spec)
	return slices.ContainsFunc(q.bare, func(s string) bool { return withoutRandomFully(s) == plain })
}

// text is a wanted rule as iptables prints and reads it.
func (q chainPlan) text(spec string) string {
	if q.uncommented {
		return spec
	}
	return commented(spec)
}

// is reports whether a rule is the wanted one.
func (q chainPlan) is(b *body, spec string) bool {
	if q.uncommented {
		return b.comment == "" && b.spec == spec
	}
	return q.mine(b) && b.spec == spec
}

// anywhereIn is any place among other programs' rules.
func (q chainPlan) anywhereIn() place { return place{0, len(q.others)} }

// add adds wanted rules with the same place.
func (q *chainPlan) add(at place, specs ...string) {
	for _, s := range specs {
		q.want, q.places = append(q.want, s), append(q.places, at)
	}
}

// drift is how the chain differs from the plan; "" if it does not.
func (q chainPlan) drift(c *rules.Chain) string {
	var have []*body
	others, misplaced := 0, ""
	for _, r := range c.Rules {
		b := r.Body.(*body)
		if !q.isOurs(b) {
			others++
			continue
		}
		have = append(have, b)
		i := slices.IndexFunc(q.want, func(s string) bool { return withoutRandomFully(s) == withoutRandomFully(b.spec) })
		switch {
		case i < 0 || misplaced != "":
		case others > q.places[i].before:
			misplaced = fmt.Sprintf("rules stood behind %q", q.others[q.places[i].before].Text)
		case others < q.places[i].after:
			misplaced = fmt.Sprintf("rules stood in front of %q", q.others[q.places[i].after-1].Text)
		}
	}
	switch missing := q.missing(c); {
	case missing > 0:
		return fmt.Sprintf("%d of %d rules missing", missing, len(q.want))
	case misplaced != "":
		return misplaced
	case len(have) > len(q.want):
		return fmt.Sprintf("%d rules too many", len(have)-len(q.want))
	case !slices.EqualFunc(have, q.want, q.is):
		return "rules out of order"
	}
	return ""
}

// missing is how many of the wanted rules are nowhere in the chain.
func (q chainPlan) missing(c *rules.Chain) (n int) {
	for _, s := range q.want {
		wanted := func(r rules.Rule) bool { b := r.Body.(*body); return q.isOurs(b) && q.is(b, s) }
		if !slices.ContainsFunc(c.Rules, wanted) {
			n++
		}
	}
	return n
}

// script is the input of iptables-restore --noflush that puts the wanted rules in
// place: it deletes all of ours, and then adds the wanted ones, each as late as it may
// come.
func (q chainPlan) script(c *rules.Chain) string {
	var s strings.Builder
	fmt.Fprintf(&s, "*%s\n", q.table)
	for _, r := range c.Rules { // by text, not number: rules may have moved meanwhile
		if q.isOurs(r.Body.(*body)) {
			fmt.Fprintf(&s, "-D %s %s\n", q.chain, r.Text)
		}
	}
	for i, w := range q.want {
		if at := q.places[i].before; at == len(q.others) {
			fmt.Fprintf(&s, "-A %s %s\n", q.chain, q.text(w))
		} else {
			fmt.Fprintf(&s, "-I %s %d %s\n", q.chain, at+i+1, q.text(w))
		}
	}
	s.WriteString("COMMIT\n")
	return s.String()
}
