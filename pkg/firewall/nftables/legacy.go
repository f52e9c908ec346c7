package nftables

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"flanneld/pkg/firewall/rules"
)

// legacyTables are the tables of flannel 0.28, one for each address family. The first
// of them shows for which network they are.
var legacyTables = [2]nftables.Table{
	{Family: nftables.TableFamilyIPv4, Name: "flannel-ipv4"},
	{Family: nftables.TableFamilyIPv6, Name: "flannel-ipv6"},
}

// deleteLegacy deletes the tables of flannel 0.28 if they are for our network, and
// the one that flanneld had before each daemon had its own; those for another network
// stay. It returns their names.
func (c conn) deleteLegacy(w rules.Wanted) (removed []string, err error) {
	deletion := &nftables.Conn{}
	if tableOf(w) != DefaultTable {
		old := nftables.Table{Family: nftables.TableFamilyIPv4, Name: DefaultTable}
		have, exists, err := c.table(old.Family, old.Name)
		if err != nil {
			return nil, fmt.Errorf("cannot look for the nftables table %s of an earlier flanneld: %w", old.Name, err)
		}
		if exists && have.isOurs() && have.mentions(w.Network) {
			deletion.DelTable(&old)
			removed = append(removed, old.Name)
		}
	}
	for i, t := range legacyTables {
		have, exists, err := c.table(t.Family, t.Name)
		if err != nil {
			return nil, fmt.Errorf("cannot look for the nftables table %s of an earlier flannel: %w", t.Name, err)
		}
		if i == 0 && !have.mentions(w.Network) {
			break
		}
		if exists {
			deletion.DelTable(&t)
			removed = append(removed, t.Name)
		}
	}
	if len(removed) == 0 {
		return nil, nil
	}
	if err := commit(deletion, "delete legacy tables"); err != nil {
		return nil, fmt.Errorf("cannot delete the nftables tables %v of an earlier flannel: %w", removed, err)
	}
	return removed, nil
}

// mentions reports whether a rule compares an address with a network.
func (t installedTable) mentions(network netip.Prefix) bool {
	for _, c := range t.chains {
		for _, r := range c.rules {
			for _, p := range prefixes(r.exprs) {
				if p == network.Masked() {
					return true
				}
			}
		}
	}
	return false
}

// prefixes are the networks that a rule of family ip compares addresses with.
func prefixes(exprs []any) (out []netip.Prefix) {
	bits := map[uint32]int{} // by register: how many bits of an address it holds
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Payload:
			delete(bits, e.DestRegister)
			if e.Base == expr.PayloadBaseNetworkHeader && (e.Offset == 12 || e.Offset == 16) && e.Len <= 4 {
				bits[e.DestRegister] = int(e.Len) * 8
			}
		case *expr.Bitwise:
			n, isPrefix := prefixLength(e.Mask)
			if _, isAddress := bits[e.SourceRegister]; isAddress && isPrefix {
				bits[e.DestRegister] = n
			}
		case *expr.Cmp:
			if n, isAddress := bits[e.Register]; isAddress && len(e.Data) <= 4 {
				var a [4]byte
				copy(a[:], e.Data)
				out = append(out, netip.PrefixFrom(netip.AddrFrom4(a), n))
			}
		}
	}
	return out
}

// prefixLength is the number of leading ones of a mask, if only zeros follow.
func prefixLength(mask []byte) (n int, isPrefix bool) {
	ended := false
	for i := range 8 * len(mask) {
		if one := mask[i/8]&(0x80>>(i%8)) != 0; one && ended {
			return 0, false
		} else if one {
			n++
		} else {
			ended = true
		}
	}
	return n, true
}
