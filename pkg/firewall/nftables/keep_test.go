package nftables

import (
	"net/netip"
	"strings"
	"testing"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// TestKeep has a MASQUERADE of either iptables for everything behind our table, as
// docker's is, and a port that somebody has published.
func TestKeep(t *testing.T) { eachFamily(t, testKeep) }

func testKeep(t *testing.T, f inet.Family) {
	w := newWire(t)
	address := func(a string) netip.Addr { return firewalltest.Addr(f, netip.MustParseAddr(a)) }
	from, to, router := address("10.1.0.2"), address("10.2.0.2"), address("10.2.0.1")
	sees := func(moment string, dst netip.Addr, port int, want netip.Addr) {
		t.Helper()
		number := w.send(t, from, dst, port)
		if got := w.receive(t, f, 1)[number]; got != want {
			t.Errorf("%s, the receiver sees %v, want %v", moment, got, want)
		}
	}
	within := func(network, subnet string) rules.Wanted {
		return firewalltest.Wanted(f, rules.Wanted{Network: netip.MustParsePrefix(network), Subnet: netip.MustParsePrefix(subnet), Masquerade: true, NFTables: true})
	}
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		if f == inet.IPv6 {
			program = strings.Replace(program, "iptables", "ip6tables", 1)
		}
		nft(t, "flush ruleset")
		shell(t, program+" -t nat -A POSTROUTING -o right -j MASQUERADE; "+program+" -t nat -A PREROUTING -p udp -d "+address("10.1.0.1").String()+" --dport 81 -j DNAT --to "+to.String())
		sees(program+" alone", to, 50, router)
		apply(t, tableFor(within("10.0.0.0/8", "10.2.0.0/24"), false))
		sees("from container to container, beside "+program, to, 50, from)
		sees("a published port, beside "+program, address("10.1.0.1"), 81, router)
		apply(t, tableFor(within("10.2.0.0/16", "10.2.0.0/24"), false))
		sees("from outside to a container of this host, beside "+program, to, 50, from)
		apply(t, tableFor(within("10.2.0.0/16", "10.2.9.0/24"), false))
		shell(t, program+" -t nat -F")
		sees("from outside to another host's container", to, 50, router)
		apply(t, tableFor(within("10.1.0.0/16", "10.1.0.0/24"), false))
		sees("from a container to outside", to, 50, router)
		apply(t, tableFor(rules.Wanted{Network: netip.PrefixFrom(from, f.Bits())}, false))
		sees("without any", to, 50, from)
	}
}
