package firewalltest

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// Addr is the counterpart of an IPv4 address in a family: 172.7.21.2 is
// fc00:ac:7:15::2. Counterparts lie in each other as the originals do.
func Addr(f inet.Family, a netip.Addr) netip.Addr {
	switch {
	case f == inet.IPv4 || !a.IsValid():
		return a
	case a.IsLoopback():
		return netip.IPv6Loopback()
	}
	in, out := a.As4(), [16]byte{0: 0xfc}
	if a.IsMulticast() {
		out[0], out[1] = 0xff, 0x02
	}
	out[3], out[5], out[7], out[15] = in[0], in[1], in[2], in[3]
	return netip.AddrFrom16(out)
}

var multicast = netip.MustParsePrefix("224.0.0.0/4")

// Prefix is the counterpart of a network.
func Prefix(f inet.Family, p netip.Prefix) netip.Prefix {
	whole, rest := p.Bits()/8, p.Bits()%8
	bits := 16 + 16*whole
	switch {
	case f == inet.IPv4 || !p.IsValid():
		return p
	case p == multicast:
		return netip.MustParsePrefix("ff00::/8")
	case p.Bits() == 0:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	case whole == 4, p.Addr().IsLoopback():
		bits = 128
	case whole == 3 && rest > 0:
		bits = 120 + rest
	case rest > 0:
		bits += 8 + rest
	}
	return netip.PrefixFrom(Addr(f, p.Addr()), bits)
}

// Wanted is the counterpart of what is wanted.
func Wanted(f inet.Family, w rules.Wanted) rules.Wanted {
	w.Network, w.Subnet, w.Former = Prefix(f, w.Network), Prefix(f, w.Subnet), Prefix(f, w.Former)
	w.Peers = slices.Clone(w.Peers)
	for i, p := range w.Peers {
		w.Peers[i].Subnet, w.Peers[i].Host = Prefix(f, p.Subnet), Addr(f, p.Host)
	}
	return w
}

// Packet is the counterpart of a packet.
func Packet(f inet.Family, p rules.Packet) rules.Packet {
	p.Src, p.Dst = Addr(f, p.Src), Addr(f, p.Dst)
	if f == inet.IPv6 && p.Protocol == "icmp" {
		p.Protocol = "icmpv6"
	}
	return p
}

var (
	addresses = regexp.MustCompile(`\b\d{1,3}(\.\d{1,3}){3}(/\d{1,2})?\b`)
	words     = strings.NewReplacer(
		"icmp-host-prohibited", "icmp6-adm-prohibited", "icmp-port-unreachable", "icmp6-port-unreachable",
		"-p icmp ", "-p ipv6-icmp ",
	)
)

// In is what iptables prints of IPv4 as it prints it of a family.
func In(f inet.Family, text string) string {
	if f == inet.IPv4 {
		return text
	}
	return addresses.ReplaceAllStringFunc(words.Replace(text), func(s string) string {
		if p, err := netip.ParsePrefix(s); err == nil {
			return Prefix(f, p).String()
		}
		if a, err := netip.ParseAddr(s); err == nil {
			return Addr(f, a).String()
		}
		return s
	})
}

// All are the lines of all parts in a family, without blank ones.
func All(f inet.Family, parts ...string) []string { return Lines(In(f, strings.Join(parts, "\n"))) }
