package udptunnel

import (
	"bytes"

	"golang.org/x/sys/unix"
)

const (
	mostMerged  = 128 // packets in one
	frontPieces = 2   // the device's header and the packet's, in front of the payload
)

// group is TCP segments that follow each other in one connection, merged to one large
// packet. The kernel, and whoever gets it, then has the work of one (see segments).
type group struct {
	vn      [headerSpace]byte
	pieces  [frontPieces + mostMerged]unix.Iovec
	first   []byte // the first packet, whose header becomes that of all
	header  int    // its length
	size    int    // of each one's payload but the last
	payload int
	packets int
	open    bool // more can follow
}

// mergeable is the length of the headers of a TCP segment that can be merged with
// others: with payload, nothing but an acknowledgement beside it, and a right checksum,
// because that of the whole will be right. Otherwise it is 0.
func mergeable(ip []byte) int {
	if ip[0] != 0x45 || ip[ipProtocol] != protocolTCP || be16(ip[ipFragment:])&^dontFragment != 0 ||
		len(ip) < ipShortest+tcpShortest {
		return 0
	}
	tcp := ip[ipShortest:]
	header := ipShortest + int(tcp[tcpOffset]>>4)*4
	if header < ipShortest+tcpShortest || header >= len(ip) || tcp[tcpFlags]&^flagPSH != flagACK ||
		fold(pseudo(ip)+uint64(len(tcp))+uint64(sum16(tcp))) != 0xffff {
		return 0
	}
	return header
}

// start makes the group one of this segment.
func (g *group) start(ip []byte, header int) {
	g.first, g.header, g.size, g.payload, g.packets = ip, header, len(ip)-header, 0, 0
	g.add(ip[header:], ip[ipShortest+tcpFlags])
}

func (g *group) add(payload []byte, flags byte) {
	g.pieces[frontPieces+g.packets] = vector(payload)
	g.packets++
	g.payload += len(payload)
	g.open = len(payload) == g.size && flags&flagPSH == 0 && g.packets < mostMerged
	if flags&flagPSH != 0 && g.packets > 1 {
		g.first[ipShortest+tcpFlags] |= flagPSH
	}
}

// related reports whether both are packets of one connection in one direction.
func (g *group) related(ip []byte) bool {
	return len(ip) >= ipShortest+4 && bytes.Equal(g.first[ipSource:ipShortest+4], ip[ipSource:ipShortest+4])
}

// takes reports whether a mergeable segment follows what is in the group, and is like it.
func (g *group) takes(ip []byte, header int) bool {
	f := g.first
	if !g.open || header != g.header || len(ip)-header > g.size || header+g.payload+len(ip)-header > 0xffff {
		return false
	}
	if f[1] != ip[1] || f[ipTTL] != ip[ipTTL] || be16(f[ipFragment:]) != be16(ip[ipFragment:]) ||
		be16(f[ipFragment:])&dontFragment == 0 && be16(f[ipID:])+uint16(g.packets) != be16(ip[ipID:]) {
		return false
	}
	a, b := f[ipShortest:header], ip[ipShortest:header]
	return be32(a[tcpSequence:])+uint32(g.payload) == be32(b[tcpSequence:]) &&
		bytes.Equal(a[8:tcpFlags], b[8:tcpFlags]) && // what is acknowledged, and the header's length
		bytes.Equal(a[14:16], b[14:16]) && // the window
		bytes.Equal(a[18:], b[18:]) // the urgent pointer, the options
}

// finish makes the packet of all, and returns it as a vector. A single segment stays
// as it came.
func (g *group) finish() []unix.Iovec {
	h := g.first[:g.header]
	clear(g.vn[:])
	if g.packets == 1 {
		g.vn[vnetFlags] = dataValid
	} else {
		total := g.header + g.payload
		put16(h[ipLength:], uint16(total))
		put16(h[ipChecksum:], 0)
		put16(h[ipChecksum:], ^sum16(h[:ipShortest]))
		put16(h[ipShortest+tcpChecksum:], fold(pseudo(h)+uint64(total-ipShortest)))
		g.vn[vnetFlags], g.vn[vnetKind] = needsChecksum, gsoTCP4
		putVnet(g.vn[:], vnetHeader, g.header)
		putVnet(g.vn[:], vnetSize, g.size)
		putVnet(g.vn[:], vnetStart, ipShortest)
		putVnet(g.vn[:], vnetOffset, tcpChecksum)
	}
	g.pieces[0], g.pieces[1] = vector(g.vn[:]), vector(h)
	return g.pieces[:frontPieces+g.packets]
}
