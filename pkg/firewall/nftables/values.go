package nftables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// How values are printed, as nft does.

func quoted(name []byte) string {
	text := textOf(name)
	if len(name) > 0 && name[len(name)-1] != 0 && len(name) < unix.IFNAMSIZ {
		text += "*"
	}
	return `"` + text + `"`
}

func (h *host) nameOf(index []byte) string {
	for name, i := range h.indexes {
		if bytes.Equal(index, native(uint32(i))) {
			return `"` + textOf([]byte(name)) + `"`
		}
	}
	return decimalNative(index)
}

// show prints an address of which a rule compares size bytes.
func (h header) show(size uint32) func([]byte) string {
	return func(value []byte) string {
		text := h.prefix(value).Addr().String()
		if size < h.size {
			text += "/" + strconv.Itoa(int(size)*8)
		}
		return text
	}
}

func decimal(value []byte) string {
	var n uint64
	for _, b := range value {
		n = n<<8 | uint64(b)
	}
	return strconv.FormatUint(n, 10)
}

func nativeNumber(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

func decimalNative(value []byte) string {
	return strconv.FormatUint(uint64(nativeNumber(value)), 10)
}

func number(value []byte) string { return fmt.Sprintf("0x%08x", nativeNumber(value)) }

func protocolName(value []byte) string {
	for name, n := range protocols {
		if bytes.Equal(value, []byte{n}) && name == "icmpv6" {
			return "ipv6-icmp"
		} else if bytes.Equal(value, []byte{n}) {
			return name
		}
	}
	return decimal(value)
}

func familyName(value []byte) string {
	switch {
	case bytes.Equal(value, []byte{unix.NFPROTO_IPV4}):
		return "ipv4"
	case bytes.Equal(value, []byte{unix.NFPROTO_IPV6}):
		return "ipv6"
	}
	return decimal(value)
}

func etherTypeName(value []byte) string {
	for family, kind := range etherTypes {
		if bytes.Equal(value, kind) {
			return families[family]
		}
	}
	return decimal(value)
}

func routeKind(value []byte) string {
	names := map[uint32]string{
		unix.RTN_UNICAST: "unicast", unix.RTN_LOCAL: "local",
		unix.RTN_BROADCAST: "broadcast", unix.RTN_MULTICAST: "multicast",
	}
	if name, known := names[nativeNumber(value)]; known {
		return name
	}
	return decimalNative(value)
}

type bit struct {
	value uint32
	name  string
}

var connectionStates = []bit{
	{expr.CtStateBitINVALID, "invalid"}, {expr.CtStateBitESTABLISHED, "established"},
	{expr.CtStateBitRELATED, "related"}, {expr.CtStateBitNEW, "new"}, {expr.CtStateBitUNTRACKED, "untracked"},
}

func states(value []byte) string { return bits(value, connectionStates) }

func statuses(value []byte) string {
	return bits(value, []bit{{statusSNAT, "snat"}, {statusDNAT, "dnat"}})
}

// bits are the names of the bits that are set.
func bits(value []byte, names []bit) string {
	n := nativeNumber(value)
	var out []string
	for _, b := range names {
		if n&b.value != 0 {
			n &^= b.value
			out = append(out, b.name)
		}
	}
	if n != 0 || len(out) == 0 {
		out = append(out, fmt.Sprintf("0x%x", n))
	}
	return strings.Join(out, ",")
}

func allZero(b []byte) bool { return bytes.Count(b, []byte{0}) == len(b) }

func isComplement(a, b []byte) bool {
	for i := range a {
		if i >= len(b) || a[i] != ^b[i] {
			return false
		}
	}
	return true
}
