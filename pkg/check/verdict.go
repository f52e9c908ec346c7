package check

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Packet is what rules look at. What is empty or zero is not known.
type Packet struct {
	In, Out  string // interfaces
	Src, Dst netip.Addr
	Protocol string // "tcp", "udp", "icmp"
	DstPort  int
	State    string // of its connection: "NEW"
	Local    bool   // Dst is an address of this host
}

// Verdict is what becomes of a packet.
type Verdict struct {
	Dropped bool
	Rule    *Rule  // by which; nil: by a chain's policy
	Policy  string // "filter FORWARD"
	Hidden  *Rule  // that gives the packet another source address
}

// stations are the tables' chains in the order in which a packet meets them.
type stations [][2]string

var (
	forwarded = stations{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}, {"mangle", "FORWARD"}, {"filter", "FORWARD"}, {"mangle", "POSTROUTING"}, {"nat", "POSTROUTING"}}
	received  = stations{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}, {"mangle", "INPUT"}, {"filter", "INPUT"}}
	sent      = stations{{"raw", "OUTPUT"}, {"mangle", "OUTPUT"}, {"filter", "OUTPUT"}, {"mangle", "POSTROUTING"}}
)

// by names what has dropped a packet.
func (v Verdict) by() string {
	if v.Rule == nil {
		return "the policy of " + v.Policy
	}
	return v.Rule.String()
}

// Pass sends a packet through the chains. A rule whose conditions are not all
// known is passed over.
func (f Firewall) Pass(p Packet, through stations) Verdict {
	var v Verdict
	for _, s := range through {
		table := f.Tables[s[0]]
		chain := table[s[1]]
		if chain == nil {
			continue
		}
		here := p
		switch s[1] { // an interface is known to some hooks only
		case "PREROUTING", "INPUT":
			here.Out = ""
		case "OUTPUT", "POSTROUTING":
			here.In = ""
		}
		w := walk{table: table, packet: here}
		end := w.chain(chain, 0)
		if end == ended && w.by.hides() {
			v.Hidden = w.by
		}
		if end == dropped || end == onward && chain.Policy == "DROP" {
			v.Dropped, v.Rule, v.Policy = true, w.by, s[0]+" "+s[1]
			return v
		}
	}
	return v
}

// hides reports whether the rule changes a packet's source.
func (r *Rule) hides() bool {
	return r != nil && slices.Contains([]string{"MASQUERADE", "SNAT", "NETMAP"}, r.target)
}

// end is how a packet leaves a chain.
type end int

const (
	onward end = iota // behind the last rule, or by RETURN
	ended             // nothing more is asked in this table
	dropped
)

// walk is a packet's way through one table.
type walk struct {
	table  Table
	packet Packet
	by     *Rule // that ended it
}

// deepest bounds jumps; the kernel allows as many chains as there are, and no
// loops.
const deepest = 100

func (w *walk) chain(c *Chain, depth int) end {
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.matches(w.packet) != yes {
			continue
		}
		switch r.target {
		case "ACCEPT", "MASQUERADE", "SNAT", "NETMAP":
			w.by = r
			return ended
		case "DROP", "REJECT":
			w.by = r
			return dropped
		case "RETURN":
			return onward
		}
		next := w.table[r.target]
		if next == nil || depth == deepest {
			continue // LOG, MARK and the like
		}
		if e := w.chain(next, depth+1); e != onward || !r.jumps {
			return e
		}
	}
	return onward
}

// truth is what is known of a condition.
type truth int

const (
	no truth = iota
	maybe
	yes
)

// matches is the least of its conditions.
func (r *Rule) matches(p Packet) truth {
	out := yes
	for _, c := range r.conditions {
		t := c.holds(p)
		if c.not {
			t = yes - t
		}
		out = min(out, t)
	}
	return out
}

func (c condition) holds(p Packet) truth {
	value := strings.Join(c.values, " ")
	switch c.option {
	case "-s":
		return inPrefix(value, p.Src)
	case "-d":
		return inPrefix(value, p.Dst)
	case "-i":
		return isInterface(value, p.In)
	case "-o":
		return isInterface(value, p.Out)
	case "-p":
		return isOneOf([]string{value}, p.Protocol)
	case "--ctstate", "--state":
		return isOneOf(strings.Split(value, ","), p.State)
	case "--dport", "--dports":
		return inPorts(value, p.DstPort)
	case "--dst-type":
		return known(value == "LOCAL", p.Local)
	}
	return maybe
}

func known(isKnown, holds bool) truth {
	switch {
	case !isKnown:
		return maybe
	case holds:
		return yes
	}
	return no
}

func inPrefix(value string, a netip.Addr) truth {
	p, err := netip.ParsePrefix(value)
	return known(err == nil && a.IsValid(), err == nil && p.Contains(a))
}

// isInterface takes "docker0" and "br-+".
func isInterface(value, name string) truth {
	start, any := strings.CutSuffix(value, "+")
	return known(true, name == value || any && name != "" && strings.HasPrefix(name, start))
}

func isOneOf(values []string, what string) truth {
	return known(what != "", slices.Contains(values, what))
}

// inPorts takes "80", "8000:8100" and lists of them.
func inPorts(value string, port int) truth {
	if port == 0 {
		return maybe
	}
	for part := range strings.SplitSeq(value, ",") {
		first, last, isRange := strings.Cut(part, ":")
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if !isRange {
			to, err2 = from, err1
		}
		if err1 != nil || err2 != nil {
			return maybe
		}
		if from <= port && port <= to {
			return yes
		}
	}
	return no
}
