package extif

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
)

// Options are what the operator asks for.
type Options struct {
	Ifaces   []string         // addresses or names: the first that matches wins
	Regexes  []*regexp.Regexp // tried after every one of Ifaces
	CanReach netip.Addr       // then the interface by which the kernel reaches it; invalid: not asked for

	// These override the interface's address of their family; invalid: they do not.
	PublicIP, PublicIPv6 netip.Addr

	// Prefer names the interface that the host uses in the other family. It comes first,
	// unless an address of this one is named; "": there is none.
	Prefer string

	// InUse is the address that the host works with: that it is deprecated now does not move
	// the host. Invalid: there is none yet.
	InUse netip.Addr
}

// wants tells an address that is asked for, or in use.
func (o Options) wants(a netip.Addr) bool {
	named := func(text string) bool {
		ip, err := netip.ParseAddr(text)
		return err == nil && ip == a
	}
	return a == o.InUse || a == o.PublicIPv6 || slices.ContainsFunc(o.Ifaces, named)
}

// public is what the operator says of the public address of a family.
func (o Options) public(f inet.Family) public {
	if f == inet.IPv4 {
		return public{o.PublicIP, "--public-ip"}
	}
	return public{o.PublicIPv6, "--public-ipv6"}
}

type public struct {
	netip.Addr // invalid: nothing
	flag       string
}

// Choice is the external interface.
type Choice struct {
	Link     kernel.Link
	Addr     netip.Addr // of the interface: the source of encapsulated packets
	PublicIP netip.Addr // where other hosts reach this one; not always an address of the interface
	Reason   string     // both, and why, in a phrase for the log
}

// Choose picks the interface among links by which hosts talk in a family.
// byRoute names the one by which the kernel reaches o.CanReach, or where that is not
// asked for, the one of the default route. It is asked only where that decides:
// what the options name comes first, be it only by the public IP. What matches but
// cannot be used (no address, MTU 0) gives way to what matches next; where nothing is
// left, the error says why and lists the interfaces. Addresses that no other host could
// use, or that are about to go, are never chosen.
func Choose(
	f inet.Family, o Options, links []kernel.Link, byRoute func() (name string, err error),
) (Choice, error) {
	links = ofFamily(f, links)
	for _, l := range links {
		for i, a := range l.Addrs {
			l.Addrs[i].Deprecated = a.Deprecated && !o.wants(a.Addr())
		}
	}
	if why := cannotBePublic(o.public(f), links); why != "" {
		return Choice{}, errors.New(why)
	}
	var refused []string
	for _, criterion := range criteria(f, o, byRoute) {
		candidates, err := criterion.find(links)
		if err != nil {
			refused = append(refused, err.Error())
		}
		for _, c := range candidates {
			choice, err := c.use(f, o.public(f), criterion.source, links)
			if err == nil {
				return choice, nil
			}
			refused = append(refused, fmt.Sprintf("%s: %v", criterion.source, err))
		}
	}
	return Choice{}, fmt.Errorf("%s; this host has %s",
		strings.Join(refused, "; "), list(f, links))
}

// ofFamily are copies that have the addresses of one family.
func ofFamily(f inet.Family, links []kernel.Link) []kernel.Link {
	other := func(a kernel.Addr) bool { return inet.Of(a.Addr()) != f }
	out := slices.Clone(links)
	for i := range out {
		out[i].Addrs = slices.DeleteFunc(slices.Clone(out[i].Addrs), other)
	}
	return out
}

// criterion is one of the operator's, in order.
type criterion struct {
	source string // "--iface=ens33"
	find   func([]kernel.Link) ([]candidate, error)
}

func criteria(f inet.Family, o Options, byRoute func() (string, error)) []criterion {
	var out, first []criterion
	prefer := o.Prefer
	for _, text := range o.Ifaces {
		source, hint := "--iface="+text, ""
		if ip, err := netip.ParseAddr(text); err == nil && inet.Of(ip) == f {
			prefer = ""
		} else if err == nil {
			if o.Prefer != "" { // it is meant for the other family
				continue
			}
			hint = fmt.Sprintf(" (for %v, name the interface or an %v address of it)", f, f)
		}
		out = append(out, criterion{source, func(links []kernel.Link) ([]candidate, error) {
			return some(source, hint, byText(links, text))
		}})
	}
	for _, re := range o.Regexes {
		source := "--iface-regex=" + re.String()
		out = append(out, criterion{source, func(links []kernel.Link) ([]candidate, error) {
			return some(source, "", byRegex(links, re))
		}})
	}
	if o.CanReach.IsValid() && inet.Of(o.CanReach) == f {
		prefer = ""
		source := fmt.Sprintf("--iface-can-reach=%v", o.CanReach)
		out = append(out, criterion{source, func(links []kernel.Link) ([]candidate, error) {
			name, err := byRoute()
			if err != nil {
				return nil, fmt.Errorf("%s names none: %w", source, err)
			}
			return some(source+", whose interface is "+name+",", "", byText(links, name))
		}})
	}
	byDefault := len(out) == 0
	if ip := o.public(f); byDefault && ip.IsValid() {
		source := fmt.Sprintf("%s=%v", ip.flag, ip)
		first = append(first, criterion{source, func(links []kernel.Link) ([]candidate, error) {
			return byAddress(links, ip.Addr, byRoute), nil // none: it is a router's, in front of this host
		}})
	}
	if prefer != "" {
		first = append(first, criterion{"the other family", func(links []kernel.Link) ([]candidate, error) {
			return some("the other family's interface "+prefer, "", byName(links, prefer))
		}})
	}
	out = append(first, out...)
	if !byDefault {
		return out
	}
	return append(out, criterion{"the default route", func(links []kernel.Link) ([]candidate, error) {
		name, err := byRoute()
		if err != nil {
			return nil, fmt.Errorf("none is named by --iface, and the default route names none: %w", err)
		}
		return some("the default route's interface "+name, "", byText(links, name))
	}})
}

// byAddress finds the interface that an address is on and that packets can leave by. One
// that is down is waited for only if it is the one in use.
func byAddress(links []kernel.Link, ip netip.Addr, inUse func() (string, error)) (out []candidate) {
	for _, l := range links {
		if l.Has(ip) && !l.Up {
			if name, err := inUse(); err != nil || name != l.Name {
				continue
			}
		}
		inward := l.Type == "dummy" || l.Tunnel() ||
			slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool { return a.Addr().IsLoopback() })
		if l.Has(ip) && !inward {
			out = append(out, candidate{l, ip})
		}
	}
	return out
}

// some makes an error of no candidates.
func some(source, hint string, found []candidate) ([]candidate, error) {
	if len(found) == 0 {
		return nil, fmt.Errorf("%s matches none%s", source, hint)
	}
	return found, nil
}

// candidate is an interface that matches, with the address by which it does.
type candidate struct {
	link kernel.Link
	addr netip.Addr // invalid: it matches by its name
}

// byText finds an interface by one of its addresses or by its name.
func byText(links []kernel.Link, text string) []candidate {
	ip, err := netip.ParseAddr(text)
	for _, l := range links {
		if err == nil && l.Has(ip) {
			return []candidate{{l, ip}}
		}
	}
	return byName(links, text)
}

func byName(links []kernel.Link, name string) []candidate {
	for _, l := range links {
		if l.Name == name {
			return []candidate{{link: l}}
		}
	}
	return nil
}

// byRegex matches all addresses before any name.
func byRegex(links []kernel.Link, re *regexp.Regexp) []candidate {
	var byAddr, byName []candidate
	for _, l := range links {
		for _, a := range ranked(l) {
			if re.MatchString(a.String()) {
				byAddr = append(byAddr, candidate{l, a})
				break
			}
		}
		if re.MatchString(l.Name) {
			byName = append(byName, candidate{link: l})
		}
	}
	return append(byAddr, byName...)
}

// ranked is the interface's usable addresses, the best first, otherwise in the order in
// which the interface got them: so one that comes in addition does not move the host when
// it starts anew. The kernel lists IPv6's the other way round.
func ranked(l kernel.Link) []netip.Addr {
	addrs := slices.Clone(l.Addrs)
	if slices.ContainsFunc(addrs, func(a kernel.Addr) bool { return a.Addr().Is6() }) {
		slices.Reverse(addrs)
	}
	slices.SortStableFunc(addrs, func(a, b kernel.Addr) int { return cmp.Compare(rank(a), rank(b)) })
	var out []netip.Addr
	for _, a := range addrs {
		if unusable(a) == "" {
			out = append(out, a.Addr())
		}
	}
	return out
}

// rank puts global addresses before link-local ones, and of IPv6's, those of a network
// before single ones, which virtual addresses are as a rule, and global ones before those
// that a site gives itself (RFC 4193), as the kernel does for what it sends.
func rank(a kernel.Addr) (r int) {
	if a.LinkLocal {
		r += 4
	}
	if a.Addr().Is6() && a.IsSingleIP() {
		r += 2
	}
	if a.Addr().Is6() && a.Addr().IsPrivate() {
		r++
	}
	return r
}

const notReady = "not ready yet"

// unusable says why an address cannot be a host's to others; "": it can.
func unusable(a kernel.Addr) string {
	switch {
	case a.Addr().IsLoopback():
		return "loopback"
	case a.Addr().Is6() && a.LinkLocal:
		return "link-local"
	case a.Duplicate:
		return "another host has it"
	case a.Tentative:
		return notReady
	case a.Temporary:
		return "temporary"
	case a.Deprecated:
		return "deprecated"
	}
	return ""
}

// cannotBePublic says what is wrong with the public address that the operator gives; "":
// nothing is.
func cannotBePublic(ip public, links []kernel.Link) string {
	if !ip.IsValid() || !ip.Is6() {
		return ""
	}
	why := ""
	if ip.IsLinkLocalUnicast() {
		why = "link-local"
	}
	for _, l := range links {
		for _, a := range l.Addrs {
			if a.Addr() == ip.Addr && why == "" {
				why = unusable(a)
			}
		}
	}
	if why == "" || why == notReady { // it is waited for
		return ""
	}
	return fmt.Sprintf("%s=%v cannot be this host's address to others (%s): name another one", ip.flag, ip.Addr, why)
}

// use makes a choice of the candidate.
func (c candidate) use(f inet.Family, public public, source string, links []kernel.Link) (Choice, error) {
	publicIP := public.Addr
	l := c.link
	if l.MTU <= 0 {
		return Choice{}, fmt.Errorf("interface %s has MTU %d: set one with: ip link set %s mtu 1500", l.Name, l.MTU, l.Name)
	}
	addr := c.addr
	if !addr.IsValid() && l.Has(publicIP) {
		addr = publicIP // so that packets come from where answers go to
	}
	for _, a := range l.Addrs {
		if why := unusable(a); f == inet.IPv6 && a.Addr() == addr && why != "" {
			return Choice{}, fmt.Errorf("%v cannot be this host's address to others (%s)", addr, why)
		}
	}
	if !addr.IsValid() {
		addrs := ranked(l)
		if len(addrs) == 0 {
			why := ""
			if f == inet.IPv6 && l.NoIPv6 {
				why = ", as IPv6 is switched off there, or its MTU is below 1280: to switch it on, type: " +
					printable.Command("sysctl", "-w", "net/ipv6/conf/"+l.Name+"/disable_ipv6=0")
			}
			return Choice{}, fmt.Errorf("interface %s has no %v address that another host could reach%s", l.Name, f, why)
		}
		addr = addrs[0]
	}
	choice := Choice{Link: l, Addr: addr, PublicIP: addr}
	why := "its own"
	if publicIP.IsValid() {
		choice.PublicIP, why = publicIP, "by "+public.flag
		if has := byText(links, publicIP.String()); len(has) > 0 && has[0].link.Name != l.Name {
			why += fmt.Sprintf(", which is on %s, though packets leave by %s", has[0].link.Name, l.Name)
		}
		for _, a := range l.Addrs {
			if what := inet.NoHost(a.Prefix, publicIP); what != "" && !l.Has(publicIP) {
				return Choice{}, fmt.Errorf("%s=%v is %s of %v (the network of %s), and no host's",
					public.flag, publicIP, what, a.Masked(), l.Name)
			}
		}
	}
	choice.Reason = fmt.Sprintf("interface %s (%v, MTU %d) by %s, public IP %v %s",
		l.Name, withLength(l, addr), l.MTU, source, choice.PublicIP, why)
	return choice, nil
}

func withLength(l kernel.Link, addr netip.Addr) netip.Prefix {
	for _, a := range l.Addrs {
		if a.Addr() == addr {
			return a.Prefix
		}
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

// list shows an operator what there is to choose from.
func list(f inet.Family, links []kernel.Link) string {
	if len(links) == 0 {
		return "no interface"
	}
	var out []string
	for _, l := range links {
		addrs := []string{fmt.Sprintf("no %v address", f)}
		for i, a := range l.Addrs {
			text := a.Prefix.String()
			if why := unusable(a); f == inet.IPv6 && why != "" {
				text += " " + why
			}
			addrs = append(addrs[:i], text)
		}
		out = append(out, fmt.Sprintf("%s (%s)", l.Name, strings.Join(addrs, ", ")))
	}
	return strings.Join(out, ", ")
}
