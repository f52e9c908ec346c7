package iptables

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/printable"
)

// Apply implements rules.Body.
func (b *body) Evaluate(p *rules.Packet) rules.Effect {
	e := rules.Effect{Match: rules.Yes}
	for _, c := range b.conditions {
		t := c.holds(*p)
		if c.not {
			t = t.Not()
		}
		e.Match = min(e.Match, t)
	}
	e.Action = b.action()
	switch {
	case e.Action == rules.Jump, e.Action == rules.Goto:
		e.Chain = b.target
	case b.target == "MARK" && e.Match == rules.Yes:
		b.mark(p)
	}
	return e
}

func (b *body) action() rules.Action {
	switch b.target {
	case "ACCEPT":
		return rules.Accept
	case "DROP", "REJECT":
		return rules.Drop
	case "RETURN":
		return rules.Return
	case "MASQUERADE", "SNAT", "NETMAP":
		return rules.Translate
	case "", "MARK": // a rule that only counts, or marks
		return rules.Continue
	}
	// Another chain, or a target such as LOG, which is not in Table.Chains.
	if b.jumps {
		return rules.Jump
	}
	return rules.Goto
}

// mark applies "--set-xmark value/mask".
func (b *body) mark(p *rules.Packet) {
	if len(b.options) < 2 || b.options[0] != "--set-xmark" {
		return
	}
	if value, mask, ok := masked(b.options[1]); ok {
		p.Mark = p.Mark&^mask ^ value
	}
}

// masked reads "0x1000/0x1000"; without a mask it is all ones.
func masked(s string) (value, mask uint32, ok bool) {
	v, m, has := strings.Cut(s, "/")
	if !has {
		m = "0xffffffff"
	}
	a, err1 := strconv.ParseUint(v, 0, 32)
	b, err2 := strconv.ParseUint(m, 0, 32)
	return uint32(a), uint32(b), err1 == nil && err2 == nil
}

func (c condition) holds(p rules.Packet) rules.Truth {
	value := strings.Join(c.values, " ")
	switch c.option {
	case "-s":
		return inPrefix(value, p.Src)
	case "-d":
		return inPrefix(value, p.Dst)
	case "-i":
		return rules.Known(true, isInterface(value, p.In))
	case "-o":
		return rules.Known(true, isInterface(value, p.Out))
	case "-p":
		return isOneOf([]string{protocolName(value)}, p.Protocol)
	case "--ctstate", "--state":
		return isOneOf(strings.Split(value, ","), p.State)
	case "--dport", "--dports":
		return inPorts(value, p.DstPort)
	case "--dst-type":
		return rules.Known(value == "LOCAL", p.Local)
	case "--mark":
		want, mask, ok := masked(value)
		return rules.Known(ok, p.Mark&mask == want)
	}
	return rules.Maybe
}

// protocolName is a protocol as a Packet has it: iptables prints the names of
// /etc/protocols.
func protocolName(value string) string {
	if value == "ipv6-icmp" || value == "58" {
		return "icmpv6"
	}
	return value
}

func inPrefix(value string, a netip.Addr) rules.Truth {
	p, err := netip.ParsePrefix(value)
	return rules.Known(err == nil && a.IsValid(), err == nil && p.Contains(a))
}

// isInterface matches a name with a value such as "docker0" or "br-+".
func isInterface(value, name string) bool {
	start, any := strings.CutSuffix(value, "+")
	return name == value || any && name != "" && strings.HasPrefix(name, start)
}

func isOneOf(values []string, what string) rules.Truth {
	return rules.Known(what != "", slices.Contains(values, what))
}

// inPorts matches a port with a value such as "80", "8000:8100" or a list of them.
func inPorts(value string, port int) rules.Truth {
	if port == 0 {
		return rules.Maybe
	}
	for part := range strings.SplitSeq(value, ",") {
		first, last, isRange := strings.Cut(part, ":")
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if !isRange {
			to, err2 = from, err1
		}
		if err1 != nil || err2 != nil {
			return rules.Maybe
		}
		if from <= port && port <= to {
			return rules.Yes
		}
	}
	return rules.No
}

// Remove is the command that deletes a rule, as a shell reads it.
func Remove(r rules.Rule) string { return printable.Command(r.Table.Program, arguments(r, "-D")...) }

// Show is a rule as its program would add it, as a shell reads it.
func Show(r rules.Rule) string {
	args := arguments(r, "-A")
	return printable.Command(args[0], args[1:]...)
}

// arguments are those that add or delete a rule.
func arguments(r rules.Rule, verb string) (args []string) {
	if r.Table.Name != "filter" {
		args = []string{"-t", r.Table.Name}
	}
	return append(append(args, verb, r.Chain), splitArgs(r.Text)...)
}
