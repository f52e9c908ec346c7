package subnet

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"
)

// Self is what a host knows of itself, by which it tells its lease from others'.
type Self struct {
	PublicIP netip.Addr
	Addrs    []netip.Addr   // of its interfaces, but for Inside
	Inside   []netip.Addr   // of its tunnels' devices and its containers' bridges
	VTEPs    []string       // MACs of its tunnels' devices, as Attrs.VTEP has them
	Subnets  []netip.Prefix // that it has worked with: the subnet file's, the one that it holds
}

// Equal tells whether both know the same.
func (s Self) Equal(o Self) bool {
	return s.PublicIP == o.PublicIP && slices.Equal(s.Addrs, o.Addrs) && slices.Equal(s.Inside, o.Inside) &&
		slices.Equal(s.VTEPs, o.VTEPs) && slices.Equal(s.Subnets, o.Subnets)
}

// Evidence is what speaks for a lease being a host's.
type Evidence int

// The evidence, in the order of its strength.
const (
	NoEvidence Evidence = iota
	// Hint is a reason to ask: a copy of a virtual machine has all that its original
	// has but for the address. Who holds the lease and lives answers.
	Hint
	// Proof is our public IP. Two hosts that have the same are told of each other.
	Proof
)

// Evidence is all there is for a lease, in this one place:
//
//   - It has our public IP: proof.
//   - This host has worked with its subnet (the subnet file names it, or a tunnel's device or
//     a bridge of ours has an address of it), and it has the MAC of a tunnel's device of ours,
//     whatever else that device was made for: a hint.
//   - The same, and it has an address of another of our interfaces: a hint.
//
// A subnet, a MAC or such an address alone is none: subnet files are copied, MACs follow from
// machine IDs that are, and behind NAT many hosts have the same address.
func (s Self) Evidence(l *Lease) Evidence {
	switch {
	case l.PublicIP == s.PublicIP:
		return Proof
	case !s.workedIn(l.Subnet):
		return NoEvidence
	case slices.Contains(s.Addrs, l.PublicIP) && !everybodys(l.PublicIP):
		return Hint
	}
	if mac := l.VTEP(); mac != "" && slices.Contains(s.VTEPs, mac) {
		return Hint
	}
	return NoEvidence
}

func (s Self) workedIn(p netip.Prefix) bool {
	return slices.Contains(s.Subnets, p) || slices.ContainsFunc(s.Inside, p.Contains)
}

// everybodys tells addresses that many hosts have at a time: the guests' behind the NAT
// of VirtualBox and of QEMU, and those that mean the same on each host.
func everybodys(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || guests.Contains(ip)
}

var guests = netip.MustParsePrefix("10.0.2.0/24") // qemu(1), "-netdev user"; VirtualBox's manual, 6.3

// VTEP is the MAC of the lease's tunnel device, as package net writes it; empty: it has none.
func (a Attrs) VTEP() string {
	var data struct{ VtepMAC string }
	if a.BackendData == "" || json.Unmarshal([]byte(a.BackendData), &data) != nil {
		return ""
	}
	mac, err := net.ParseMAC(data.VtepMAC)
	if err != nil || len(mac) != 6 {
		return ""
	}
	return mac.String()
}

// self is what speaks for this host's leases.
func (h *leaseHolder) self(c Claim) Self {
	s := c.Self
	s.PublicIP = c.Attrs.PublicIP
	s.Subnets = append(slices.Clip(s.Subnets), h.previous, h.own.Subnet)
	if mac := c.Attrs.VTEP(); mac != "" {
		s.VTEPs = append(slices.Clip(s.VTEPs), mac)
	}
	return s
}

// evidence is that for a lease, but for hints that have turned out to be wrong.
func (h *leaseHolder) evidence(c Claim, l *Lease) Evidence { return h.weigh(h.self(c), l) }

func (h *leaseHolder) weigh(self Self, l *Lease) Evidence {
	e := self.Evidence(l)
	if e == Hint && h.living[l.Key] == l.PublicIP {
		return NoEvidence
	}
	return e
}
