package udptunnel

import (
	"encoding/binary"

	"flanneld/pkg/tun"
)

// Values in a struct virtio_net_hdr, by its offsets (linux/virtio_net.h).
const (
	vnetFlags  = 0
	vnetKind   = 1
	vnetHeader = 2
	vnetSize   = 4
	vnetStart  = 6
	vnetOffset = 8

	needsChecksum = 1
	dataValid     = 2

	gsoNone = 0
	gsoTCP4 = 1
	gsoUDP  = 5
)

func vnet(b []byte, offset int) int { return int(binary.NativeEndian.Uint16(b[offset:])) }

func putVnet(b []byte, offset, v int) { binary.NativeEndian.PutUint16(b[offset:], uint16(v)) }

// complete computes the checksum that the kernel has left to the device: over all
// from start on, put where it says. The pseudo-header's sum is there already.
func complete(vn, ip []byte) bool {
	if vn[vnetFlags]&needsChecksum == 0 {
		return true
	}
	start := vnet(vn, vnetStart)
	at := start + vnet(vn, vnetOffset)
	if start < ipShortest || at+2 > len(ip) {
		return false
	}
	sum := ^sum16(ip[start:])
	if sum == 0 && ip[ipProtocol] == protocolUDP {
		sum = 0xffff // 0 says that there is none
	}
	put16(ip[at:], sum)
	return true
}

// segments is a large packet that the kernel has left to the device to cut into
// packets with a header each (Documentation/networking/segmentation-offloads.rst).
type segments struct {
	header  []byte // of IP and TCP or UDP
	payload []byte
	size    int // of each packet's payload but the last
	ip      int // length of IP's header

	ipSum, innerSum uint64 // of what is the same in all headers
}

// cut reads the headers of a large packet.
func cut(vn, packet []byte) (s segments, ok bool) {
	s.ip, s.size = headerLength(packet), vnet(vn, vnetSize)
	inner := packet[s.ip:]
	length := 0
	switch kind := vn[vnetKind]; {
	case kind == gsoTCP4 && packet[ipProtocol] == protocolTCP && len(inner) >= tcpShortest:
		length = int(inner[tcpOffset]>>4) * 4
		if length < tcpShortest {
			return s, false
		}
	case kind == gsoUDP && packet[ipProtocol] == protocolUDP:
		length = udpHeader
	default:
		return s, false
	}
	if len(inner) <= length || s.size == 0 {
		return s, false
	}
	s.header, s.payload = packet[:s.ip+length], inner[length:]
	s.sums()
	return s, true
}

// sums computes what all segments' checksums have in common, with zeroes where they differ.
func (s *segments) sums() {
	var same [2 * 60]byte
	h := same[:copy(same[:], s.header)]
	put16(h[ipLength:], 0)
	put16(h[ipID:], 0)
	put16(h[ipChecksum:], 0)
	s.ipSum = uint64(sum16(h[:s.ip]))
	inner := h[s.ip:]
	if h[ipProtocol] == protocolTCP {
		put32(inner[tcpSequence:], 0)
		inner[tcpFlags] = 0
		put16(inner[tcpChecksum:], 0)
	} else {
		put16(inner[udpLength:], 0)
		put16(inner[udpChecksum:], 0)
	}
	s.innerSum = pseudo(h) + uint64(sum16(inner))
}

// count is the number of packets.
func (s *segments) count() int { return (len(s.payload) + s.size - 1) / s.size }

// segment writes the header of packet i into h, and returns its payload.
func (s *segments) segment(h []byte, i int) []byte {
	from := i * s.size
	payload := s.payload[from:min(from+s.size, len(s.payload))]
	copy(h, s.header)
	total, id := len(h)+len(payload), be16(h[ipID:])+uint16(i)
	put16(h[ipLength:], uint16(total))
	put16(h[ipID:], id)
	put16(h[ipChecksum:], ^fold(s.ipSum+uint64(total)+uint64(id)))

	inner, length := h[s.ip:], len(h)-s.ip+len(payload)
	sum := s.innerSum + uint64(length) + uint64(sum16(payload))
	if h[ipProtocol] == protocolUDP {
		put16(inner[udpLength:], uint16(length))
		check := ^fold(sum + uint64(length))
		if check == 0 {
			check = 0xffff
		}
		put16(inner[udpChecksum:], check)
		return payload
	}
	sequence, flags := be32(inner[tcpSequence:])+uint32(from), inner[tcpFlags]
	if from+len(payload) < len(s.payload) {
		flags &^= flagFIN | flagPSH
	}
	if i > 0 {
		flags &^= flagCWR
	}
	put32(inner[tcpSequence:], sequence)
	inner[tcpFlags] = flags
	put16(inner[tcpChecksum:], ^fold(sum+words(sequence)+uint64(flags)))
	return payload
}

// headerSpace is the length of the header in front of each packet of the device.
const headerSpace = tun.HeaderLen
