package nftables

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// legacyTables are the tables of flannel 0.28, one for each address family.
var legacyTables = map[inet.Family]string{inet.IPv4: "flannel-ipv4", inet.IPv6: "flannel-ipv6"}

// deleteLegacy deletes the table of flannel 0.28 if it is for our network, and the one
// that flanneld had before each daemon had its own; those for another network stay. It
// returns their names.
func (c conn) deleteLegacy(w rules.Wanted) (removed []string, err error) {
	deletion := &nftables.Conn{}
	for _, old := range []struct{ name, by string }{
		{DefaultTable, "flanneld"}, {legacyTables[w.Family()], "flannel"},
	} {
		if old.name == tableOf(w) {
			continue
		}
		have, exists, err := c.table(tableFamily(w.Family()), old.name)
		if err != nil {
			return nil, fmt.Errorf("cannot look for the nftables table %s of an earlier %s: %w", old.name, old.by, err)
		}
		if exists && (old.name != DefaultTable || have.isOurs()) && have.mentions(w.Network) {
			deletion.DelTable(&nftables.Table{Family: tableFamily(w.Family()), Name: old.name})
			removed = append(removed, old.name)
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

// Left says for which networks an earlier run of the daemon that has a table, and flannel
// 0.28, have left a table of a family, which is as good as to have left rules of iptables
// too. Zero: there is no such table. Its error wraps ErrUnsupported if the kernel has no
// nf_tables.
func Left(f inet.Family, table string) (ours, flannels netip.Prefix, err error) {
	c, err := open()
	if err != nil {
		return ours, flannels, err
	}
	defer c.Close()
	for name, of := range map[string]*netip.Prefix{table: &ours, legacyTables[f]: &flannels} {
		have, exists, err := c.table(tableFamily(f), name)
		if err != nil {
			return ours, flannels, fmt.Errorf("cannot look for the nftables table %s of an earlier run: %w", name, err)
		}
		if exists && (name != table || have.isOurs()) {
			*of = have.widest()
		}
	}
	return ours, flannels, nil
}

// mentions reports whether a rule compares an address with a network.
func (t installedTable) mentions(network netip.Prefix) bool {
	return slices.Contains(t.networks(), network.Masked())
}

// widest is the largest network, but for multicast, that a rule compares an address with.
func (t installedTable) widest() (out netip.Prefix) {
	for _, p := range t.networks() {
		if !p.Addr().IsMulticast() && (!out.IsValid() || p.Bits() < out.Bits()) {
			out = p
		}
	}
	return out
}

// networks are those that rules compare addresses with.
func (t installedTable) networks() (out []netip.Prefix) {
	for _, c := range t.chains {
		for _, r := range c.rules {
			out = append(out, prefixes(headers[t.family], r.exprs)...)
		}
	}
	return out
}

// prefixes are the networks that a rule compares addresses with.
func prefixes(h header, exprs []any) (out []netip.Prefix) {
	bits := map[uint32]int{} // by register: how many bits of an address it holds
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Payload:
			delete(bits, e.DestRegister)
			isAddress := e.Offset == h.address(source) || e.Offset == h.address(destination)
			if e.Base == expr.PayloadBaseNetworkHeader && isAddress && e.Len <= h.size {
				bits[e.DestRegister] = int(e.Len) * 8
			}
		case *expr.Bitwise:
			n, isPrefix := prefixLength(e.Mask)
			if _, isAddress := bits[e.SourceRegister]; isAddress && isPrefix {
				bits[e.DestRegister] = n
			}
		case *expr.Cmp:
			if n, isAddress := bits[e.Register]; isAddress && len(e.Data) <= int(h.size) {
				out = append(out, netip.PrefixFrom(h.prefix(e.Data).Addr(), n))
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
