package nftables

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// text is a rule much as nft prints it. If it has an expression that this package
// cannot print, text is its handle.
func (b body) text(handle uint64) string {
	w := printer{body: b, family: b.family, operands: map[uint32]operand{}}
	for _, e := range b.exprs {
		if !w.step(e) {
			return fmt.Sprintf("rule %d", handle)
		}
	}
	return strings.Join(w.words, " ")
}

// printer prints a rule, and keeps track of what is in the registers.
type printer struct {
	body
	operands map[uint32]operand
	words    []string
	family   byte   // of the packets that come so far
	protocol string // that the rule has compared with
}

// operand is what a register holds: its name, how to print its values, and which of
// its bits were kept.
type operand struct {
	name  string
	print func([]byte) string
	size  int // bytes; 0: four
	mask  []byte
}

func (w *printer) print(words ...string) bool {
	w.words = append(w.words, words...)
	return true
}

// step prints an expression, and reports whether it can.
func (w *printer) step(e any) bool {
	switch e := e.(type) {
	case inert:
		if e.name != "counter" {
			w.print(e.name)
		}
		return true
	case *expr.Payload:
		h, known := w.header(e)
		w.operands[e.DestRegister] = h
		return known
	case *expr.Meta:
		return w.meta(e)
	case *expr.Ct:
		h, known := connections[e.Key]
		w.operands[e.Register] = h
		return known
	case *expr.Fib:
		end := map[bool]string{true: "saddr", false: "daddr"}[e.FlagSADDR]
		w.operands[e.Register] = operand{name: "fib " + end + " type", print: routeKind}
		return e.ResultADDRTYPE
	case *expr.Bitwise:
		h, known := w.operands[e.SourceRegister]
		if known && h.print != nil && allZero(e.Xor) {
			h.mask = e.Mask
		} else if known && h.print != nil && isComplement(e.Mask, e.Xor) { // the kernel's form of "or"
			h = operand{name: h.name + " | " + h.print(e.Xor), size: h.size}
		} else {
			return false
		}
		w.operands[e.DestRegister] = h
		return true
	case *expr.Immediate:
		w.operands[e.Register] = operand{name: number(e.Data)}
		return len(e.Data) == 4
	case *expr.Cmp:
		return w.compare(e)
	case *expr.Lookup:
		return w.lookup(e)
	case *expr.Limit:
		return w.print("limit rate", map[bool]string{true: "over "}[e.Over]+strconv.FormatUint(e.Rate, 10)+perTime[e.Unit])
	case *expr.Verdict:
		return w.print(verdictText(e))
	case *expr.Reject:
		return w.print("reject")
	case *expr.Masq:
		if w.print("masquerade"); e.FullyRandom {
			w.print("fully-random")
		}
		return true
	case *expr.NAT:
		if h, known := w.operands[e.RegAddrMin]; known && e.Type == expr.NATTypeSourceNAT {
			return w.print("snat", "to", h.name)
		}
	case xt:
		return e.name == "comment" && !e.target
	}
	return false
}

var perTime = map[expr.LimitTime]string{
	expr.LimitTimeSecond: "/second", expr.LimitTimeMinute: "/minute", expr.LimitTimeHour: "/hour",
	expr.LimitTimeDay: "/day", expr.LimitTimeWeek: "/week",
}

func verdictText(v *expr.Verdict) string {
	switch v.Kind {
	case expr.VerdictAccept:
		return "accept"
	case expr.VerdictDrop:
		return "drop"
	case expr.VerdictReturn:
		return "return"
	case expr.VerdictContinue:
		return "continue"
	case expr.VerdictJump:
		return "jump " + v.Chain
	case expr.VerdictGoto:
		return "goto " + v.Chain
	}
	return "queue"
}

// header is a part of the packet.
func (w *printer) header(e *expr.Payload) (operand, bool) {
	h := operand{print: decimal, size: int(e.Len)}
	family := w.family
	if _, known := headers[family]; !known { // nft asks for the family first
		family = unix.NFPROTO_IPV4
	}
	name, at := families[family], headers[family]
	switch {
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == at.address(source) && e.Len <= at.size:
		h.name, h.print = name+" saddr", at.show(e.Len)
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == at.address(destination) && e.Len <= at.size:
		h.name, h.print = name+" daddr", at.show(e.Len)
	case e.Base == expr.PayloadBaseNetworkHeader && e.Offset == at.protocol && e.Len == 1:
		h.name, h.print = map[string]string{"ip": "ip protocol", "ip6": "ip6 nexthdr"}[name], protocolName
	case e.Base == expr.PayloadBaseTransportHeader && e.Offset <= 2 && e.Len == 2 &&
		(w.protocol == "tcp" || w.protocol == "udp"):
		h.name = w.protocol + map[uint32]string{0: " sport", 2: " dport"}[e.Offset]
		w.retract("meta l4proto")
	default:
		return h, false
	}
	if e.Base == expr.PayloadBaseNetworkHeader {
		w.retract("meta nfproto")
	}
	return h, true
}

// retract removes the last comparison, if it is the given one: the next one implies it.
func (w *printer) retract(name string) {
	if n := len(w.words); n > 1 && w.words[n-2] == name {
		w.words = w.words[:n-2]
	}
}

var metas = map[expr.MetaKey]operand{
	expr.MetaKeyIIFNAME:  {name: "iifname", print: quoted, size: unix.IFNAMSIZ},
	expr.MetaKeyOIFNAME:  {name: "oifname", print: quoted, size: unix.IFNAMSIZ},
	expr.MetaKeyMARK:     {name: "meta mark", print: number},
	expr.MetaKeyL4PROTO:  {name: "meta l4proto", print: protocolName, size: 1},
	expr.MetaKeyIIF:      {name: "iif"},
	expr.MetaKeyOIF:      {name: "oif"},
	expr.MetaKeyNFPROTO:  {name: "meta nfproto", print: familyName, size: 1},
	expr.MetaKeyPROTOCOL: {name: "meta protocol", print: etherTypeName, size: 2},
}

func (w *printer) meta(e *expr.Meta) bool {
	if e.SourceRegister {
		h, known := w.operands[e.Register]
		return known && h.mask == nil && w.print(metas[e.Key].name, "set", h.name)
	}
	h, known := metas[e.Key]
	if e.Key == expr.MetaKeyIIF || e.Key == expr.MetaKeyOIF {
		h.print = w.host.nameOf
	}
	w.operands[e.Register] = h
	return known
}

var connections = map[expr.CtKey]operand{
	expr.CtKeySTATE:  {name: "ct state", print: states},
	expr.CtKeySTATUS: {name: "ct status", print: statuses},
	expr.CtKeyMARK:   {name: "ct mark", print: number},
}
