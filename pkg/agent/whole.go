package agent

import (
	"net/netip"
	"slices"

	"flanneld/pkg/subnet"
)

// whole tells whether one route may lead to a family's whole network: nothing that this host needs is
// reached by addresses there, and no host that is a peer. A network that the host is connected to may lie
// within, as its own route is longer.
func (a *Agent) whole(h half, peers []subnet.Lease) bool {
	n, host := h.config.Network, a.beneath.host
	around := func(p netip.Prefix) bool { return p.Bits() <= n.Bits() && p.Overlaps(n) }
	for _, need := range host.Networks() {
		if around(need.Prefix) {
			return false
		}
	}
	if a.harmful(n) || len(a.otherNetworks()) > 0 ||
		slices.ContainsFunc(a.suspects.held, func(s suspect) bool { return n.Overlaps(s.dst) }) {
		return false
	}
	return !slices.ContainsFunc(peers, func(p subnet.Lease) bool {
		return n.Contains(p.PublicIP) && host.Leads(n, p.PublicIP)
	})
}
