package nftables

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// host is what rules compare packets with.
type host struct {
	indexes map[string]int // of interfaces, by name
}

// body is a rule as the kernel runs it.
type body struct {
	host   *host
	family byte            // of its table
	sets   map[string]*set // of its table
	exprs  []any
}

// Evaluate applies the rule to a packet. With a condition on something that is not
// known the rule may match; then it changes nothing.
func (b body) Evaluate(p *rules.Packet) rules.Effect {
	r := run{body: b, packet: p, registers: newRegisters(), truth: rules.Yes}
	for _, e := range b.exprs {
		effect, ended := r.step(e)
		if r.truth == rules.No {
			return rules.Effect{}
		}
		if ended {
			effect.Match = r.truth
			return effect
		}
	}
	return rules.Effect{Match: r.truth}
}

// run is a rule's evaluation.
type run struct {
	body
	packet    *rules.Packet
	registers registers
	truth     rules.Truth // of the conditions so far
}

func (r *run) require(t rules.Truth) { r.truth = min(r.truth, t) }

// step evaluates one expression. If that ends the rule, it returns the effect.
func (r *run) step(e any) (effect rules.Effect, ended bool) {
	switch e := e.(type) {
	case inert:
	case *expr.Payload:
		r.registers.set(e.DestRegister, payload(r.packet, e))
	case *expr.Meta:
		r.meta(e)
	case *expr.Ct:
		r.registers.set(e.Register, connection(r.packet, e.Key))
	case *expr.Fib:
		r.registers.set(e.Register, route(r.packet, e))
	case *expr.Immediate:
		r.registers.set(e.Register, fullyKnown(e.Data))
	case *expr.Bitwise:
		r.bitwise(e)
	case byteOrder:
		r.swapBytes(e)
	case *expr.Cmp:
		r.require(compare(r.registers.get(e.Register, len(e.Data)), e.Op, e.Data))
	case *expr.Range:
		within := r.registers.get(e.Register, len(e.FromData)).within(e.FromData, e.ToData)
		if len(e.FromData) != len(e.ToData) {
			within = rules.Maybe
		}
		r.require(inverted(within, e.Op == expr.CmpOpNeq))
	case *expr.Lookup:
		return r.lookup(e)
	case *expr.Limit:
		r.require(rules.Known(true, !e.Over)) // for the first packet of a connection
	case *expr.Verdict:
		return r.verdict(e)
	case *expr.Reject:
		return rules.Effect{Action: rules.Drop}, true
	case *expr.Masq:
		return rules.Effect{Action: rules.Translate}, true
	case *expr.Redir:
		return rules.Effect{Action: rules.Accept}, true
	case *expr.NAT:
		return rules.Effect{Action: r.translate(e)}, true
	case xt:
		return r.xt(e)
	default:
		r.require(rules.Maybe)
	}
	return rules.Effect{}, false
}

func inverted(t rules.Truth, not bool) rules.Truth {
	if not {
		return t.Not()
	}
	return t
}

func (r *run) meta(e *expr.Meta) {
	if !e.SourceRegister {
		r.registers.set(e.Register, r.host.meta(r.packet, e.Key))
		return
	}
	if mark := r.registers.get(e.Register, 4); e.Key == expr.MetaKeyMARK && r.truth == rules.Yes && mark.isFullyKnown() {
		r.packet.Mark = binary.NativeEndian.Uint32(mark.value)
	}
}

// bitwise computes "& mask ^ xor". Bits that the mask clears are known.
func (r *run) bitwise(e *expr.Bitwise) {
	in, size := r.registers.get(e.SourceRegister, int(e.Len)), int(e.Len)
	out := fullyUnknown(size)
	for i := range size {
		if i < len(e.Mask) && i < len(e.Xor) {
			out.known[i] = in.known[i] | ^e.Mask[i]
			out.value[i] = (in.value[i]&e.Mask[i] ^ e.Xor[i]) & out.known[i]
		}
	}
	r.registers.set(e.DestRegister, out)
}

// swapBytes converts between network byte order and this machine's.
func (r *run) swapBytes(e byteOrder) {
	in := r.registers.get(e.from, int(e.length))
	out := field{bytes.Clone(in.value), bytes.Clone(in.known)}
	if size := int(e.size); size > 0 && binary.NativeEndian.Uint16([]byte{0, 1}) != 1 {
		for start := 0; start+size <= len(out.value); start += size {
			slices.Reverse(out.value[start : start+size])
			slices.Reverse(out.known[start : start+size])
		}
	}
	r.registers.set(e.to, out)
}

func compare(f field, op expr.CmpOp, value []byte) rules.Truth {
	order := bytes.Compare(f.value, value)
	switch op {
	case expr.CmpOpEq:
		return f.is(value)
	case expr.CmpOpNeq:
		return f.is(value).Not()
	case expr.CmpOpLt:
		return rules.Known(f.isFullyKnown(), order < 0)
	case expr.CmpOpLte:
		return rules.Known(f.isFullyKnown(), order <= 0)
	case expr.CmpOpGt:
		return rules.Known(f.isFullyKnown(), order > 0)
	case expr.CmpOpGte:
		return rules.Known(f.isFullyKnown(), order >= 0)
	}
	return rules.Maybe
}

func (r *run) lookup(e *expr.Lookup) (rules.Effect, bool) {
	s := r.sets[e.SetName]
	if s == nil {
		r.require(rules.Maybe)
		return rules.Effect{}, false
	}
	found, element := s.find(r.registers.get(e.SourceRegister, s.size()))
	r.require(inverted(found, e.Invert))
	if !e.IsDestRegSet {
		return rules.Effect{}, false
	}
	if found != rules.Yes {
		if e.DestRegister != unix.NFT_REG_VERDICT {
			r.registers.set(e.DestRegister, fullyUnknown(16))
		}
		return rules.Effect{}, e.DestRegister == unix.NFT_REG_VERDICT
	}
	if element.verdict != nil {
		return r.verdict(element.verdict)
	}
	r.registers.set(e.DestRegister, fullyKnown(element.data))
	return rules.Effect{}, false
}
