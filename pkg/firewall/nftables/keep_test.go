package nftables

import (
	"net/netip"
	"testing"

	"flanneld/pkg/firewall/rules"
)

// TestKeep has a MASQUERADE of either iptables for everything behind our table, as
// docker's is, and a port that somebody has published.
func TestKeep(t *testing.T) {
	w := newWire(t)
	from, to, router := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.2"), netip.MustParseAddr("10.2.0.1")
	sees := func(moment string, dst netip.Addr, port int, want netip.Addr) {
		t.Helper()
		number := w.send(t, from, dst, port)
		if got := w.receive(t, 1)[number]; got != want {
			t.Errorf("%s, the receiver sees %v, want %v", moment, got, want)
		}
	}
	within := func(network, subnet string) rules.Wanted {
		return rules.Wanted{Network: netip.MustParsePrefix(network), Subnet: netip.MustParsePrefix(subnet), Masquerade: true, NFTables: true}
	}
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		nft(t, "flush ruleset")
		shell(t, program+" -t nat -A POSTROUTING -o right -j MASQUERADE; "+program+" -t nat -A PREROUTING -p udp -d 10.1.0.1 --dport 81 -j DNAT --to 10.2.0.2")
		sees(program+" alone", to, 50, router)
		apply(t, tableFor(within("10.0.0.0/8", "10.2.0.0/24"), false))
		sees("from container to container, beside "+program, to, 50, from)
		sees("a published port, beside "+program, netip.MustParseAddr("10.1.0.1"), 81, router)
		apply(t, tableFor(within("10.2.0.0/16", "10.2.0.0/24"), false))
		sees("from outside to a container of this host, beside "+program, to, 50, from)
		apply(t, tableFor(within("10.2.0.0/16", "10.2.9.0/24"), false))
		shell(t, program+" -t nat -F")
		sees("from outside to another host's container", to, 50, router)
		apply(t, tableFor(within("10.1.0.0/16", "10.1.0.0/24"), false))
		sees("from a container to outside", to, 50, router)
		apply(t, tableFor(rules.Wanted{}, false))
		sees("without any", to, 50, from)
	}
}
