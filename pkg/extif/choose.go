package extif

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// Options are what the operator asks for.
type Options struct {
	Ifaces   []string         // addresses or names: the first that matches wins
	Regexes  []*regexp.Regexp // tried after every one of Ifaces
	CanReach netip.Addr       // then the interface by which the kernel reaches it; invalid: not asked for
	PublicIP netip.Addr       // overrides the interface's address; invalid: it does not
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
// left, the error says why and lists the interfaces.
func Choose(
	f inet.Family, o Options, links []kernel.Link, byRoute func() (name string, err error),
) (Choice, error) {
	links = ofFamily(f, links)
	var refused []string
	for _, criterion := range criteria(o, byRoute) {
		candidates, err := criterion.find(links)
		if err != nil {
			refused = append(refused, err.Error())
		}
		for _, c := range candidates {
			choice, err := c.use(f, o.PublicIP, criterion.source, links)
			if err == nil {
				return choice, nil
			}
			refused = append(refused, fmt.Sprintf("%s: %v", criterion.source, err))
		}
	}
	return Choice{}, fmt.Errorf("%s; this host has %s",
		strings.Join(refused, "; "), list(f, links))
}

// ofFamily leaves each interface its addresses of one family.
func ofFamily(f inet.Family, links []kernel.Link) []kernel.Link {
	other := func(a kernel.Addr) bool { return inet.Of(a.Addr()) != f }
	out := slices.Clone(links)
	for i := range out {
		if slices.ContainsFunc(out[i].Addrs, other) {
			out[i].Addrs = slices.DeleteFunc(slices.Clone(out[i].Addrs), other)
		}
	}
	return out
}

// criterion is one of the operator's, in order.
type criterion struct {
	source string // "--iface=ens33"
	find   func([]kernel.Link) ([]candidate, error)
}

func criteria(o Options, byRoute func() (string, error)) []criterion {
	var out []criterion
	for _, text := range o.Ifaces {
		source := "--iface=" + text
		out = append(out, criterion{source, func(links []kernel.Link) ([]candidate, error) {
			return some(source, byText(links, text))
		}})
	}
	for _, re := range o.Regexes {
		source := "--iface-regex=" + re.String()
		out = append(out, criterion{source, func(links []kernel.Link) ([]candidate, error) {
			return some(source, byRegex(links, re))
		}})
	}
	if o.CanReach.IsValid() {
		source := fmt.Sprintf("--iface-can-reach=%v", o.CanReach)
		return append(out, criterion{source, func(links []kernel.Link) ([]candidate, error) {
			name, err := byRoute()
			if err != nil {
				return nil, fmt.Errorf("%s names none: %w", source, err)
			}
			return some(source+", whose interface is "+name+",", byText(links, name))
		}})
	}
	if len(out) > 0 {
		return out
	}
	if ip := o.PublicIP; ip.IsValid() {
		out = append(out, criterion{fmt.Sprintf("--public-ip=%v", ip), func(links []kernel.Link) ([]candidate, error) {
			return byAddress(links, ip, byRoute), nil // none: it is a router's, in front of this host
		}})
	}
	return append(out, criterion{"the default route", func(links []kernel.Link) ([]candidate, error) {
		name, err := byRoute()
		if err != nil {
			return nil, fmt.Errorf("none is named by --iface, and the default route names none: %w", err)
		}
		return some("the default route's interface "+name, byText(links, name))
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
func some(source string, found []candidate) ([]candidate, error) {
	if len(found) == 0 {
		return nil, fmt.Errorf("%s matches none", source)
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
	for _, l := range links {
		if l.Name == text {
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

// ranked is the interface's usable addresses, global ones before link-local
// ones, otherwise in the kernel's order.
func ranked(l kernel.Link) []netip.Addr {
	addrs := slices.Clone(l.Addrs)
	slices.SortStableFunc(addrs, func(a, b kernel.Addr) int { return cmp.Compare(rank(a), rank(b)) })
	var out []netip.Addr
	for _, a := range addrs {
		if !a.Addr().IsLoopback() {
			out = append(out, a.Addr())
		}
	}
	return out
}

func rank(a kernel.Addr) int {
	if a.LinkLocal {
		return 1
	}
	return 0
}

// use makes a choice of the candidate.
func (c candidate) use(f inet.Family, publicIP netip.Addr, source string, links []kernel.Link) (Choice, error) {
	l := c.link
	if l.MTU <= 0 {
		return Choice{}, fmt.Errorf("interface %s has MTU %d: set one with: ip link set %s mtu 1500", l.Name, l.MTU, l.Name)
	}
	addr := c.addr
	if !addr.IsValid() && l.Has(publicIP) {
		addr = publicIP // so that packets come from where answers go to
	}
	if !addr.IsValid() {
		addrs := ranked(l)
		if len(addrs) == 0 {
			return Choice{}, fmt.Errorf("interface %s has no %v address that another host could reach", l.Name, f)
		}
		addr = addrs[0]
	}
	choice := Choice{Link: l, Addr: addr, PublicIP: addr}
	why := "its own"
	if publicIP.IsValid() {
		choice.PublicIP, why = publicIP, "by --public-ip"
		if has := byText(links, publicIP.String()); len(has) > 0 && has[0].link.Name != l.Name {
			why += fmt.Sprintf(", which is on %s, though packets leave by %s", has[0].link.Name, l.Name)
		}
		for _, a := range l.Addrs {
			if what := inet.NoHost(a.Prefix, publicIP); what != "" && !l.Has(publicIP) {
				return Choice{}, fmt.Errorf("--public-ip=%v is %s of %v (the network of %s), and no host's",
					publicIP, what, a.Masked(), l.Name)
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
			addrs = append(addrs[:i], a.Prefix.String())
		}
		out = append(out, fmt.Sprintf("%s (%s)", l.Name, strings.Join(addrs, ", ")))
	}
	return strings.Join(out, ", ")
}
