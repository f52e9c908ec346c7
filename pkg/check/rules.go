package check

import (
	"slices"
	"strings"

	"flanneld/pkg/ipmasq/rulespec"
)

// Firewall is one flavour of iptables, of which a host may have two; every
// packet passes both.
type Firewall struct {
	Command string // by which it is changed: "iptables", "iptables-legacy"
	Tables  map[string]Table
}

// Table is chains by name.
type Table map[string]*Chain

// Chain is rules in order, and for a builtin one what happens at its end.
type Chain struct {
	Policy string // "ACCEPT", "DROP"; "-" for others' chains
	Rules  []Rule
}

// Rule is one rule as iptables-save prints it.
type Rule struct {
	Table, Chain string
	Text         string // all that follows "-A CHAIN "
	conditions   []condition
	target       string
	jumps        bool // to a chain, with -j rather than -g
}

// condition is one option that must hold, such as ! -i docker0.
type condition struct {
	option string
	values []string
	not    bool
}

// Remove is the command that takes the rule away.
func (r Rule) Remove(command string) string {
	table := ""
	if r.Table != "filter" {
		table = "-t " + r.Table + " "
	}
	return command + " " + table + "-D " + r.Chain + " " + r.Text
}

func (r Rule) String() string {
	if r.Table == "filter" {
		return "-A " + r.Chain + " " + r.Text
	}
	return "-t " + r.Table + " -A " + r.Chain + " " + r.Text
}

// ParseRules reads what iptables-save prints. Lines that it does not know are
// left out.
func ParseRules(command, text string) Firewall {
	f := Firewall{Command: command, Tables: map[string]Table{}}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
			f.Tables[table] = Table{}
		case strings.HasPrefix(line, ":") && f.Tables[table] != nil:
			if words := strings.Fields(line[1:]); len(words) > 1 {
				f.Tables[table][words[0]] = &Chain{Policy: words[1]}
			}
		case strings.HasPrefix(line, "-A "):
			name, rest, _ := strings.Cut(line[len("-A "):], " ")
			if chain := f.Tables[table][name]; chain != nil {
				chain.Rules = append(chain.Rules, parseRule(table, name, rest))
			}
		}
	}
	return f
}

func parseRule(table, chain, text string) Rule {
	r := Rule{Table: table, Chain: chain, Text: text}
	words := rulespec.Words(text)
	not := false
	for i := 0; i < len(words); i++ {
		option := words[i]
		if option == "!" {
			not = true
			continue
		}
		values := words[i+1:]
		if end := slices.IndexFunc(values, isOption); end >= 0 {
			values = values[:end]
		}
		i += len(values)
		switch option {
		case "-j", "-g":
			if len(values) > 0 {
				r.target, r.jumps = values[0], option == "-j"
			}
			return r // what follows are the target's own options
		case "-m", "--comment", "-c":
		default:
			r.conditions = append(r.conditions, condition{option, values, not})
		}
		not = false
	}
	return r
}

// isOption tells an option, or the "!" before it, from a value. A value never
// begins with a dash and a letter.
func isOption(word string) bool {
	return word == "!" || len(word) > 1 && word[0] == '-' && (word[1] == '-' || word[1] >= 'A')
}
