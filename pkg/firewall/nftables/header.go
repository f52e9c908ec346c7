package nftables

import (
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// families are those that are read, by the kernel's numbers: packets of IPv4 pass
// through the first and the last, those of IPv6 through the other two.
var families = map[byte]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet"}

// header is where a family's network header has what rules ask for, in bytes.
type header struct {
	protocol uint32 // the offset of the next header's number
	source   uint32 // of the first address, which the second one follows
	size     uint32 // of an address
}

var headers = map[byte]header{
	unix.NFPROTO_IPV4: {protocol: 9, source: 12, size: 4},
	unix.NFPROTO_IPV6: {protocol: 6, source: 8, size: 16},
}

// end is one of the two addresses of a packet.
type end int

const (
	source end = iota
	destination
)

// address is the offset of an address.
func (h header) address(which end) uint32 { return h.source + uint32(which)*h.size }

// prefix is the address whose first bytes are these, and how many bits are known so.
func (h header) prefix(first []byte) netip.Prefix {
	bytes := make([]byte, h.size)
	n := copy(bytes, first)
	a, _ := netip.AddrFromSlice(bytes)
	return netip.PrefixFrom(a, n*8)
}

// protocolOf is the kernel's number of a packet's family.
func protocolOf(p *rules.Packet) byte { return byte(tableFamily(p.Family())) }

// tableFamily is the family of tables that see only packets of f.
func tableFamily(f inet.Family) nftables.TableFamily {
	if f == inet.IPv6 {
		return nftables.TableFamilyIPv6
	}
	return nftables.TableFamilyIPv4
}
