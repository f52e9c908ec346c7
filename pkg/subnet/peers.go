package subnet

import (
	"fmt"
	"net/netip"
	"slices"
)

// Peers picks from the leases those that may reach the kernel: subnets of the
// network, of any length, seen as the config's family sees them, not ours and not
// overlapping ours, held by a host that is not this one, and taking nothing away from
// a lease that came first. The others come back by key with what is wrong with them.
// hostAddrs are this host's own addresses; refuse says what else is wrong with a
// lease, "": nothing; nil: with none. The leases are in View's order. The peers take
// their place: there may be thousands.
func Peers(
	c Config, own Lease, leases []Lease, hostAddrs []netip.Addr, refuse func(*Lease) string,
) (peers []Lease, rejected map[string]string) {
	rejected = map[string]string{}
	peers = leases[:0]
	family, key := c.family(), own.Key
	own, _ = own.For(family) // which it may not have (any more), or not be good for
	sorted := true
	for i := range leases {
		lease, ok := leases[i].For(family)
		if !ok || lease.Key == key || lease.Subnet == own.Subnet && lease.PublicIP == own.PublicIP {
			continue
		}
		sorted = sorted && lease.Subnet == leases[i].Subnet
		leases[i] = lease // whose place is that of no peer yet; a copy on the heap costs more
		l := &leases[i]
		reason := unfit(&c, &own, l, hostAddrs)
		if reason == "" && refuse != nil {
			reason = refuse(l)
		}
		if reason != "" {
			rejected[lease.Key] = reason
			continue
		}
		peers = append(peers, lease)
	}
	if !sorted {
		sortLeases(peers)
	}
	return dropIntruders(peers, rejected), rejected
}

func unfit(c *Config, own, l *Lease, hostAddrs []netip.Addr) string {
	switch {
	case !l.PublicIP.IsValid():
		return fmt.Sprintf("says nowhere where its host is reached by %v", c.family())
	case c.Outside(l.Subnet) && !slices.ContainsFunc(c.Others, func(p netip.Prefix) bool { return within(p, l.Subnet) }):
		return fmt.Sprintf("lies outside of the network %v", c.Network)
	case l.PublicIP == own.PublicIP && l.Expires.IsZero():
		return fmt.Sprintf("is reserved for the public IP %v, which is this host's own, and a start would not take it: "+
			"release one of this host's reservations, or what is in the way of this one", l.PublicIP)
	case l.PublicIP == own.PublicIP || slices.Contains(hostAddrs, l.PublicIP):
		return fmt.Sprintf("has the public IP %v, which is this host's own: a former lease of this host, which expires by "+
			"itself, or another host with the same --public-ip", l.PublicIP)
	case l.Subnet.Overlaps(own.Subnet):
		return fmt.Sprintf("overlaps this host's subnet %v", own.Subnet)
	case l.Subnet.Contains(l.PublicIP):
		return fmt.Sprintf("has the public IP %v, which lies within the subnet itself", l.PublicIP)
	}
	return ""
}

// dropIntruders leaves of leases that overlap those whose routes take nothing away
// from one that came first. The kernel takes the longest prefix, so a wider subnet
// takes nothing from a narrower one within, and the narrower all that both have.
func dropIntruders(peers []Lease, rejected map[string]string) []Lease {
	left := peers[:0]
	for len(peers) > 0 {
		n := 1 // those that overlap the first, which is the widest, come right after it
		for n < len(peers) && peers[n].Subnet.Overlaps(peers[0].Subnet) {
			n++
		}
		group := peers[:n]
		if n > 1 {
			group = settle(slices.Clone(group), rejected)
		}
		left, peers = append(left, group...), peers[n:]
	}
	return left
}

// settle is dropIntruders for leases that overlap one of them: the oldest comes first.
func settle(group []Lease, rejected map[string]string) (kept []Lease) {
	slices.SortFunc(group, func(a, b Lease) int {
		if older(&a, &b) {
			return -1
		}
		return 1
	})
next:
	for _, l := range group {
		for i := range kept {
			replaces, why := judge(&l, &kept[i])
			switch {
			case replaces && l.Modified > kept[i].Modified: // a host knows best what it wrote last
				kept[i] = l
				continue next
			case replaces:
				continue next
			case why != "":
				rejected[l.Key] = why
				continue next
			}
		}
		kept = append(kept, l)
	}
	sortLeases(kept)
	return kept
}

// judge says what is wrong with a lease beside one that came before, or that it says
// of the same host and subnet what that said. Subnets that begin at the same address
// have the same end of a tunnel, which is one host's.
func judge(l, before *Lease) (replaces bool, why string) {
	sameEnd := l.Subnet.Addr() == before.Subnet.Addr()
	switch {
	case !l.Subnet.Overlaps(before.Subnet):
	case l.PublicIP == before.PublicIP:
		replaces = l.Subnet == before.Subnet
		if !replaces && sameEnd && l.Attrs != before.Attrs {
			why = fmt.Sprintf("says something else of %v than its lease of %v does", l.PublicIP, before.Subnet)
		}
	case before.Subnet.Bits() <= l.Subnet.Bits():
		why = fmt.Sprintf("takes addresses from %v, which %v has leased before as %q",
			before.Subnet, before.PublicIP, Argument(before.Key))
	case sameEnd:
		why = fmt.Sprintf("begins at the same address as %v, which %v has leased before as %q",
			before.Subnet, before.PublicIP, Argument(before.Key))
	}
	return replaces, why
}
