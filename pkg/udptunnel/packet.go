package udptunnel

import (
	"encoding/binary"
)

// Offsets in an IPv4 header (RFC 791, 3.1), of TCP's (RFC 9293, 3.1) and of UDP's
// (RFC 768), as far as they are needed.
const (
	ipLength   = 2
	ipID       = 4
	ipFragment = 6
	ipTTL      = 8
	ipProtocol = 9
	ipChecksum = 10
	ipSource   = 12
	ipTarget   = 16
	ipShortest = 20

	dontFragment  = 0x4000
	moreFragments = 0x2000
	fragmentAt    = 0x1fff

	tcpSequence = 4
	tcpOffset   = 12
	tcpFlags    = 13
	tcpChecksum = 16
	tcpShortest = 20

	flagFIN, flagPSH, flagACK, flagCWR = 0x01, 0x08, 0x10, 0x80

	udpLength   = 4
	udpChecksum = 6
	udpHeader   = 8

	protocolICMP, protocolTCP, protocolUDP = 1, 6, 17
)

func be16(b []byte) uint16       { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32       { return binary.BigEndian.Uint32(b) }
func put16(b []byte, v uint16)   { binary.BigEndian.PutUint16(b, v) }
func put32(b []byte, v uint32)   { binary.BigEndian.PutUint32(b, v) }
func words(v uint32) uint64      { return uint64(v>>16) + uint64(v&0xffff) }
func headerLength(ip []byte) int { return int(ip[0]&0xf) * 4 }

// valid reports whether the bytes are one IPv4 packet, to its last byte and no
// further, with a right header checksum, from one host to another. That is all that
// anybody may make the kernel believe to have arrived on the device.
func valid(ip []byte) bool {
	if len(ip) < ipShortest || ip[0]>>4 != 4 {
		return false
	}
	header := headerLength(ip)
	return header >= ipShortest && header <= len(ip) && int(be16(ip[ipLength:])) == len(ip) &&
		sum16(ip[:header]) == 0xffff && ofHost(be32(ip[ipSource:])) && ofHost(be32(ip[ipTarget:]))
}

// ofHost reports whether an address can be a single host's: neither multicast nor
// the networks 0 and 127 (RFC 1122, 3.2.1.3), nor what is reserved or a broadcast.
func ofHost(addr uint32) bool {
	first := addr >> 24
	return first != 0 && first != 127 && first < 224
}

// step takes the packet's time to live down by one and puts its checksum right
// (RFC 1624). It reports false, and changes nothing, where the time ends.
func step(ip []byte) bool {
	if ip[ipTTL] <= 1 {
		return false
	}
	ip[ipTTL]--
	sum := uint32(be16(ip[ipChecksum:])) + 1<<8
	if sum >= 0xffff {
		sum++
	}
	put16(ip[ipChecksum:], uint16(sum))
	return true
}

// pseudo is the sum of the pseudo-header of TCP and UDP but for the length.
func pseudo(ip []byte) uint64 {
	return words(be32(ip[ipSource:])) + words(be32(ip[ipTarget:])) + uint64(ip[ipProtocol])
}
