package udptunnel

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Route says to which peer packets for the addresses in Dst go.
type Route struct {
	Dst netip.Prefix   // of IPv4
	To  netip.AddrPort // the peer's external address and UDP port
}

// target is a peer as sendmmsg(2) takes it.
type target = unix.RawSockaddrInet4

// table finds the route of the longest prefix. It never changes.
type table struct {
	lengths []prefixes // the longest first
}

// prefixes are those of one length.
type prefixes struct {
	mask uint32
	to   map[uint32]*target
}

func newTable(routes []Route) (*table, error) {
	t := &table{}
	byLength := map[int]prefixes{}
	targets := map[netip.AddrPort]*target{}
	for i, r := range routes {
		if !r.Dst.IsValid() || !r.Dst.Addr().Is4() || !r.To.Addr().Is4() || r.To.Port() == 0 {
			return nil, fmt.Errorf("route %d of %d, %v to %v: it takes an IPv4 prefix and an IPv4 address with a port",
				i+1, len(routes), r.Dst, r.To)
		}
		p, known := byLength[r.Dst.Bits()]
		if !known {
			p = prefixes{uint32(uint64(0xffffffff) << (32 - r.Dst.Bits())), map[uint32]*target{}}
			byLength[r.Dst.Bits()] = p
		}
		if targets[r.To] == nil {
			targets[r.To] = newTarget(r.To)
		}
		p.to[number(r.Dst.Addr())&p.mask] = targets[r.To]
	}
	for _, p := range byLength {
		t.lengths = append(t.lengths, p)
	}
	slices.SortFunc(t.lengths, func(a, b prefixes) int { return cmp.Compare(b.mask, a.mask) })
	return t, nil
}

// find is the peer for an address, or nil.
func (t *table) find(addr uint32) *target {
	for i := range t.lengths {
		if to := t.lengths[i].to[addr&t.lengths[i].mask]; to != nil {
			return to
		}
	}
	return nil
}

func newTarget(a netip.AddrPort) *target {
	t := &target{Family: unix.AF_INET, Addr: a.Addr().As4()}
	port := binary.BigEndian.AppendUint16(nil, a.Port())
	t.Port = binary.NativeEndian.Uint16(port)
	return t
}

// number is an IPv4 address as one.
func number(a netip.Addr) uint32 {
	b := a.As4()
	return be32(b[:])
}
