package nftables

import (
	"github.com/google/nftables/expr"

	"flanneld/pkg/firewall/rules"
)

func (r *run) verdict(v *expr.Verdict) (rules.Effect, bool) {
	switch v.Kind {
	case expr.VerdictAccept, expr.VerdictStop:
		return rules.Effect{Action: rules.Accept}, true
	case expr.VerdictDrop:
		return rules.Effect{Action: rules.Drop}, true
	case expr.VerdictReturn:
		return rules.Effect{Action: rules.Return}, true
	case expr.VerdictJump:
		return rules.Effect{Action: rules.Jump, Chain: v.Chain}, true
	case expr.VerdictGoto:
		return rules.Effect{Action: rules.Goto, Chain: v.Chain}, true
	case expr.VerdictContinue: // goes on with the rule
		return rules.Effect{}, false
	case expr.VerdictBreak:
		r.require(rules.No)
	default: // a queue: a program in user space decides
		r.require(rules.Maybe)
	}
	return rules.Effect{}, true
}

// translate distinguishes a translation of the source to another address from one to
// itself. A translation of the destination is an accept.
func (r *run) translate(e *expr.NAT) rules.Action {
	if e.Type != expr.NATTypeSourceNAT {
		return rules.Accept
	}
	from := r.packet.Src.AsSlice()
	for _, register := range []uint32{e.RegAddrMin, e.RegAddrMax} {
		if register != 0 && (len(from) == 0 || r.registers.get(register, len(from)).is(from) != rules.Yes) {
			return rules.Translate
		}
	}
	return rules.AcceptNoNAT
}

// xt evaluates matches and targets of iptables. Their settings are not decoded.
func (r *run) xt(e xt) (rules.Effect, bool) {
	switch {
	case !e.target && e.name == "comment":
		return rules.Effect{}, false
	case !e.target:
		r.require(rules.Maybe)
		return rules.Effect{}, false
	}
	switch e.name {
	case "REJECT":
		return rules.Effect{Action: rules.Drop}, true
	case "MASQUERADE", "SNAT", "NETMAP":
		return rules.Effect{Action: rules.Translate}, true
	case "DNAT", "REDIRECT":
		return rules.Effect{Action: rules.Accept}, true
	case "LOG", "NFLOG", "TRACE", "CHECKSUM", "TCPMSS", "NOTRACK", "CT", "CONNMARK", "CLASSIFY", "DSCP", "TOS":
		return rules.Effect{}, false
	}
	r.require(rules.Maybe)
	return rules.Effect{}, false
}
