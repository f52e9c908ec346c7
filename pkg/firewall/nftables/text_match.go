package nftables

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

var operators = map[expr.CmpOp]string{
	expr.CmpOpEq: "", expr.CmpOpNeq: "!=", expr.CmpOpLt: "<", expr.CmpOpLte: "<=", expr.CmpOpGt: ">", expr.CmpOpGte: ">=",
}

func (w *printer) compare(e *expr.Cmp) bool {
	h, known := w.operands[e.Register]
	sign, simple := operators[e.Op]
	if !known || !simple || h.print == nil {
		return false
	}
	value := h.print(e.Data)
	length, isPrefix := prefixLength(h.mask)
	switch {
	case h.mask == nil:
	case (h.name == "ct state" || h.name == "ct status") && e.Op == expr.CmpOpNeq && allZero(e.Data):
		sign, value = "", h.print(h.mask)
	case isPrefix && (strings.HasPrefix(h.name, "ip ") || strings.HasPrefix(h.name, "ip6 ")):
		value += "/" + strconv.Itoa(length)
	default:
		h.name += " & " + h.print(h.mask)
		if sign == "" {
			sign = "=="
		}
	}
	switch h.name {
	case "meta l4proto", "ip protocol", "ip6 nexthdr":
		w.protocol = value
	case "meta nfproto":
		if e.Op == expr.CmpOpEq && len(e.Data) == 1 {
			w.family = e.Data[0]
		}
	}
	w.print(h.name)
	if sign != "" {
		w.print(sign)
	}
	return w.print(value)
}

// maxPrinted is how many elements of an anonymous set are printed.
const maxPrinted = 8

func (w *printer) lookup(e *expr.Lookup) bool {
	h, known := w.operands[e.SourceRegister]
	s := w.sets[e.SetName]
	if !known || h.print == nil || s == nil || s.size() != cmp.Or(h.size, 4) {
		return false
	}
	w.print(h.name)
	if h.mask != nil {
		w.print("&", h.print(h.mask))
	}
	if e.Invert {
		w.print("!=")
	}
	if e.IsDestRegSet {
		if e.DestRegister != unix.NFT_REG_VERDICT {
			return false
		}
		w.print("vmap")
	}
	if !strings.HasPrefix(e.SetName, "__") {
		return w.print("@" + e.SetName)
	}
	var parts []string
	for i, x := range s.elements {
		if i == maxPrinted {
			parts = append(parts, "…")
			break
		}
		part := h.print(x.from)
		if !bytes.Equal(x.from, x.to) {
			part += "-" + h.print(x.to)
		}
		if x.verdict != nil {
			part += " : " + verdictText(x.verdict)
		}
		parts = append(parts, part)
	}
	return w.print("{ " + strings.Join(parts, ", ") + " }")
}
