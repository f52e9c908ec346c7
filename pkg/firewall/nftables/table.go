package nftables

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// tableName is the name of our table, of family ip. All that is in it is ours.
const tableName = "flanneld"

// comment is what each of our rules says.
const ourComment = "flanneld"

// table is what our table holds. Without chains there is no table.
type table struct {
	family nftables.TableFamily
	chains []chain
	sets   []addresses
}

// chain is a base chain of ours.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     nftables.ChainHook
	priority nftables.ChainPriority
	rules    [][]expr.Any
	texts    []string // the same for operators to read
}

// Of the kernel's priorities. Docker 29 drops at raw, and translates at srcnat.
const (
	priorityRaw    = -300
	prioritySource = 100
)

// tableFor is the table that the host needs, if nftables is what it wants, and
// with marks also beside iptables.
//
//   - prerouting marks what comes from peers, before anybody drops it: rules in
//     iptables, and dockerd 29 on nftables, let it pass by its mark.
//   - keep ends the translation of what keeps its addresses, before docker and the
//     like translate it: it translates the source to itself. An accept would not
//     end it, as the next chain would still be asked. Where somebody has translated
//     the destination, as of a published port, the source is his as well.
//   - masquerade comes behind everybody, so that what an operator translates for a
//     special case is translated so.
func tableFor(w rules.Wanted, marks bool) table {
	t := table{family: nftables.TableFamilyIPv4}
	if w.Forward && (w.NFTables || marks) {
		t.addMarks(w)
	}
	if w.NFTables {
		specs := w.MasqueradeSpecs()
		if keep := t.all(specs, true); len(keep) > 0 {
			t.add(chain{"keep", nftables.ChainTypeNAT, *nftables.ChainHookPostrouting, prioritySource - 1, append([][]expr.Any{translated()}, keep...), nil})
		}
		t.add(chain{"masquerade", nftables.ChainTypeNAT, *nftables.ChainHookPostrouting, prioritySource + 1, t.all(specs, false), ruleTexts(specs)})
	}
	return t
}

// add leaves out chains that would do nothing.
func (t *table) add(c chain) {
	if len(c.rules) > 0 {
		t.chains = append(t.chains, c)
	}
}

// all are the rules for specs. To settle is to write those that keep addresses
// alone, so that nobody translates them later.
func (t *table) all(specs []rules.Spec, settle bool) (out [][]expr.Any) {
	for _, s := range specs {
		if settle && s.Target != rules.TargetNoNAT {
			continue
		}
		e := append(t.conditions(s), &expr.Counter{})
		switch s.Target {
		case rules.TargetNoNAT:
			if settle {
				e = append(e, t.address(source), &expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(t.family), RegAddrMin: 1, RegAddrMax: 1})
			} else {
				e = append(e, &expr.Verdict{Kind: expr.VerdictReturn})
			}
		case rules.TargetMasquerade:
			e = append(e, &expr.Masq{FullyRandom: true}) // ports at random avoid a race of connections that are opened at once
		case rules.TargetAccept:
			e = append(e, &expr.Verdict{Kind: expr.VerdictAccept})
		}
		out = append(out, e)
	}
	return out
}

// translated leaves alone what has got another destination.
func translated() []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(statusDNAT), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

func (t *table) conditions(s rules.Spec) (out []expr.Any) {
	if s.In != "" {
		out = append(out, &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(s.In)})
	}
	if s.Out != "" {
		out = append(out, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(s.Out)})
	}
	return append(append(out, t.side(source, s.Src)...), t.side(destination, s.Dst)...)
}

// end is one of the two addresses of a packet.
type end int

const (
	source end = iota
	destination
)

// address loads one into register 1.
func (t *table) address(which end) *expr.Payload {
	offset, size := uint32(12), uint32(4)
	if t.family == nftables.TableFamilyIPv6 {
		offset, size = 8, 16
	}
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset + uint32(which)*size, Len: size}
}

func (t *table) side(which end, s rules.Side) []expr.Any {
	if !s.Prefix.IsValid() {
		return nil
	}
	load, prefix, op := t.address(which), s.Prefix.Masked(), expr.CmpOpEq
	if s.Not {
		op = expr.CmpOpNeq
	}
	return []expr.Any{load,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: load.Len, Mask: t.mask(prefix.Bits()), Xor: make([]byte, load.Len)},
		&expr.Cmp{Op: op, Register: 1, Data: prefix.Addr().AsSlice()}}
}

// interfaceName is one as the kernel compares it.
func interfaceName(name string) []byte {
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, name)
	return out
}
