package subnet

import (
	"encoding/json"
	"net"
	"net/netip"
	"slices"

	"flanneld/pkg/inet"
)

// Self is what a host knows of itself, by which it tells its lease from others'.
type Self struct {
	PublicIPs []netip.Addr   // one of each family that is known
	Addrs     []netip.Addr   // of its interfaces, but for Inside
	Inside    []netip.Addr   // of its tunnels' devices and its containers' bridges
	VTEPs     []string       // MACs of its tunnels' devices, as Attrs.VTEP has them
	Subnets   []netip.Prefix // that it has worked with: the subnet file's, the one that it holds
}

// Equal tells whether both know the same.
func (s Self) Equal(o Self) bool {
	return slices.Equal(s.PublicIPs, o.PublicIPs) && slices.Equal(s.Addrs, o.Addrs) && slices.Equal(s.Inside, o.Inside) &&
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
//   - It has our public IP: proof. Of two families the first one that both know decides.
//   - This host has worked with its subnet (the subnet file names it, or a tunnel's device or
//     a bridge of ours has an address of it), and it has the MAC of a tunnel's device of ours,
//     whatever else that device was made for: a hint.
//   - The same, and it has an address of another of our interfaces: a hint.
//
// A subnet, a MAC or such an address alone is none: subnet files are copied, MACs follow from
// machine IDs that are, and behind NAT many hosts have the same address.
func (s Self) Evidence(l *Lease) Evidence {
	worked := slices.ContainsFunc(l.Subnets().All(), s.workedIn)
	switch {
	case s.holds(l):
		return Proof
	case !worked:
		return NoEvidence
	}
	for _, e := range []Endpoint{l.first(), l.IPv6} {
		if slices.Contains(s.Addrs, e.PublicIP) && !everybodys(e.PublicIP) {
			return Hint
		}
		if mac := e.VTEP(); mac != "" && slices.Contains(s.VTEPs, mac) {
			return Hint
		}
	}
	return NoEvidence
}

func (s Self) holds(l *Lease) bool {
	for _, ip := range s.PublicIPs {
		if e, ok := l.Of(inet.Of(ip)); ok {
			return e.PublicIP == ip
		}
	}
	return false
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

// VTEP is that of the first family's endpoint.
func (a Attrs) VTEP() string { return a.first().VTEP() }

// VTEP is the MAC of the tunnel's device, as package net writes it; empty: there is none.
func (a Endpoint) VTEP() string {
	if a.BackendData == "" {
		return ""
	}
	var data struct{ VtepMAC string }
	if json.Unmarshal([]byte(a.BackendData), &data) != nil {
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
	s.PublicIPs = nil
	s.Subnets, s.VTEPs = slices.Concat(s.Subnets, h.previous.All(), h.own.Subnets().All()), slices.Clip(s.VTEPs)
	for _, e := range []Endpoint{c.Attrs.first(), c.Attrs.IPv6} {
		if e.PublicIP.IsValid() {
			s.PublicIPs = append(s.PublicIPs, e.PublicIP)
		}
		if mac := e.VTEP(); mac != "" {
			s.VTEPs = append(s.VTEPs, mac)
		}
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
