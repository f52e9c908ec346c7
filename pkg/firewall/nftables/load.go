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

var protocols = map[string]byte{
	"icmp": unix.IPPROTO_ICMP, "icmpv6": unix.IPPROTO_ICMPV6, "tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP,
}

// payload is bytes of the packet's headers.
func payload(p *rules.Packet, e *expr.Payload) field {
	h, bytes := headers[protocolOf(p)], fullyUnknown(int(e.Offset)+int(e.Len))
	put := func(offset uint32, value []byte) {
		if int(offset) < len(bytes.value) {
			copy(bytes.value[offset:], value)
			copy(bytes.known[offset:], fullyKnown(value).known)
		}
	}
	protocol, hasProtocol := protocols[p.Protocol]
	switch {
	case e.Base == expr.PayloadBaseNetworkHeader:
		if hasProtocol {
			put(h.protocol, []byte{protocol})
		}
		put(h.address(source), p.Src.AsSlice())
		put(h.address(destination), p.Dst.AsSlice())
	case e.Base == expr.PayloadBaseTransportHeader && p.DstPort != 0 && !strings.HasPrefix(p.Protocol, "icmp"):
		put(2, binary.BigEndian.AppendUint16(nil, uint16(p.DstPort)))
	}
	return field{bytes.value[e.Offset:], bytes.known[e.Offset:]}
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
		return fullyKnown([]byte{protocolOf(p)})
	case expr.MetaKeyPROTOCOL:
		return fullyKnown(etherTypes[protocolOf(p)])
	case expr.MetaKeyL4PROTO:
		if hasProtocol {
			return fullyKnown([]byte{protocol})
		}
	}
	return fullyUnknown(16)
}

// etherTypes are the families as a frame's header names them.
var etherTypes = map[byte][]byte{unix.NFPROTO_IPV4: {0x08, 0x00}, unix.NFPROTO_IPV6: {0x86, 0xdd}}

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
