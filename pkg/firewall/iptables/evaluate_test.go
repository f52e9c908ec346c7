package iptables

import (
	"net/netip"
	"testing"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

var (
	here = netip.MustParseAddr("10.4.7.21")
	peer = netip.MustParseAddr("10.4.7.22")
)

// parsed is a rule set of one table.
func parsed(table string, lines ...string) rules.Ruleset {
	return Parse("iptables", firewalltest.Save(table, lines...))
}

func TestEvaluate(t *testing.T) {
	out := rules.Packet{In: "docker0", Out: "flannel.1", Src: netip.MustParseAddr("172.7.21.2"), Dst: netip.MustParseAddr("172.7.22.2"), Protocol: "tcp", State: "NEW"}
	back := rules.Packet{In: "flannel.1", Out: "docker0", Src: netip.MustParseAddr("172.7.22.2"), Dst: netip.MustParseAddr("172.7.21.2"), Protocol: "tcp", State: "NEW"}
	tunnel := rules.Packet{In: "ens33", Src: peer, Dst: here, Protocol: "udp", DstPort: 8472, State: "NEW", Local: true}
	ping := rules.Packet{In: "docker0", Out: "flannel.1", Src: out.Src, Dst: out.Dst, Protocol: "icmp", State: "NEW"}
	for _, tt := range []struct {
		name    string
		set     string
		packet  rules.Packet
		through rules.Path
		want    string // the rule or policy that drops it; "": none
		hidden  string // the rule that hides its source
	}{
		{"no rules at all", "", out, rules.Forwarded, "", ""},
		{"flanneld's rules in front of CentOS's", firewalltest.CentOS, out, rules.Forwarded, "", ""},
		{"the tunnel into CentOS", firewalltest.CentOS, tunnel, rules.Received,
			"-A INPUT -j REJECT --reject-with icmp-host-prohibited", ""},
		{"an answer into CentOS", firewalltest.CentOS,
			rules.Packet{In: "ens33", Src: peer, Dst: here, Protocol: "udp", State: "ESTABLISHED"}, rules.Received, "", ""},
		{"policy DROP", firewalltest.Save("filter", ":FORWARD DROP [0:0]"), out, rules.Forwarded, "policy filter FORWARD", ""},
		{"policy DROP and a rule", firewalltest.Save("filter", ":FORWARD DROP [0:0]", "FORWARD -i docker0 -j ACCEPT"), out,
			rules.Forwarded, "", ""},
		{"policy DROP and a RETURN", firewalltest.Save("filter", ":FORWARD DROP [0:0]", "FORWARD -i docker0 -j RETURN"), out,
			rules.Forwarded, "policy filter FORWARD", ""},
		{"another source", firewalltest.Save("filter", "FORWARD -s 10.0.0.0/8 -j DROP"), out, rules.Forwarded, "", ""},
		{"all but a source", firewalltest.Save("filter", "FORWARD ! -s 10.0.0.0/8 -j DROP"), out, rules.Forwarded,
			"-A FORWARD ! -s 10.0.0.0/8 -j DROP", ""},
		{"interfaces by a pattern", firewalltest.Save("filter", "FORWARD -o flannel+ -j DROP"), out, rules.Forwarded,
			"-A FORWARD -o flannel+ -j DROP", ""},
		{"interfaces by another pattern", firewalltest.Save("filter", "FORWARD -o br-+ -j DROP"), out, rules.Forwarded, "", ""},
		{"all but an interface", firewalltest.Save("filter", "FORWARD ! -i docker0 -o docker0 -j DROP"), out, rules.Forwarded, "", ""},
		{"all but an interface, on the way back", firewalltest.Save("filter", "FORWARD ! -i docker0 -o docker0 -j DROP"), back,
			rules.Forwarded, "-A FORWARD ! -i docker0 -o docker0 -j DROP", ""},
		{"another protocol", firewalltest.Save("filter", "FORWARD -p udp -j DROP"), out, rules.Forwarded, "", ""},
		{"pings", firewalltest.Save("filter", "FORWARD -p icmp -j DROP"), ping, rules.Forwarded, "-A FORWARD -p icmp -j DROP", ""},
		{"no pings", firewalltest.Save("filter", "FORWARD -p icmp -j DROP"), out, rules.Forwarded, "", ""},
		{"kinds of ICMPv6, which are not known", firewalltest.Save("filter", "FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j DROP"), ping, rules.Forwarded, "", ""},
		{"one port of many", firewalltest.Save("filter", "FORWARD -p tcp -m tcp --dport 80 -j DROP"), out, rules.Forwarded, "", ""},
		{"all ports but one", firewalltest.Save("filter", "FORWARD -p tcp -m tcp ! --dport 80 -j DROP"), out, rules.Forwarded, "", ""},
		{"what is not known", firewalltest.Save("filter", "FORWARD -m set --match-set blocked src -j DROP"), out, rules.Forwarded, "",
			""},
		{"a mark", firewalltest.Save("filter", "FORWARD -m mark ! --mark 0x1/0x1 -j DROP"), out, rules.Forwarded,
			"-A FORWARD -m mark ! --mark 0x1/0x1 -j DROP", ""},
		{"a connection's mark, which is not known", firewalltest.Save("filter", "FORWARD -m connmark ! --mark 0x1/0x1 -j DROP"), out,
			rules.Forwarded, "", ""},
		{"an invalid state", firewalltest.Save("filter", "FORWARD -m conntrack --ctstate INVALID -j DROP"), out, rules.Forwarded, "",
			""},
		{"a list of ports", firewalltest.Save("filter", "INPUT -p udp -m multiport --dports 53,8000:9000 -j DROP"), tunnel,
			rules.Received, "-A INPUT -p udp -m multiport --dports 53,8000:9000 -j DROP", ""},
		{"another list of ports", firewalltest.Save("filter", "INPUT -p udp -m multiport --dports 53,9000:9100 -j DROP"), tunnel,
			rules.Received, "", ""},
		{"a port in the raw table", firewalltest.Save("raw", "PREROUTING -p udp -m udp --dport 8472 -j DROP"), tunnel, rules.Received,
			"-t raw -A PREROUTING -p udp -m udp --dport 8472 -j DROP", ""},
		{"a local address", firewalltest.Save("filter", "INPUT -m addrtype --dst-type LOCAL -j DROP"), tunnel, rules.Received,
			"-A INPUT -m addrtype --dst-type LOCAL -j DROP", ""},
		{"a broadcast address", firewalltest.Save("filter", "INPUT -m addrtype --dst-type BROADCAST -j DROP"), tunnel, rules.Received,
			"", ""},
		{"a chain", firewalltest.Save("filter", ":A - [0:0]", "FORWARD -j A", "A -d 172.7.22.0/24 -j DROP"), out, rules.Forwarded,
			"-A A -d 172.7.22.0/24 -j DROP", ""},
		{"a chain that returns", firewalltest.Save("filter", ":A - [0:0]", "FORWARD -j A", "FORWARD -j DROP", "A -j RETURN"), out,
			rules.Forwarded, "-A FORWARD -j DROP", ""},
		{"a chain gone to does not come back",
			firewalltest.Save("filter", ":A - [0:0]", "FORWARD -g A", "FORWARD -j DROP", "A -s 10.0.0.0/8 -j DROP"), out, rules.Forwarded,
			"", ""},
		{"a chain that accepts", firewalltest.Save("filter", ":A - [0:0]", "FORWARD -j A", "FORWARD -j DROP", "A -j ACCEPT"), out,
			rules.Forwarded, "", ""},
		{"a chain that calls itself", firewalltest.Save("filter", ":A - [0:0]", "FORWARD -j A", "A -j A", "A -j DROP"), out,
			rules.Forwarded, "-A A -j DROP", ""},
		{"targets that go on",
			firewalltest.Save("filter", `FORWARD -j LOG --log-prefix "-j DROP "`, "FORWARD -j MARK --set-xmark 0x1/0x1", "FORWARD -j DROP"),
			out, rules.Forwarded, "-A FORWARD -j DROP", ""},
		{"a comment with quotes",
			firewalltest.Save("filter", `FORWARD -s 172.7.0.0/16 -m comment --comment "no -j ACCEPT \" here" -j DROP`), out,
			rules.Forwarded,
			`-A FORWARD -s 172.7.0.0/16 -m comment --comment 'no -j ACCEPT " here' -j DROP`, ""},
		{"the mangle table", firewalltest.Save("mangle", "POSTROUTING -o flannel.1 -j DROP"), out, rules.Forwarded,
			"-t mangle -A POSTROUTING -o flannel.1 -j DROP", ""},
		{"docker hides containers", firewalltest.Save("nat", "POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE"), out,
			rules.Forwarded, "", "-t nat -A POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE"},
		{"flanneld in front of docker",
			firewalltest.Save("nat", "POSTROUTING -s 172.7.0.0/16 -d 172.7.0.0/16 -j RETURN", "POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE"),
			out, rules.Forwarded, "", ""},
		{"the tutorial's rule", firewalltest.Save("nat", "POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE"),
			out, rules.Forwarded, "", ""},
		{"an SNAT in a chain",
			firewalltest.Save("nat", ":A - [0:0]", "POSTROUTING -j A", "A -s 172.7.21.0/24 -j SNAT --to-source 10.4.7.21"), out,
			rules.Forwarded, "", "-t nat -A A -s 172.7.21.0/24 -j SNAT --to-source 10.4.7.21"},
		{"on the way out", firewalltest.Save("filter", "OUTPUT -d 10.4.7.0/24 -p udp -j DROP"),
			rules.Packet{Out: "ens33", Dst: peer, Protocol: "udp"}, rules.Sent, "-A OUTPUT -d 10.4.7.0/24 -p udp -j DROP", ""},
	} {
		eachFamily(t, func(t *testing.T, f inet.Family) {
			v := Parse(Program(f), firewalltest.In(f, tt.set)).Evaluate(firewalltest.Packet(f, tt.packet), tt.through)
			got := ""
			switch {
			case v.Rule != nil && v.Dropped:
				got = Show(*v.Rule)
			case v.Dropped:
				got = "policy " + v.Table.Name + " " + v.Chain
			}
			hidden := ""
			if v.SNAT != nil {
				hidden = Show(*v.SNAT)
			}
			if want, hides := firewalltest.In(f, tt.want), firewalltest.In(f, tt.hidden); got != want || hidden != hides {
				t.Errorf("%s: dropped by %q, want %q; hidden by %q, want %q", tt.name, got, want, hidden, hides)
			}
		})
	}
}

// A rule's comment is anybody's, and the command that removes the rule is pasted into a
// shell.
func TestRemove(t *testing.T) {
	for comment, want := range map[string]string{
		`"a b"`:          "'a b'",
		`"$(reboot)"`:    "'$(reboot)'",
		"`reboot`":       "'`reboot`'",
		`"it's; reboot"`: `'it'\''s; reboot'`,
		`"say \"no\""`:   `'say "no"'`,
	} {
		set := Parse("iptables-legacy", "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING ! -o docker0 -m comment --comment "+comment+" -j MASQUERADE\n")
		rule := set[0].Chains["POSTROUTING"].Rules[0]
		end := " POSTROUTING ! -o docker0 -m comment --comment " + want + " -j MASQUERADE"
		if got := Remove(rule); got != "iptables-legacy -t nat -D"+end {
			t.Errorf("%s, want %s", got, end)
		}
		if got := Show(rule); got != "-t nat -A"+end {
			t.Errorf("%s, want %s", got, end)
		}
	}
}
