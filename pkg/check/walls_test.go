package check

import (
	"net/netip"
	"strings"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/firewall/rules"
)

var (
	own  = netip.MustParsePrefix("172.7.21.0/24")
	far  = netip.MustParsePrefix("172.7.22.0/24")
	here = netip.MustParseAddr("10.4.7.21")
	peer = netip.MustParseAddr("10.4.7.22")
)

// saved is one table of iptables.
func saved(table string, lines ...string) rules.Ruleset {
	return iptables.Parse("iptables", firewalltest.Save(table, lines...))
}

// foreign is a table of nftables with what iptables would write as these lines.
func foreign(family, name string, lines ...string) *rules.Table {
	t := saved("filter", lines...)[0]
	t.Family, t.Name, t.Program = family, name, "nft"
	for _, c := range t.Chains {
		for i := range c.Rules {
			r := &c.Rules[i]
			r.Handle = uint64(i + 7)
			r.Text = strings.ToLower(strings.Replace(r.Text, "-j ", "", 1))
		}
	}
	return t
}
