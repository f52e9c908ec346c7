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
	if l, h := s.Lease, s.Host; l != nil && l.Subnet.Contains(ip) || h != nil && (h.PublicIP == ip || h.Address == ip) {
		return nil, nil, fmt.Errorf("%s: %w", what, ErrOwn)
	}
	if p, found := s.Of(ip); found {
		return []status.Peer{p}, nil, nil
	}
	none := fault([]string{"flanneld status   # lists the peers", "start flanneld on that host: systemctl start flanneld, or supervisorctl start"},
		"no host has leased a subnet with %s: flanneld has never run there, or its lease has expired", what)
	none.Step = "peer"
	return nil, &none, nil
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
	for _, p := range f.Status.Problems {
		switch {
		case p == f.Status.ConfigProblem || told(p, found):
		case strings.HasPrefix(p, "another program undoes"):
			out = append(out, fault([]string{f.culprit(), logCure}, "%s", p))
		case slices.ContainsFunc([]string{"cannot ", "iptables", "nftables", "no rules let"}, func(start string) bool { return strings.HasPrefix(p, start) }):
			out = append(out, fault(kernelCure(p), "%s", p))
		default:
			out = append(out, note("%s", p))
		}
	}
	if d := f.Status.Daemon; !d.Ready && Worst(append(found, out...)) != Fault {
		out = append(out, fault([]string{logCure}, "flanneld is not ready: %s", d.Reason))
	}
	return named("flanneld", out, func() string { return "has no complaints" })
}

// told reports whether a step has found already what the daemon complains of, or
// what comes of the same.
func told(complaint string, found []Finding) bool {
	_, reason, _ := strings.Cut(complaint, ": ")
	return slices.ContainsFunc(found, func(x Finding) bool {
		switch {
		case reason != "" && strings.Contains(x.Text, reason):
			return true
		case x.Level != Fault:
			return false
		case strings.HasPrefix(complaint, "cannot write this host's lease"), strings.HasPrefix(complaint, "cannot read etcd"):
			return x.Step == "etcd" || x.Step == "interface" || x.Step == "certificates"
		case strings.Contains(complaint, "external interface"):
			return x.Step == "interface"
		case strings.HasPrefix(complaint, kernelProblem), strings.HasPrefix(complaint, "no way to "), strings.HasPrefix(complaint, "route "):
			return x.Step == "device" || x.Step == "route" || x.Step == "interface"
		}
		return false
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

// Print shows findings in order, with the cure beneath.
func Print(w io.Writer, found []Finding, colour bool) error {
	var b strings.Builder
	columns := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, x := range found {
		fmt.Fprintf(columns, "%s\t%s\t%s\n", x.Level, x.Step, printable.Line(x.Text))
		for i, line := range x.Cure {
			word := ""
			if i == 0 {
				word = "mend:"
			}
			fmt.Fprintf(columns, "\t%s\t%s\n", word, printable.Line(line))
		}
	}
	_ = columns.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		if colour && strings.HasPrefix(line, string(Fault)) {
			line = "\x1b[31m" + strings.TrimSuffix(line, "\n") + "\x1b[0m\n"
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
