package agent

import (
	"fmt"
	"net/netip"
	"slices"

	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
	"flanneld/pkg/underlay"
)

// dropSwallowed finds subnets that hold another peer's public IP, so that a route to
// the one would lead what is for the other into the network. One of the two leases is
// dropped. Where hosts' addresses lie among what may be leased, as this host's own do,
// or this host is connected to the network of the address, the public IP is right and
// the subnet is not. Elsewhere it is likely to be a
// container's, and the lease that was there first stands: nobody takes a subnet's
// routes away by a lease with an address from it.
func dropSwallowed(
	h underlay.Host, c subnet.Config, peers []subnet.Lease, rejected map[string]string,
) []subnet.Lease {
	within := func(l subnet.Lease) bool { return c.Network.Contains(l.PublicIP) }
	if !slices.ContainsFunc(peers, within) {
		return peers
	}
	amongHosts := slices.ContainsFunc(h.Within(c.Network), func(n underlay.Need) bool { return c.MayLease(n.Prefix) })
	bySubnet, lengths := make(map[netip.Prefix]*subnet.Lease, len(peers)), map[int]bool{}
	for i := range peers {
		bySubnet[peers[i].Subnet], lengths[peers[i].Subnet.Bits()] = &peers[i], true
	}
	drop := map[netip.Prefix]bool{}
	judge := func(host, holder *subnet.Lease) {
		switch {
		case holder == nil || !h.Leads(holder.Subnet, host.PublicIP):
		case amongHosts || h.Houses(host.PublicIP) || host.Created < holder.Created:
			drop[holder.Subnet] = true
			rejected[holder.Key] = fmt.Sprintf(
				"takes away %v, the public IP of the host with %v", host.PublicIP, host.Subnet)
		default:
			drop[host.Subnet] = true
			rejected[host.Key] = fmt.Sprintf(
				"has the public IP %v, which lies in the subnet %v of another host", host.PublicIP, holder.Subnet)
		}
	}
	for i := range peers {
		for bits := range lengths {
			judge(&peers[i], bySubnet[inet.Subnet(peers[i].PublicIP, bits)])
		}
	}
	return slices.DeleteFunc(peers, func(l subnet.Lease) bool { return drop[l.Subnet] })
}
