package iptables

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// Program is the program that has the rules for a family.
func Program(f inet.Family) string {
	if f == inet.IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

// hooks are the kernel's, by the names that iptables gives its chains.
var hooks = map[string]rules.Hook{
	"PREROUTING": rules.Prerouting, "INPUT": rules.Input, "FORWARD": rules.Forward,
	"OUTPUT": rules.Output, "POSTROUTING": rules.Postrouting,
}

// priority is the place of a table's base chains among those of a hook
// (linux/netfilter_ipv4.h); IPv6 has the same.
func priority(table, chain string) int {
	switch {
	case table == "raw":
		return -300
	case table == "mangle":
		return -150
	case table == "nat" && (chain == "PREROUTING" || chain == "OUTPUT"):
		return -100
	case table == "nat":
		return 100
	case table == "security":
		return 50
	}
	return 0
}

// Parse reads the output of iptables-save or ip6tables-save. program is the one that
// changes these rules, such as "iptables" or "ip6tables-legacy"; it says of which
// family they are. Lines of an unknown kind are ignored.
func Parse(program, text string) (out rules.Ruleset) {
	var table *rules.Table
	family := "ip"
	if strings.HasPrefix(program, Program(inet.IPv6)) {
		family = "ip6"
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = &rules.Table{Family: family, Name: line[1:], Program: program, Chains: map[string]*rules.Chain{}}
			out = append(out, table)
		case table == nil:
		case strings.HasPrefix(line, ":"):
			if w := strings.Fields(line[1:]); len(w) > 1 {
				c := &rules.Chain{Name: w[0], Drops: w[1] == "DROP", NAT: table.Name == "nat"}
				if w[1] != "-" {
					c.Hook, c.Priority = hooks[c.Name], priority(table.Name, c.Name)
				}
				table.Chains[c.Name] = c
			}
		case strings.HasPrefix(line, "-A "):
			name, rest, _ := strings.Cut(line[len("-A "):], " ")
			if c := table.Chains[name]; c != nil {
				b := parseRule(rest)
				c.Rules = append(c.Rules, rules.Rule{Table: table, Chain: name, Text: rest, Comment: b.comment, Body: b})
			}
		}
	}
	return out
}

// checkComplete returns an error for text that is not the whole output of a program
// such as iptables-save: if rules seemed to be missing, they would be written again and again.
func checkComplete(program, text string) error {
	tables, ended := 0, 0
	for line := range strings.Lines(text) {
		switch line = strings.TrimSpace(line); {
		case line == "" || line[0] == '#' || line[0] == ':' || strings.HasPrefix(line, "-A "):
		case line[0] == '*':
			tables++
		case line == "COMMIT":
			ended++
		default:
			// Without the line: a text that stays the same is logged once.
			return errors.New(program + " printed something that is not a rule")
		}
	}
	if tables != ended {
		return fmt.Errorf("%s printed %d tables, but the end of %d", program, tables, ended)
	}
	return nil
}

// body is what follows "-A CHAIN ".
type body struct {
	spec       string // without its comment
	comment    string
	conditions []condition
	target     string
	options    []string // the target's own
	jumps      bool     // to a chain, with -j rather than -g
}

// condition is one option that must match, such as ! -i docker0.
type condition struct {
	option string
	values []string
	not    bool
}

func parseRule(text string) *body {
	b := &body{}
	var kept []string
	match := "" // the extension that the next options belong to
	args := splitArgs(text)
	for not := false; len(args) > 0; {
		option := args[0]
		if option == "!" {
			not, args = true, args[1:]
			kept = append(kept, option)
			continue
		}
		n := 1 + valuesOf(args[1:])
		if option == "--comment" { // which may begin as an option does: "--- ssh ---"
			n = min(2, len(args))
		}
		values := args[1:n]
		switch {
		case option == "-j" || option == "-g":
			b.jumps = option == "-j"
			if len(args) > 1 {
				b.target, b.options = args[1], args[2:]
			}
			b.spec = strings.Join(append(kept, args...), " ")
			return b
		case option == "--comment":
			b.comment = strings.Join(values, " ")
		case option == "-m" && slices.Equal(values, []string{"comment"}):
		default:
			switch {
			case option == "-m":
				match = strings.Join(values, " ")
			case option == "--mark" && match == "connmark": // not the packet's
				b.conditions = append(b.conditions, condition{"connmark --mark", values, not})
			case option != "-c":
				b.conditions = append(b.conditions, condition{option, values, not})
			}
			kept = append(kept, args[:n]...)
		}
		not, args = false, args[n:]
	}
	b.spec = strings.Join(kept, " ")
	return b
}

// valuesOf is how many of the words belong to the option in front of them.
func valuesOf(args []string) int {
	if end := slices.IndexFunc(args, isOption); end >= 0 {
		return end
	}
	return len(args)
}

// isOption reports whether a word is an option, or the "!" before it, rather than a
// value. A value never begins with a dash and a letter.
func isOption(word string) bool {
	return word == "!" || len(word) > 1 && word[0] == '-' && (word[1] == '-' || word[1] >= 'A')
}
