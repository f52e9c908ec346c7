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

	"flanneld/pkg/inet"
)

// Env is the content of subnet.env, by which dockerd and others learn what
// this host was given.
type Env struct {
	Network netip.Prefix // of the first family that containers use
	Subnet  netip.Prefix // masked; written with the subnet's first address
	MTU     int          // bytes
	IPMasq  bool         // flanneld masquerades, so docker must not

	IPv6Network, IPv6Subnet netip.Prefix // beside IPv4; invalid: there is none
}

// Subnets are both.
func (e Env) Subnets() Subnets { return SubnetsOf(e.Subnet, e.IPv6Subnet) }

// Networks are both.
func (e Env) Networks() []netip.Prefix { return SubnetsOf(e.Network, e.IPv6Network).All() }

// variable is a line of the file.
type variable struct{ name, value string }

// variables are those that are ours, in their order. One without a value has no line: a
// dual-stack host wrote it, and nobody keeps it true any more.
func (e Env) variables() []variable {
	networks, subnets := SubnetsOf(e.Network, e.IPv6Network), SubnetsOf(e.Subnet, e.IPv6Subnet)
	var texts [4]string
	for i := range subnets {
		if subnets[i].IsValid() {
			first := netip.PrefixFrom(subnets[i].Addr().Next(), subnets[i].Bits())
			texts[2*i], texts[2*i+1] = networks[i].String(), first.String()
		}
	}
	return []variable{
		{"FLANNEL_NETWORK", texts[0]},
		{"FLANNEL_SUBNET", texts[1]},
		{"FLANNEL_IPV6_NETWORK", texts[2]},
		{"FLANNEL_IPV6_SUBNET", texts[3]},
		{"FLANNEL_MTU", strconv.Itoa(e.MTU)},
		{"FLANNEL_IPMASQ", strconv.FormatBool(e.IPMasq)},
	}
}

// Marshal is the exact content of a file that is flanneld's alone.
func (e Env) Marshal() (content []byte) {
	for _, v := range e.variables() {
		if v.value != "" {
			content = fmt.Appendf(content, "%s=%s\n", v.name, v.value)
		}
	}
	return content
}

// Merge puts our lines into what a subnet file holds: each in its place, once.
// Everybody else's lines stay as they are, in their order.
func (e Env) Merge(old []byte) []byte {
	type line struct {
		text string
		ours int // which of ours; -1: somebody else's
	}
	ours := e.variables()
	var all []line
	theirs := false
	have := func(i int) int { return slices.IndexFunc(all, func(l line) bool { return l.ours == i }) }
	text := func(i int) line { return line{ours[i].name + "=" + ours[i].value + "\n", i} }
	for l := range strings.Lines(string(old)) {
		name, _, _ := assignment(l)
		i := slices.IndexFunc(ours, func(v variable) bool { return v.name == name })
		switch {
		case i >= 0 && (ours[i].value == "" || have(i) >= 0):
		case i >= 0:
			all = append(all, text(i))
		default:
			theirs = theirs || strings.TrimSpace(l) != ""
			all = append(all, line{l, -1})
		}
	}
	if !theirs {
		return e.Marshal()
	}
	before := -1 // the one of ours that the next comes after
	for i, v := range ours {
		if v.value == "" {
			continue
		}
		if have(i) < 0 {
			at := slices.IndexFunc(all, func(l line) bool { return l.ours >= 0 }) // before the first
			switch {
			case before >= 0:
				at = have(before) + 1
			case at < 0:
				at = len(all)
				if last := &all[at-1]; !strings.HasSuffix(last.text, "\n") {
					last.text += "\n"
				}
			}
			all = slices.Insert(all, at, text(i))
		}
		before = i
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
// "export", CRLF and further variables do no harm, and only FLANNEL_SUBNET, or
// FLANNEL_IPV6_SUBNET, is required. What cannot be read of one family is an error, beside
// which comes what can be read of the other.
func ParseEnv(content []byte) (Env, error) {
	var e Env
	var unread error
	var networks, subnets Subnets
	var bad [2]bool // by family
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, longestEnv+1) // others' lines may be long
	for lines.Scan() {
		name, value, ok := assignment(lines.Text())
		if !ok {
			continue
		}
		value = envValue(value)
		var err error
		f := inet.IPv4
		if strings.HasPrefix(name, "FLANNEL_IPV6_") {
			f = inet.IPv6
		}
		of := -1 // which family's
		switch name {
		case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
			of = f.Index()
			networks[of], err = parsePrefix(value, f)
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			of = f.Index()
			subnets[of], err = parsePrefix(value, f)
		case "FLANNEL_MTU":
			e.MTU, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			e.IPMasq, err = strconv.ParseBool(value)
		}
		if err == nil {
			continue
		}
		unread = fmt.Errorf("%s has the value %q, which cannot be read", name, value)
		if of < 0 {
			return Env{}, unread
		}
		bad[of] = true
	}
	if err := lines.Err(); err != nil {
		return Env{}, fmt.Errorf("not a subnet file: %w", err)
	}
	for of := range bad {
		if bad[of] {
			networks[of], subnets[of] = netip.Prefix{}, netip.Prefix{}
		}
	}
	e.Network, e.Subnet, e.IPv6Network, e.IPv6Subnet = networks[0], subnets[0], networks[1], subnets[1]
	if !e.Subnet.IsValid() { // of IPv6 alone
		e.Network, e.Subnet, e.IPv6Network, e.IPv6Subnet = e.IPv6Network, e.IPv6Subnet, netip.Prefix{}, netip.Prefix{}
	}
	switch {
	case e.Subnet.IsValid():
		return e, unread
	case unread != nil:
		return Env{}, unread
	}
	return Env{}, errors.New("FLANNEL_SUBNET is missing")
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

// parsePrefix takes the first of a family of several networks between commas.
func parsePrefix(s string, f inet.Family) (first netip.Prefix, err error) {
	for part := range strings.SplitSeq(s, ",") {
		p, e := netip.ParsePrefix(strings.TrimSpace(part))
		switch {
		case e != nil:
			return netip.Prefix{}, e
		case !first.IsValid() && inet.Of(p.Addr()) == f:
			first = p.Masked()
		}
	}
	if !first.IsValid() {
		err = fmt.Errorf("not of %v", f)
	}
	return first, err
}
