package ipmasq

import (
	"net/netip"
	"strings"

	"flanneld/pkg/ipmasq/rulespec"
)

// found is a rule as iptables -S lists it.
type found struct {
	text    string // all that follows "-A CHAIN "
	spec    string // the same without its comment
	comment string
	target  string

	src, dst side
	iface    bool // has a condition on an interface
	special  bool // has a condition on anything but addresses and interfaces
}

// side is a condition on one address; the zero value matches every address.
type side struct {
	prefix netip.Prefix
	not    bool
}

// covers reports whether some address of p meets the condition.
func (s side) covers(p netip.Prefix) bool {
	switch {
	case !s.prefix.IsValid() || !p.IsValid():
		return true
	case s.not:
		return s.prefix.Bits() > p.Bits() || !s.prefix.Overlaps(p)
	}
	return s.prefix.Overlaps(p)
}

// parse reads what follows "-A CHAIN " in a line of iptables -S, in which all
// conditions come before the target.
func parse(text string) found {
	f := found{text: text}
	var kept []string
	args := rulespec.Words(text)
	not := false
	for len(args) > 0 {
		option, value := args[0], ""
		if len(args) > 1 {
			value = args[1]
		}
		taken := min(2, len(args))
		switch option {
		case "!":
			not = true
			kept, args = append(kept, option), args[1:]
			continue
		case "-s":
			f.setSide(&f.src, value, not)
		case "-d":
			f.setSide(&f.dst, value, not)
		case "-i", "-o":
			f.iface = true
		case "-m":
			if value == "comment" {
				args = args[2:]
				continue
			}
			f.special = true
		case "--comment":
			f.comment = value
			args = args[taken:]
			continue
		case "-j", "-g":
			f.target = value
			taken = len(args) // what follows are the target's own options
		default:
			f.special = true
			taken = 1
		}
		not = false
		kept, args = append(kept, args[:taken]...), args[taken:]
	}
	f.spec = strings.Join(kept, " ")
	return f
}

func (f *found) setSide(s *side, value string, not bool) {
	p, err := netip.ParsePrefix(value)
	if err != nil { // a mask with gaps: 10.0.0.1/255.0.0.255
		f.special = true
		return
	}
	*s = side{prefix: p, not: not}
}

// defeats reports whether f in front of a rule from network to network takes
// that rule's effect away by a sweeping condition. Rules for special cases are
// somebody's intention.
func (f found) defeats(network netip.Prefix) bool {
	if f.special {
		return false
	}
	switch f.target {
	case "REJECT", "DROP":
		return f.src == side{} && f.dst == side{} && !f.iface
	case "MASQUERADE", "SNAT", "NETMAP":
		return f.src.covers(network) && f.dst.covers(network)
	}
	return false
}
