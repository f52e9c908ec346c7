package agent

import (
	"slices"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/underlay"
)

// selfOf is what the interfaces and the subnet file tell of a host.
func selfOf(hosts []backend.Host, file subnet.Subnets) subnet.Self {
	s := subnet.Self{Subnets: file.All()}
	outward := map[string]bool{}
	for _, h := range hosts {
		s.PublicIPs = append(s.PublicIPs, h.PublicIP)
		outward[h.Link.Name] = true
	}
	links := hosts[0].Links
	for _, l := range links {
		if l.Tunnel() && l.MAC.Unicast() {
			s.VTEPs = append(s.VTEPs, l.MAC.String())
		}
		ips := addrs([]kernel.Link{l})
		if l.Tunnel() || !outward[l.Name] && underlay.ContainersOnly(l, links) {
			s.Inside = append(s.Inside, ips...)
		} else {
			s.Addrs = append(s.Addrs, ips...)
		}
	}
	return s
}

// formerLease is the lease that a host holds, or held before this run as far as there is
// evidence of at least that strength; zero: none.
func formerLease(view subnet.View, self subnet.Self, least subnet.Evidence) (former subnet.Lease) {
	if view.Own.Subnet.IsValid() {
		return view.Own
	}
	best := subnet.NoEvidence
	for i := range view.Leases {
		l := &view.Leases[i]
		if e := self.Evidence(l); e >= least && e > best && (e == subnet.Proof || !view.Living[l.Key]) {
			best, former = e, *l
		}
	}
	return former
}

// others tells the MACs in other hosts' leases.
func others(view subnet.View, self subnet.Self) func(kernel.MAC) bool {
	return func(m kernel.MAC) bool {
		return slices.ContainsFunc(view.Leases, func(l subnet.Lease) bool {
			e := self.Evidence(&l)
			ours := e == subnet.Proof || e == subnet.Hint && !view.Living[l.Key] || l.Key == view.Own.Key
			return !ours && (l.VTEP() == m.String() || l.IPv6.VTEP() == m.String())
		})
	}
}

// claims tells whether a claim is news: a changed lease, also in what it says of the setups beside, or while
// there is none, anything.
func (a *Agent) claims(c subnet.Claim, view subnet.View) bool {
	return a.claimedFor != a.next || a.claimed.Attrs != c.Attrs || !slices.Equal(a.claimed.Reserved, c.Reserved) ||
		!view.Own.Subnet.IsValid() && !a.claimed.Self.Equal(c.Self)
}
