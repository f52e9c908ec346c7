package ipmasq

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// home is a chain that holds rules of ours.
type home struct{ table, chain string }

func (h home) String() string { return h.table + " " + h.chain }

// survey is what a chain looks like beside the wanted rules.
type survey struct {
	ours   []found
	others int // rules of somebody else

	obstacle     string // the first of the others that must stand behind ours
	obstacleSlot int    // how many of the others stand in front of it
	blocked      bool   // it stands in front of a rule of ours
}

// look reads the lines of iptables -S.
func look(h home, lines []string, want []Rule) survey {
	var s survey
	for _, line := range lines {
		text, isRule := strings.CutPrefix(line, "-A "+h.chain+" ")
		if !isRule {
			continue // the chain's policy
		}
		f := parse(text)
		if isOurs(f, want) {
			s.ours = append(s.ours, f)
			s.blocked = s.blocked || s.obstacle != ""
			continue
		}
		if s.obstacle == "" && len(want) > 0 && f.defeats(networkOf(want)) {
			s.obstacle, s.obstacleSlot = text, s.others
		}
		s.others++
	}
	return s
}

// networkOf is the network that wanted rules start with.
func networkOf(want []Rule) netip.Prefix { return parse(want[0].Spec).src.prefix }

// isOurs tells our own rules, and those of a flannel before us that ours replace.
func isOurs(f found, want []Rule) bool {
	if f.comment == mark {
		return true
	}
	if f.comment != "" && !strings.HasPrefix(f.comment, mark+" ") {
		return false
	}
	plain := strings.TrimSuffix(f.spec, randomly)
	return slices.ContainsFunc(want, func(r Rule) bool { return strings.TrimSuffix(r.Spec, randomly) == plain })
}

// wrong says what has to be put right; "" if nothing.
func (s survey) wrong(want []Rule) string {
	same := func(f found, r Rule) bool { return f.comment == mark && f.spec == r.Spec }
	missing := 0
	for _, r := range want {
		if !slices.ContainsFunc(s.ours, func(f found) bool { return same(f, r) }) {
			missing++
		}
	}
	switch {
	case missing > 0:
		return fmt.Sprintf("%d of %d rules missing", missing, len(want))
	case s.blocked:
		return fmt.Sprintf("rules stood behind %q", s.obstacle)
	case len(s.ours) > len(want):
		return fmt.Sprintf("%d rules too many", len(s.ours)-len(want))
	case !slices.EqualFunc(s.ours, want, same):
		return "rules out of order"
	}
	return ""
}

// script is what iptables-restore --noflush reads to put the wanted rules in
// place: all of ours away, then the wanted ones in front of the obstacle.
func (s survey) script(h home, want []Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n", h.table)
	for _, f := range s.ours { // by text, not number: whatever moved meanwhile, no other rule is hit
		fmt.Fprintf(&b, "-D %s %s\n", h.chain, f.text)
	}
	for i, r := range want {
		if s.obstacle == "" {
			fmt.Fprintf(&b, "-A %s %s\n", h.chain, r.marked())
		} else {
			fmt.Fprintf(&b, "-I %s %d %s\n", h.chain, s.obstacleSlot+i+1, r.marked())
		}
	}
	b.WriteString("COMMIT\n")
	return b.String()
}
