package nftables

import (
	"encoding/binary"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// Bits of a connection's status, as the kernel has them.
const (
	statusSNAT = 0x10
	statusDNAT = 0x20
	// statusLow are the bits that are 0 in a new connection. Those from 0x40 on
	// change while the kernel processes it.
	statusLow = 0x3f
)

var protocols = map[string]byte{"icmp": unix.IPPROTO_ICMP, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}

// isIPv6 reports whether the packet has an IPv6 address.
func isIPv6(p *rules.Packet) bool { return p.Src.Is6() || p.Dst.Is6() }

// payload is bytes of the packet's headers.
func payload(p *rules.Packet, e *expr.Payload) field {
	header := fullyUnknown(int(e.Offset) + int(e.Len))
	put := func(offset int, value []byte) {
		if offset < len(header.value) {
			copy(header.value[offset:], value)
			copy(header.known[offset:], fullyKnown(value).known)
		}
	}
	protocol, hasProtocol := protocols[p.Protocol]
	switch {
	case e.Base == expr.PayloadBaseNetworkHeader && isIPv6(p):
		if hasProtocol {
			put(6, []byte{protocol})
		}
		put(8, p.Src.AsSlice())
		put(24, p.Dst.AsSlice())
	case e.Base == expr.PayloadBaseNetworkHeader:
		if hasProtocol {
			put(9, []byte{protocol})
		}
		put(12, p.Src.AsSlice())
		put(16, p.Dst.AsSlice())
	case e.Base == expr.PayloadBaseTransportHeader && p.DstPort != 0 && p.Protocol != "icmp":
		put(2, binary.BigEndian.AppendUint16(nil, uint16(p.DstPort)))
	}
	return field{header.value[e.Offset:], header.known[e.Offset:]}
}

// meta is what the kernel knows about a packet beside its contents. An interface that
// a packet does not have has an empty name and the index 0.
func (h *host) meta(p *rules.Packet, key expr.MetaKey) field {
	protocol, hasProtocol := protocols[p.Protocol]
	switch key {
	case expr.MetaKeyIIFNAME:
		return fullyKnown(interfaceName(p.In))
	case expr.MetaKeyOIFNAME:
		return fullyKnown(interfaceName(p.Out))
	case expr.MetaKeyIIF:
		return h.index(p.In)
	case expr.MetaKeyOIF:
		return h.index(p.Out)
	case expr.MetaKeyMARK:
		return fullyKnown(native(p.Mark))
	case expr.MetaKeyNFPROTO:
		if isIPv6(p) {
			return fullyKnown([]byte{unix.NFPROTO_IPV6})
		}
		return fullyKnown([]byte{unix.NFPROTO_IPV4})
	case expr.MetaKeyPROTOCOL:
		if isIPv6(p) {
			return fullyKnown([]byte{0x86, 0xdd})
		}
		return fullyKnown([]byte{0x08, 0x00})
	case expr.MetaKeyL4PROTO:
		if hasProtocol {
			return fullyKnown([]byte{protocol})
		}
	}
	return fullyUnknown(16)
}

// index is the index of an interface.
func (h *host) index(name string) field {
	if name == "" {
		return fullyKnown(native(0))
	}
	if index, exists := h.indexes[name]; exists {
		return fullyKnown(native(uint32(index)))
	}
	return fullyUnknown(4)
}

// connection is what the kernel knows about the packet's connection. A new one has had
// no reply yet, and no translation.
func connection(p *rules.Packet, key expr.CtKey) field {
	isNew := p.State == "NEW"
	switch key {
	case expr.CtKeySTATE:
		for _, s := range connectionStates {
			if strings.EqualFold(s.name, p.State) {
				return fullyKnown(native(s.value))
			}
		}
	case expr.CtKeySTATUS:
		if isNew {
			return field{native(0), native(statusLow)}
		}
	case expr.CtKeyDIRECTION:
		if isNew {
			return fullyKnown([]byte{0})
		}
	}
	return fullyUnknown(16)
}

// route is the type of an address in the routing table.
func route(p *rules.Packet, e *expr.Fib) field {
	address, local := p.Dst, p.Local
	if e.FlagSADDR {
		address, local = p.Src, p.In == ""
	}
	if !e.ResultADDRTYPE || e.FlagSADDR == e.FlagDADDR || !address.IsValid() {
		return fullyUnknown(16)
	}
	kind := uint32(unix.RTN_UNICAST)
	switch {
	case local:
		kind = unix.RTN_LOCAL
	case address.IsMulticast():
		kind = unix.RTN_MULTICAST
	case address.Is4() && address.As4() == [4]byte{255, 255, 255, 255}:
		kind = unix.RTN_BROADCAST
	}
	return fullyKnown(native(kind))
}
