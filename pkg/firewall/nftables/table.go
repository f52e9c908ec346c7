package nftables

import (
	"cmp"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// DefaultTable is the name of our table, of family ip and of family ip6, where nobody
// says another one. All that is in it is ours.
const DefaultTable = "flanneld"

// tableOf is the name of a daemon's table.
func tableOf(w rules.Wanted) string { return cmp.Or(w.Table, DefaultTable) }

// ourComment is the comment of each of our rules.
const ourComment = "flanneld"

// table is what our table holds. Without chains there is no table.
type table struct {
	name   string
	family nftables.TableFamily
	chains []chain
	sets   []addresses
}

func (t table) familyName() string { return families[byte(t.family)] }

// String is the table as nft names it.
func (t table) String() string { return t.familyName() + " " + t.name }

// chain is a base chain of ours.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     nftables.ChainHook
	priority nftables.ChainPriority
	rules    [][]expr.Any
	texts    []string // the rules as text, for operators to read
}

// Priorities of the kernel. docker 29 drops at raw, and translates at srcnat.
const (
	priorityRaw    = -300
	prioritySource = 100
)

// tableFor is the table for a host that uses nftables, or whose rules in iptables
// match marks.
//
//   - prerouting marks packets from peers, before other tables drop them: rules in
//     iptables, and dockerd 29 on nftables, accept packets with the mark.
//   - keep is for packets whose addresses must not be translated. It precedes docker
//     and the like, and translates the source to itself. An accept would not prevent
//     a translation in the next chain. Where another program has translated the
//     destination, as for a published port, it decides about the source, too.
//   - masquerade comes last, so that an operator's own translations for special
//     cases take precedence.
func tableFor(w rules.Wanted, marks bool) table {
	t := table{name: tableOf(w), family: tableFamily(w.Family())}
	if w.Forward && (w.NFTables || marks) {
		t.addMarks(w)
	}
	if w.NFTables {
		specs := w.MasqueradeSpecs()
		if keep := t.all(specs, true); len(keep) > 0 {
			t.add(chain{
				name: "keep", kind: nftables.ChainTypeNAT, hook: *nftables.ChainHookPostrouting,
				priority: prioritySource - 1, rules: append([][]expr.Any{translated()}, keep...),
			})
		}
		t.add(chain{
			name: "masquerade", kind: nftables.ChainTypeNAT, hook: *nftables.ChainHookPostrouting,
			priority: prioritySource + 1, rules: t.all(specs, false), texts: t.ruleTexts(specs),
		})
	}
	return t
}

// add adds a chain, unless it has no rules.
func (t *table) add(c chain) {
	if len(c.rules) > 0 {
		t.chains = append(t.chains, c)
	}
}

// all are the rules for specs. noNATOnly: only those that prevent a translation, in a
// form that also prevents one in later chains.
func (t *table) all(specs []rules.Spec, noNATOnly bool) (out [][]expr.Any) {
	for _, s := range specs {
		if noNATOnly && s.Target != rules.TargetNoNAT {
			continue
		}
		e := append(t.conditions(s), &expr.Counter{})
		switch s.Target {
		case rules.TargetNoNAT:
			if noNATOnly {
				e = append(e, t.address(source), &expr.NAT{
					Type: expr.NATTypeSourceNAT, Family: uint32(t.family), RegAddrMin: 1, RegAddrMax: 1,
				})
			} else {
				e = append(e, &expr.Verdict{Kind: expr.VerdictReturn})
			}
		case rules.TargetMasquerade, rules.TargetMasqueradePlain:
			// Random ports avoid a race between connections that are opened at the same
			// time.
			e = append(e, &expr.Masq{FullyRandom: s.Target == rules.TargetMasquerade})
		case rules.TargetAccept:
			e = append(e, &expr.Verdict{Kind: expr.VerdictAccept})
		}
		out = append(out, e)
	}
	return out
}

// translated returns for packets whose destination was translated.
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
		out = append(out, isInterface(expr.MetaKeyIIFNAME, s.In)...)
	}
	if s.Out != "" {
		out = append(out, isInterface(expr.MetaKeyOIFNAME, s.Out)...)
	}
	return append(append(out, t.side(source, s.Src)...), t.side(destination, s.Dst)...)
}

func isInterface(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(name)},
	}
}

// address loads an address into register 1.
func (t *table) address(which end) *expr.Payload {
	h := headers[byte(t.family)]
	return &expr.Payload{
		DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: h.address(which), Len: h.size,
	}
}

func (t *table) side(which end, s rules.Side) []expr.Any {
	if !s.Prefix.IsValid() {
		return nil
	}
	load, prefix, op := t.address(which), s.Prefix.Masked(), expr.CmpOpEq
	if s.Not {
		op = expr.CmpOpNeq
	}
	return []expr.Any{load, t.keepBits(prefix.Bits()),
		&expr.Cmp{Op: op, Register: 1, Data: prefix.Addr().AsSlice()}}
}

// keepBits clears all bits of the address in register 1 except the first ones.
func (t *table) keepBits(bits int) *expr.Bitwise {
	mask := t.mask(bits)
	return &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask)),
	}
}

// interfaceName is an interface's name as the kernel compares it.
func interfaceName(name string) []byte {
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, name)
	return out
}
