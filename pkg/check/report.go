package check

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"flanneld/pkg/condition"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

// ErrOwn says that the peer asked for is this host.
var ErrOwn = errors.New("that is this host itself")

// Select picks the peers to look at: all, or the one that a subnet or an address
// such as "172.7.22.0/24", "172.7.22.5" or "10.4.7.22" belongs to. The finding
// says that there is none.
func Select(s *status.Status, what string) (peers []status.Peer, missing *Finding, err error) {
	ip, err := address(what)
	switch {
	case what == "" && s == nil:
		return nil, nil, nil
	case what == "":
		return s.Peers, nil, nil
	case err != nil || s == nil:
		return nil, nil, err
	}
	for _, h := range s.Halves() {
		if l, h := h.Lease, h.Host; l != nil && l.Subnet.Contains(ip) || h != nil && (h.PublicIP == ip || h.Address == ip) {
			return nil, nil, fmt.Errorf("%s: %w", what, ErrOwn)
		}
	}
	if p, found := s.Of(ip); found {
		return halves(s.Peers, p), nil, nil
	}
	none := fault(
		[]string{
			"flanneld status   # lists the peers",
			"start flanneld on that host: systemctl start flanneld, or supervisorctl start",
		},
		"no host has leased a subnet with %s: flanneld has never run there, or its lease has expired",
		what,
	)
	none.Step = "peer"
	return nil, &none, nil
}

// halves are the entries of the host that p is of, one for each family.
func halves(all []status.Peer, p status.Peer) (out []status.Peer) {
	for _, x := range all {
		if x.Subnet == p.Subnet || p.Key != "" && x.Key == p.Key {
			out = append(out, x)
		}
	}
	return out
}

func address(what string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(what); err == nil {
		return p.Addr(), nil
	}
	ip, err := netip.ParseAddr(what)
	if err != nil && what != "" {
		return ip, fmt.Errorf("%q is neither a subnet such as 172.7.22.0/24 nor an address", what)
	}
	return ip, nil
}

// Rest is what the daemon itself complains of, and no step looks at.
func Rest(f Facts, found []Finding) (out []Finding) {
	for _, text := range f.Unread {
		out = append(out, Finding{Level: Unknown, Text: text})
	}
	for _, text := range f.Notes {
		out = append(out, note("%s", text))
	}
	if f.Status == nil {
		return named("flanneld", out, func() string { return "" })[:len(out)]
	}
	for _, c := range f.Status.Conditions.Roots() {
		switch {
		case covered(c.Code, found):
		case c.Code == condition.KernelContention:
			out = append(out, fault([]string{f.culprit(), logFix}, "%s", c.Text()))
		case c.Severity == condition.Error:
			out = append(out, fault(rightsFix(c), "%s", c.Text()))
		default:
			out = append(out, note("%s", c.Text()))
		}
	}
	if d := f.Status.Daemon; !d.Ready && Worst(append(found, out...)) != Fault {
		out = append(out, fault([]string{logFix}, "flanneld is not ready: %s", d.Reason))
	}
	return named("flanneld", out, func() string { return "has no complaints" })
}

// covered reports whether a step has found what the daemon complains of, or what
// that comes of.
func covered(code condition.Code, found []Finding) bool {
	return slices.ContainsFunc(found, func(x Finding) bool {
		covers, _ := declared(x.Step)
		byNote := x.Level == Note && x.Step == foreignStep && code == condition.DeviceForeign
		return byNote || x.Level == Fault && slices.Contains(covers, code)
	})
}

// Worst is the level that decides: a Fault, then what is Unknown.
func Worst(found []Finding) Level {
	for _, l := range []Level{Fault, Unknown} {
		if slices.ContainsFunc(found, func(x Finding) bool { return x.Level == l }) {
			return l
		}
	}
	return OK
}

// longestFix bounds a command that is printed, in bytes: one that is cut is of no use.
const longestFix = 2 * printable.Longest

// row is a finding as it is printed, with lines beneath.
type row struct {
	level      Level
	step, text string
	lines      []line
}

type line struct{ label, text string }

func (x Finding) row() row {
	r := row{level: x.Level, step: x.Step, text: x.Text}
	for i, text := range x.Fix {
		label := ""
		if i == 0 {
			label = "fix:"
		}
		r.lines = append(r.lines, line{label, text})
	}
	return r
}

// Print shows findings in order, with the fix beneath.
func Print(w io.Writer, found []Finding, colour bool) error {
	var rows []row
	for _, x := range found {
		rows = append(rows, x.row())
	}
	return printRows(w, rows, colour)
}

func printRows(w io.Writer, rows []row, colour bool) error {
	var b strings.Builder
	columns := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(columns, "%s\t%s\t%s\n", r.level, r.step, printable.Bounded(r.text, printable.Longest))
		for _, l := range r.lines {
			fmt.Fprintf(columns, "\t%s\t%s\n", l.label, printable.Bounded(l.text, longestFix))
		}
	}
	_ = columns.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		if colour && strings.HasPrefix(line, string(Fault)) {
			line = printable.Red + strings.TrimSuffix(line, "\n") + printable.Reset + "\n"
		}
		if _, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// DroppedByReversePath counts packets that the kernel has dropped because of
// rp_filter, in this network namespace.
func DroppedByReversePath() int {
	content, err := os.ReadFile("/proc/self/net/netstat")
	if err != nil {
		return 0
	}
	var names []string
	for line := range strings.Lines(string(content)) { // pairs of lines: names, then values
		fields := strings.Fields(line)
		if len(names) != len(fields) || len(fields) == 0 || names[0] != fields[0] {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "IPReversePathFilter" {
				n, _ := strconv.Atoi(fields[i])
				return n
			}
		}
		names = nil
	}
	return 0
}
