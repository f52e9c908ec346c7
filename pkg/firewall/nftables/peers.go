package nftables

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/rules"
)

// addresses are a named set of a table, sorted. A set, rather than a rule for each,
// as there are as many as peers.
type addresses struct {
	name     string
	elements []netip.Addr
}

// addresses reads the sets of a table, in order.
func (c conn) addresses(family nftables.TableFamily, table string) (out []addresses, err error) {
	sets, err := c.dump(unix.NFT_MSG_GETSET, byte(family), nulTerminated(unix.NFTA_SET_TABLE, table))
	if err != nil {
		return nil, err
	}
	for _, a := range sets {
		s := addresses{name: a.name(unix.NFTA_SET_NAME)}
		elements, err := c.dump(unix.NFT_MSG_GETSETELEM, byte(family),
			nulTerminated(unix.NFTA_SET_ELEM_LIST_TABLE, table), nulTerminated(unix.NFTA_SET_ELEM_LIST_SET, s.name))
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			read := &set{}
			read.add(e.attributes[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
			for _, one := range read.elements {
				if a, ok := netip.AddrFromSlice(one.from); ok {
					s.elements = append(s.elements, a)
				}
			}
		}
		slices.SortFunc(s.elements, netip.Addr.Compare)
		out = append(out, s)
	}
	return out, nil
}

// marksChain is the chain that marks packets from peers.
const marksChain = "prerouting"

// addMarks adds a chain that marks packets from peers, which arrive by the device that
// leads to them: packets with an address of a peer's subnet, and with direct routes
// also those with the address of its host. Nearly all subnets have the same prefix
// length, so there is a hash set of first addresses for each length.
func (t *table) addMarks(w rules.Wanted) {
	marks := chain{
		name: marksChain, kind: nftables.ChainTypeFilter, hook: *nftables.ChainHookPrerouting,
		priority: priorityRaw - 10,
	}
	for i, dev := range w.Devices() {
		subnets, hosts := map[int][]netip.Addr{}, addresses{name: fmt.Sprintf("hosts-%d", i)}
		for _, p := range w.Peers {
			if p.Device == dev {
				subnets[p.Subnet.Bits()] = append(subnets[p.Subnet.Bits()], p.Subnet.Masked().Addr())
				if p.Host.IsValid() {
					hosts.elements = append(hosts.elements, p.Host)
				}
			}
		}
		mark := func(set addresses, masked string, address ...expr.Any) {
			if len(set.elements) == 0 {
				return
			}
			slices.SortFunc(set.elements, netip.Addr.Compare)
			set.elements = slices.Compact(set.elements)
			t.sets = append(t.sets, set)
			from := append(address, &expr.Lookup{SourceRegister: 1, SetName: set.name})
			to := rules.Spec{In: dev, Dst: rules.Side{Prefix: w.Subnet}}
			marks.rules = append(marks.rules, slices.Concat(t.conditions(to), from, setMark))
			marks.texts = append(marks.texts, fmt.Sprintf(
				"iifname %q %[2]s daddr %v %[2]s saddr%[4]s @%[5]s meta mark set meta mark | %#[6]x",
				dev, t.familyName(), w.Subnet.Masked(), masked, set.name, rules.PeerMark))
		}
		for _, bits := range slices.Sorted(maps.Keys(subnets)) {
			name := fmt.Sprintf("subnets-%d", i)
			if bits != w.Subnet.Bits() {
				name += fmt.Sprintf("-%d", bits)
			}
			mark(addresses{name, subnets[bits]}, fmt.Sprintf(" & /%d ==", bits), t.address(source), t.keepBits(bits))
		}
		mark(hosts, "", t.address(source))
	}
	t.add(marks)
}

var setMark = []expr.Any{
	&expr.Counter{},
	&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
	&expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4,
		Mask: native(^uint32(rules.PeerMark)), Xor: native(rules.PeerMark),
	},
	&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
}

// mask is the netmask of a prefix.
func (t *table) mask(bits int) []byte {
	mask := make([]byte, t.address(source).Len)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// chunk is the number of elements in one netlink message, whose attributes have 64 KiB
// at most.
const chunk = 1000

// inChunks calls do for the elements in chunks.
func (a addresses) inChunks(elements []netip.Addr, do func([]nftables.SetElement) error) error {
	for part := range slices.Chunk(elements, chunk) {
		var out []nftables.SetElement
		for _, e := range part {
			out = append(out, nftables.SetElement{Key: e.AsSlice()})
		}
		if err := do(out); err != nil {
			return fmt.Errorf("set %s: %w", a.name, err)
		}
	}
	return nil
}

// difference is the elements of a that are not in b. Both are sorted.
func difference(a, b []netip.Addr) (out []netip.Addr) {
	for _, e := range a {
		if _, has := slices.BinarySearchFunc(b, e, netip.Addr.Compare); !has {
			out = append(out, e)
		}
	}
	return out
}
