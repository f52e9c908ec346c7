package subnet

import (
	"fmt"
	"net/netip"
	"slices"
)

// Peers picks from the leases those that may reach the kernel: one subnet of
// the configured network and length each, seen as the config's family sees it, not
// ours and not overlapping ours, held by a host that is not this one. The others
// come back by key with what is wrong with them. hostAddrs are this host's own
// addresses; refuse says what else is wrong with a lease, "": nothing; nil: with
// none. The peers take the leases' place: there may be thousands.
func Peers(
	c Config, own Lease, leases []Lease, hostAddrs []netip.Addr, refuse func(*Lease) string,
) (peers []Lease, rejected map[string]string) {
	rejected = map[string]string{}
	peers = leases[:0]
	family := c.family()
	for i := range leases {
		lease, ok := leases[i].For(family)
		if !ok || lease.Subnet == own.Subnet {
			continue
		}
		reason := unfit(&c, &own, &lease, hostAddrs)
		if reason == "" && refuse != nil {
			reason = refuse(&lease)
		}
		if reason != "" {
			rejected[Key(lease.Subnet)] = reason
			continue
		}
		peers = append(peers, lease)
	}
	return peers, rejected
}

func unfit(c *Config, own, l *Lease, hostAddrs []netip.Addr) string {
	switch {
	case !c.Network.Contains(l.Subnet.Addr()) || l.Subnet.Bits() < c.Network.Bits():
		return fmt.Sprintf("lies outside of the network %v", c.Network)
	case l.Subnet.Overlaps(own.Subnet):
		return fmt.Sprintf("overlaps this host's subnet %v", own.Subnet)
	case l.Subnet.Bits() != c.SubnetLen:
		return fmt.Sprintf("is not a /%d, the length in the config", c.SubnetLen)
	case l.Subnet.Contains(l.PublicIP):
		return fmt.Sprintf("has the public IP %v, which lies within the subnet itself", l.PublicIP)
	case l.PublicIP == own.PublicIP || slices.Contains(hostAddrs, l.PublicIP):
		return fmt.Sprintf("has the public IP %v, which is this host's own: a former lease of this host, which expires by "+
			"itself, or another host with the same --public-ip", l.PublicIP)
	}
	return ""
}
