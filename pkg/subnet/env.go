package subnet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Env is the content of subnet.env, by which dockerd and others learn what
// this host was given.
type Env struct {
	Network netip.Prefix
	Subnet  netip.Prefix // masked; written with the subnet's first address
	MTU     int          // bytes
	IPMasq  bool         // flanneld masquerades, so docker must not
}

// Marshal is the exact content of a file that is flanneld's alone.
func (e Env) Marshal() []byte {
	return fmt.Appendf(nil, "FLANNEL_NETWORK=%v\nFLANNEL_SUBNET=%v/%d\nFLANNEL_MTU=%d\nFLANNEL_IPMASQ=%t\n",
		e.Network, e.Subnet.Addr().Next(), e.Subnet.Bits(), e.MTU, e.IPMasq)
}

// ours are the variables of the four lines, in their order.
var ours = []string{"FLANNEL_NETWORK", "FLANNEL_SUBNET", "FLANNEL_MTU", "FLANNEL_IPMASQ"}

// stale are those that a dual-stack flannel wrote. Nobody keeps them true any more, and
// flannel's own CNI plugin would go by them.
var stale = []string{"FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"}

// Merge puts the four lines into what a subnet file holds: each in its place, once.
// Everybody else's lines stay as they are, in their order.
func (e Env) Merge(old []byte) []byte {
	type line struct {
		text string
		ours int // which of the four; -1: somebody else's
	}
	text := strings.SplitAfter(strings.TrimSuffix(string(e.Marshal()), "\n"), "\n")
	text[len(text)-1] += "\n"
	var all []line
	theirs := false
	have := func(i int) int { return slices.IndexFunc(all, func(l line) bool { return l.ours == i }) }
	for l := range strings.Lines(string(old)) {
		name, _, _ := assignment(l)
		i := slices.Index(ours, name)
		switch {
		case slices.Contains(stale, name) || i >= 0 && have(i) >= 0:
		case i >= 0:
			all = append(all, line{text[i], i})
		default:
			theirs = theirs || strings.TrimSpace(l) != ""
			all = append(all, line{l, -1})
		}
	}
	if !theirs {
		return e.Marshal()
	}
	for i := range ours {
		if have(i) >= 0 {
			continue
		}
		at := slices.IndexFunc(all, func(l line) bool { return l.ours >= 0 }) // before the first
		switch {
		case i > 0:
			at = have(i-1) + 1
		case at < 0:
			at = len(all)
			if last := &all[at-1]; !strings.HasSuffix(last.text, "\n") {
				last.text += "\n"
			}
		}
		all = slices.Insert(all, at, line{text[i], i})
	}
	var out bytes.Buffer
	for _, l := range all {
		out.WriteString(l.text)
	}
	return out.Bytes()
}

// assignment takes a line apart, if it gives a variable a value.
func assignment(line string) (name, value string, ok bool) {
	line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
	line = strings.TrimSpace(strings.TrimPrefix(line, "export "))
	name, value, ok = strings.Cut(line, "=")
	if !ok || strings.HasPrefix(line, "#") {
		return "", "", false
	}
	return strings.TrimSpace(name), value, true
}

// ParseEnv reads subnet.env as people write it: spaces, quotes, comments,
// "export", CRLF and further variables do no harm, and only FLANNEL_SUBNET is
// required.
func ParseEnv(content []byte) (Env, error) {
	var e Env
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, longestEnv+1) // others' lines may be long
	for lines.Scan() {
		name, value, ok := assignment(lines.Text())
		if !ok {
			continue
		}
		value = envValue(value)
		var err error
		switch name {
		case "FLANNEL_NETWORK":
			e.Network, err = parsePrefix(value)
		case "FLANNEL_SUBNET":
			e.Subnet, err = parsePrefix(value)
		case "FLANNEL_MTU":
			e.MTU, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			e.IPMasq, err = strconv.ParseBool(value)
		}
		if err != nil {
			return Env{}, fmt.Errorf("%s has the value %q, which cannot be read", name, value)
		}
	}
	if err := lines.Err(); err != nil {
		return Env{}, fmt.Errorf("not a subnet file: %w", err)
	}
	if !e.Subnet.IsValid() {
		return Env{}, errors.New("FLANNEL_SUBNET is missing")
	}
	return e, nil
}

// envValue is a value without its quotes, and without a comment behind it.
func envValue(s string) string {
	s = strings.TrimSpace(s)
	for _, quote := range []string{`"`, "'"} {
		if inside, quoted := strings.CutPrefix(s, quote); quoted {
			inside, _, _ = strings.Cut(inside, quote)
			return strings.TrimSpace(inside)
		}
	}
	s, _, _ = strings.Cut(s, "#")
	return strings.TrimRight(s, "\"' \t")
}

// parsePrefix takes the first of several networks, between commas, that is of a family
// that is read.
func parsePrefix(s string) (first netip.Prefix, err error) {
	for part := range strings.SplitSeq(s, ",") {
		p, e := netip.ParsePrefix(strings.TrimSpace(part))
		switch {
		case e != nil:
			return netip.Prefix{}, e
		case !first.IsValid() && legible(p.Addr()):
			first = p.Masked()
		}
	}
	if !first.IsValid() {
		err = errors.New("not of a family that is read")
	}
	return first, err
}
