package check

import (
	"fmt"
	"net/netip"
	"slices"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// dialect is what programs and the kernel call things of one family.
type dialect struct {
	ip         string // the program of that name, with its option
	iptables   string
	icmp       string // as rules.Packet has it
	nft        string // addresses, in nft's rules, and tables of this family alone
	forwarding string // the setting by which a host forwards packets
	bridged    string // that by which bridges ask iptables
	conf       string // begins the settings of an interface
	conntrack  string // its option
	prefix     string // of fields of the config key
	leastMTU   int    // of an interface, in bytes (RFC 791, RFC 8200)
}

var dialects = map[inet.Family]dialect{
	inet.IPv4: {
		ip: "ip", iptables: iptables.Program(inet.IPv4), icmp: "icmp", nft: "ip", forwarding: "net.ipv4.ip_forward",
		bridged: "net.bridge.bridge-nf-call-iptables", conf: "net.ipv4.conf.", leastMTU: 576,
	},
	inet.IPv6: {
		ip: "ip -6", iptables: iptables.Program(inet.IPv6), icmp: "icmpv6", nft: "ip6",
		forwarding: "net.ipv6.conf.all.forwarding", bridged: "net.bridge.bridge-nf-call-ip6tables",
		conf: "net.ipv6.conf.", conntrack: " -f ipv6", prefix: "IPv6", leastMTU: 1280,
	},
}

// words are those of the family that f is about, or of the first in use.
func (f Facts) words() dialect { return dialects[f.inUse()[0]] }

// familyOf is that of a half of a Status; false: nothing of it is known.
func familyOf(h status.Half) (inet.Family, bool) {
	switch {
	case h.Lease != nil && h.Lease.Subnet.IsValid():
		return inet.Of(h.Lease.Subnet.Addr()), true
	case h.Network != nil && h.Network.Network.IsValid():
		return inet.Of(h.Network.Network.Addr()), true
	case h.Host != nil && h.Host.Address.IsValid():
		return inet.Of(h.Host.Address), true
	}
	return 0, false
}

// inUse are the families by which containers of this host reach others.
func (f Facts) inUse() (all []inet.Family) {
	if f.family != 0 {
		return []inet.Family{f.family}
	}
	if f.Status != nil {
		for _, h := range f.Status.Halves() {
			if family, known := familyOf(h); known {
				all = append(all, family)
			}
		}
	}
	if len(all) == 0 {
		for _, p := range f.Env.Subnets().All() {
			all = append(all, inet.Of(p.Addr()))
		}
	}
	if len(all) == 0 {
		all = []inet.Family{inet.IPv4}
	}
	return all
}

// askedFor are those, and the ones that the config key enables and this host has no
// interface for.
func (f Facts) askedFor() (all []inet.Family) {
	used := f.inUse()
	for _, family := range inet.Families() {
		if _, missing := f.missing(family); missing || slices.Contains(used, family) {
			all = append(all, family)
		}
	}
	return all
}

// missing is what the daemon says of a family that it works without.
func (f Facts) missing(family inet.Family) (condition.Condition, bool) {
	if f.Status != nil {
		for _, c := range f.Status.Conditions {
			if c.Code == condition.FamilyMissing && c.Subject == family.String() {
				return c, true
			}
		}
	}
	return condition.Condition{}, false
}

// of is what the facts are to one family: they hold no address of another one, and
// what there is once for each family is this one's. So what looks at them need not ask.
func (f Facts) of(family inet.Family) Facts {
	v := f
	v.family = family
	v.Env = subnet.Env{
		Network: subnet.SubnetsOf(f.Env.Networks()...).Of(family), Subnet: f.Env.Subnets().Of(family),
		MTU: f.Env.MTU, IPMasq: f.Env.IPMasq,
	}
	if f.Status != nil {
		v.Status = statusOf(family, *f.Status)
	}
	v.Links = slices.Clone(f.Links)
	for i, l := range v.Links {
		v.Links[i].Addrs = only(l.Addrs, family, kernel.Addr.Addr)
	}
	v.Routes = only(f.Routes, family, func(r kernel.FoundRoute) netip.Addr { return r.Dst.Addr() })
	v.Entries.Neighbours = only(f.Entries.Neighbours, family, func(n kernel.FoundNeighbour) netip.Addr { return n.Addr })
	v.Entries.FDB = only(f.Entries.FDB, family, func(e kernel.FoundFDB) netip.Addr { return e.Dst })
	v.inKernel = status.NewKernel(v.Routes, v.Entries)
	v.external, v.bridge = f.externalOf(v), f.bridgeOf(v)
	return v
}

// only are those without an address of another family; as they are, where that is all.
func only[T any](all []T, family inet.Family, of func(T) netip.Addr) []T {
	other := func(x T) bool { a := of(x); return a.IsValid() && inet.Of(a) != family }
	if !slices.ContainsFunc(all, other) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), other)
}

// statusOf is what a daemon says of one family.
func statusOf(family inet.Family, s status.Status) *status.Status {
	var mine status.Half
	config := ""
	for _, h := range s.Halves() {
		if h.Network != nil && h.Network.Config != "" {
			config = h.Network.Config // of both
		}
		if f, known := familyOf(h); known && f == family {
			mine = h
		}
	}
	if mine.Network != nil {
		n := *mine.Network
		n.Config, mine.Network = config, &n
	}
	s.SetHalves([]status.Half{mine})
	s.IPv6 = nil
	s.Peers = only(s.Peers, family, func(p status.Peer) netip.Addr { return p.Subnet.Addr() })
	return &s
}

// externalOf is the interface by which v's family leaves this host, or, where it has
// none, another one does; "": none is known.
func (f Facts) externalOf(v Facts) string {
	if v.Status == nil {
		return ""
	}
	for _, h := range append(v.Status.Halves(), f.Status.Halves()...) {
		if h.Host != nil {
			return h.Host.Interface
		}
	}
	return ""
}

// bridgeOf is the bridge that containers of v's family are behind, or, where there is
// none yet, those of another one: they are the same. "": there is none.
func (f Facts) bridgeOf(v Facts) string {
	for _, own := range append([]netip.Prefix{v.own()}, f.owned()...) {
		if all := f.bridgesIn(own); len(all) > 0 {
			return all[0].Name
		}
	}
	return ""
}

// leased are this host's subnets by its lease.
func (f Facts) leased() (all subnet.Subnets) {
	if f.Status == nil {
		return all
	}
	var of []netip.Prefix
	for _, h := range f.Status.Halves() {
		if h.Lease != nil {
			of = append(of, h.Lease.Subnet)
		}
	}
	return subnet.SubnetsOf(of...)
}

// owned are this host's subnets, as far as is known.
func (f Facts) owned() []netip.Prefix {
	if all := f.leased().All(); len(all) > 0 {
		return all
	}
	return f.Env.Subnets().All()
}

// joined are the findings of several families. What they have in common is said once,
// and of the rest, of which family it is.
func joined(families []inet.Family, of [][]Finding) (out []Finding) {
	same := func(x Finding) func(Finding) bool {
		return func(y Finding) bool { return x.Level == y.Level && x.Text == y.Text && slices.Equal(x.Fix, y.Fix) }
	}
	for i, found := range of {
		for _, x := range found {
			lacks := func(other []Finding) bool { return !slices.ContainsFunc(other, same(x)) }
			if slices.ContainsFunc(of, lacks) {
				x.family, x.Text = families[i], fmt.Sprintf("%v: %s", families[i], x.Text)
			} else if i > 0 {
				continue
			}
			out = append(out, x)
		}
	}
	return out
}
