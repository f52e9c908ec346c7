package inet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Last is a network's last address.
func Last(p netip.Prefix) netip.Addr {
	f := Of(p.Addr())
	return f.addr(last(p, f))
}

// Subnet is the network of a length that an address lies in.
func Subnet(a netip.Addr, length int) netip.Prefix { return netip.PrefixFrom(a, length).Masked() }

// Next is the network of the same length that begins where p ends; false: the
// family has no address behind p.
func Next(p netip.Prefix) (netip.Prefix, bool) {
	f := Of(p.Addr())
	begin := f.addr(last(p, f).plusOne())
	return netip.PrefixFrom(begin, p.Bits()), p.Addr().Less(begin)
}

// NoHost says what an address is to a network, where no host can have it (RFC 919,
// RFC 1122 3.2.1.3); "": a host can. Networks of two addresses have none such (RFC
// 3021), nor has IPv6 a broadcast address.
func NoHost(p netip.Prefix, a netip.Addr) string {
	switch {
	case Of(p.Addr()) != IPv4 || p.Bits() > 30:
	case a == Last(p):
		return "the broadcast address"
	case a == p.Masked().Addr():
		return "the network address"
	}
	return ""
}

func last(p netip.Prefix, f Family) uint128 {
	n, host := number(p.Addr()), one.shift(f.Bits()-p.Bits()).minusOne()
	return uint128{n.hi | host.hi, n.lo | host.lo}
}

// uint128 is an address as a number.
type uint128 struct{ hi, lo uint64 }

var one = uint128{lo: 1}

func number(a netip.Addr) uint128 {
	if a.Is4() {
		b := a.As4()
		return uint128{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return uint128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addr takes the lower bits, as many as an address has.
func (f Family) addr(n uint128) netip.Addr {
	if f == IPv4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}

// shift is to the left. In Go, what is shifted by 64 and more is 0.
func (n uint128) shift(by int) uint128 {
	if by >= 64 {
		return uint128{hi: n.lo << (by - 64)}
	}
	return uint128{n.hi<<by | n.lo>>(64-by), n.lo << by}
}

// plusOne goes on at 0 behind the last number.
func (n uint128) plusOne() uint128 {
	lo, carry := bits.Add64(n.lo, 1, 0)
	return uint128{n.hi + carry, lo}
}

func (n uint128) minusOne() uint128 {
	lo, borrow := bits.Sub64(n.lo, 1, 0)
	return uint128{n.hi - borrow, lo}
}
