package nftables

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// An expression of a rule is one of the library's, or one of these.
type (
	// inert does nothing to where the packet goes, such as a counter.
	inert struct{ name string }
	// unknown may do anything.
	unknown struct{ name string }
	// xt is a match or a target of iptables, which iptables-nft uses where
	// nf_tables has no expression of its own.
	xt struct {
		name   string
		target bool
	}
	// byteOrder converts numbers from or to network byte order.
	byteOrder struct{ from, to, length, size uint32 }
)

// expressions decodes a rule's list of expressions. comment is the rule's comment, if
// iptables-nft has stored it as an expression.
func expressions(family byte, list []byte) (out []any, comment string) {
	err := each(list, func(_ uint16, element []byte) {
		a, err := parse(element)
		if err != nil {
			out = append(out, unknown{"?"})
			return
		}
		name, data := a.name(unix.NFTA_EXPR_NAME), a[unix.NFTA_EXPR_DATA]
		inner := a.nested(unix.NFTA_EXPR_DATA)
		if name == "match" && inner.name(unix.NFTA_MATCH_NAME) == "comment" {
			comment = textOf(inner[unix.NFTA_MATCH_INFO])
		}
		out = append(out, expression(family, name, data, inner))
	})
	if err != nil {
		out = append(out, unknown{"?"})
	}
	return out, comment
}

// Attributes that the library's decoders ignore, and that change what an expression
// does.
const (
	bitwiseOperation = 6  // NFTA_BITWISE_OP; 0 is the one with mask and xor
	dynsetExpression = 7  // NFTA_DYNSET_EXPR
	dynsetMore       = 10 // NFTA_DYNSET_EXPRESSIONS
)

func expression(family byte, name string, data []byte, inner attributes) any {
	has := func(kind uint16) bool { return inner[kind] != nil }
	switch name {
	case "counter", "log", "notrack", "last", "secmark", "flow_offload", "dup":
		return inert{name}
	case "payload":
		if has(unix.NFTA_PAYLOAD_SREG) { // it changes the packet's contents
			return inert{name}
		}
		return known(family, data, &expr.Payload{})
	case "meta":
		return known(family, data, &expr.Meta{})
	case "ct":
		if has(unix.NFTA_CT_SREG) { // it changes the connection
			return inert{name}
		}
		return known(family, data, &expr.Ct{})
	case "cmp":
		return known(family, data, &expr.Cmp{})
	case "range":
		return known(family, data, &expr.Range{})
	case "bitwise":
		if inner.uint32(bitwiseOperation) != 0 {
			return unknown{name}
		}
		return known(family, data, &expr.Bitwise{})
	case "byteorder":
		return byteOrder{
			from: inner.uint32(unix.NFTA_BYTEORDER_SREG), to: inner.uint32(unix.NFTA_BYTEORDER_DREG),
			length: inner.uint32(unix.NFTA_BYTEORDER_LEN), size: inner.uint32(unix.NFTA_BYTEORDER_SIZE),
		}
	case "lookup":
		return known(family, data, &expr.Lookup{})
	case "immediate":
		if inner.uint32(unix.NFTA_IMMEDIATE_DREG) == unix.NFT_REG_VERDICT {
			return verdictFrom(within(inner[unix.NFTA_IMMEDIATE_DATA], unix.NFTA_DATA_VERDICT))
		}
		return known(family, data, &expr.Immediate{})
	case "fib":
		return known(family, data, &expr.Fib{})
	case "limit":
		return known(family, data, &expr.Limit{})
	case "nat":
		return known(family, data, &expr.NAT{})
	case "masq":
		return known(family, data, &expr.Masq{})
	case "redir":
		return known(family, data, &expr.Redir{})
	case "reject":
		return known(family, data, &expr.Reject{})
	case "dynset":
		if has(dynsetExpression) || has(dynsetMore) {
			return unknown{name}
		}
		return inert{name}
	case "objref":
		switch inner.uint32(unix.NFTA_OBJREF_IMM_TYPE) {
		case unix.NFT_OBJECT_COUNTER, unix.NFT_OBJECT_CT_HELPER, unix.NFT_OBJECT_CT_TIMEOUT, unix.NFT_OBJECT_SECMARK:
			return inert{name}
		}
	case "match":
		return xt{inner.name(unix.NFTA_MATCH_NAME), false}
	case "target":
		return xt{inner.name(unix.NFTA_TARGET_NAME), true}
	}
	return unknown{name}
}

// known decodes an expression with the library.
func known(family byte, data []byte, e expr.Any) any {
	if err := expr.Unmarshal(family, data, e); err != nil {
		return unknown{"?"}
	}
	return e
}

// verdictFrom reads a verdict, of a rule or of an element of a map.
func verdictFrom(data []byte) *expr.Verdict {
	v, err := parse(data)
	if err != nil {
		return &expr.Verdict{Kind: expr.VerdictQueue} // which is unknown, too
	}
	return &expr.Verdict{
		Kind: expr.VerdictKind(int32(v.uint32(unix.NFTA_VERDICT_CODE))), Chain: v.name(unix.NFTA_VERDICT_CHAIN),
	}
}
