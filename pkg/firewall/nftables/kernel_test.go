package nftables

import (
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// Pieces of rules. Of what is in a packet they ask only for what we know.
var (
	anywhere = []string{
		"", "ip saddr 10.1.0.2", "ip saddr != 10.1.0.2", "ip saddr 10.1.0.0/24", "ip saddr != 10.1.0.0/31", "ip daddr 10.2.0.2/31", "ip daddr 10.0.0.0/8", "ip daddr != 10.2.0.0/30",
		"ip saddr { 10.1.0.2, 10.1.0.5 }", "ip daddr { 10.2.0.2, 10.2.0.4-10.2.0.9 }", "ip daddr != { 10.2.0.0/30, 10.3.0.0/16 }", "ip saddr 10.1.0.2-10.1.0.3", "ip saddr < 10.1.0.4",
		"ip saddr 10.1.0.2 ip daddr 10.2.0.2", "ip saddr . ip daddr { 10.1.0.2 . 10.2.0.2, 10.1.0.3 . 10.2.0.3 }", "ip saddr . udp dport { 10.1.0.0/30 . 50-55, 10.1.0.5 . 80 }",
		"iifname left", "iifname != left", "iifname le*", "iifname { left, lo }", "iif left", "iif != lo", "oifname right", "oifname != right", "oif right", "iifname . ip daddr { left . 10.2.0.2 }",
		"meta l4proto udp", "meta l4proto tcp", "ip protocol udp", "ip protocol != udp", "meta l4proto { tcp, icmp }", "meta protocol ip",
		"udp dport 53", "udp dport != 53", "udp dport 50-60", "udp dport { 53, 80-90 }", "udp dport >= 55", "tcp dport 53", "th dport 53", "ip daddr @addresses_ipv4", "ip daddr != @addresses_ipv4", "udp dport @ports",
		"meta mark 0x1", "meta mark & 0x3 == 0x1", "meta mark and 0x1 != 0", "meta mark != 0", "meta mark { 0x0, 0x2 }", "meta mark 0x1-0x8", "meta mark > 0x2",
		"fib daddr type local", "fib daddr type unicast", "fib saddr type != local", "fib daddr type { local, broadcast }", "limit rate 1000/second burst 100 packets", "limit rate over 1000/second burst 100 packets",
	}
	// tracked ask for the connection, which is not known before priority -200.
	tracked = []string{"ct state new", "ct state established,related", "ct state { new, untracked }", "ct state != new", "ct state vmap { invalid : drop, new : continue }", "ct status dnat", "ct status & (snat|dnat) == 0", "ct direction original", "ct direction reply"}
	actions = []string{
		"accept", "drop", "return", "continue", "counter", "jump one", "jump two", "goto two", "log",
		"meta mark set 0x1", "meta mark set 0x2", "meta mark set meta mark or 0x4", "meta mark set udp dport map { 53 : 0x1, 80 : 0x3 }", "meta mark set meta mark xor 0x3",
		"ip daddr vmap { 10.2.0.2 : accept, 10.2.0.3 : drop, 10.2.0.4 : jump two }", "udp dport vmap { 50-54 : jump two, 80 : return }", "iifname vmap @jumps", "oifname vmap @jumps", "ip daddr vmap { 10.2.0.2 : continue, * : drop }",
	}
)

// drawTable makes one table with base chains in all hooks of a packet's way, for packets
// of either family or of both.
func drawTable(t *rapid.T, name string) string {
	var b strings.Builder
	family := rapid.SampledFrom([]string{"ip", "ip6", "inet"}).Draw(t, "family")
	fmt.Fprintf(&b, "table %s %s {\n", family, name)
	var seen []inet.Family
	for _, f := range inet.Families() {
		if name := families[byte(tableFamily(f))]; family == name || family == "inet" {
			seen = append(seen, f)
			b.WriteString(as(f, "set addresses_ipv4 { type ipv4_addr; flags interval; elements = { 10.2.0.3-10.2.0.4, 10.9.0.0/16 }; }\n"))
		}
	}
	b.WriteString("map jumps { type ifname : verdict; elements = { left : jump two, lo : drop }; }\nset ports { type inet_service; elements = { 53, 80 }; }\n")
	chain := func(name, head string, known []string, may func(string) bool) {
		fmt.Fprintf(&b, "chain %s { %s\n", name, head)
		for range rapid.IntRange(0, 4).Draw(t, "rules") {
			action := rapid.SampledFrom(actions).Draw(t, "action")
			if may(action) {
				rule := fmt.Sprintf("%s %s %s\n", rapid.SampledFrom(known).Draw(t, "match"), rapid.SampledFrom(known).Draw(t, "and"), action)
				b.WriteString(as(rapid.SampledFrom(seen).Draw(t, "about"), rule))
			}
		}
		b.WriteString("}\n")
	}
	plain := func(action string) bool { return !strings.Contains(action, "@jumps") }
	chain("two", "", anywhere, func(a string) bool { return plain(a) && !strings.Contains(a, "jump") && !strings.Contains(a, "goto") })
	chain("one", "", anywhere, func(a string) bool { return !strings.Contains(a, "jump one") })
	for i, hook := range []string{"prerouting", "forward", "postrouting"} {
		priority := rapid.SampledFrom([]int{-310, -150, 0, 10}).Draw(t, "priority")
		known := anywhere
		if i > 0 || priority > -200 {
			known = append(append([]string{}, anywhere...), tracked...)
		}
		policy := rapid.SampledFrom([]string{"accept", "accept", "drop"}).Draw(t, "policy")
		chain(hook, fmt.Sprintf("type filter hook %s priority %d; policy %s;", hook, priority, policy), known, func(string) bool { return true })
	}
	b.WriteString("}\n")
	return b.String()
}

// TestKernelAgrees sends packets through rules at random, and asks us first
// whether they arrive.
func TestKernelAgrees(t *testing.T) {
	w := newWire(t)
	rapid.Check(t, func(t *rapid.T) {
		script := "flush ruleset\n"
		for i := range rapid.IntRange(1, 2).Draw(t, "tables") {
			script += drawTable(t, fmt.Sprintf("t%d", i))
		}
		w.compare(t, script)
	})
}

// TestKernelAgreesOnTranslation is about who translates where several would.
func TestKernelAgreesOnTranslation(t *testing.T) {
	w := newWire(t)
	rapid.Check(t, func(t *rapid.T) {
		script := "flush ruleset\n"
		for i := range rapid.IntRange(1, 4).Draw(t, "chains") {
			table := fmt.Sprintf("table ip t%d { chain other { %s %s; }\nchain c { type nat hook postrouting priority %d;\n", i,
				rapid.SampledFrom([]string{"", "ip saddr 10.1.0.3", "udp dport 53"}).Draw(t, "other"), rapid.SampledFrom([]string{"return", "masquerade", "accept"}).Draw(t, "does"), rapid.SampledFrom([]int{98, 99, 100, 101}).Draw(t, "priority"))
			for range rapid.IntRange(0, 3).Draw(t, "rules") {
				table += rapid.SampledFrom([]string{"", "ip saddr 10.1.0.2", "ip daddr != 10.2.0.2", "udp dport 50-60", "oifname right", "ct status dnat", "oifname lo"}).Draw(t, "match") + " " +
					rapid.SampledFrom([]string{"accept", "return", "masquerade", "masquerade fully-random", "snat to ip saddr", "snat to 10.2.0.1", "jump other"}).Draw(t, "action") + "\n"
			}
			script += as(rapid.SampledFrom(inet.Families()).Draw(t, "family"), table+"}; }\n")
		}
		w.compare(t, script)
	})
}

// compare asks us and the kernel what becomes of some packets, of both families.
func (w *wire) compare(t *rapid.T, script string) {
	load := exec.Command("/usr/sbin/nft", "-f", "-")
	load.Stdin = strings.NewReader(script)
	if out, err := load.CombinedOutput(); err != nil {
		t.Skipf("nft: %v: %s\n%s", err, out, script) // two conditions that contradict each other
	}
	all, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	type sent struct {
		packet rules.Packet
		ours   rules.Verdict
	}
	packets, arriving := map[int]sent{}, map[inet.Family]int{}
	for range 6 {
		f := rapid.SampledFrom(inet.Families()).Draw(t, "of")
		p := firewalltest.Packet(f, rules.Packet{In: "left", Out: "right", Protocol: "udp", State: "NEW",
			Src:     netip.AddrFrom4([4]byte{10, 1, 0, byte(rapid.IntRange(2, 5).Draw(t, "from"))}),
			Dst:     netip.AddrFrom4([4]byte{10, 2, 0, byte(rapid.IntRange(2, 5).Draw(t, "to"))}),
			DstPort: rapid.SampledFrom([]int{50, 53, 60, 80}).Draw(t, "port")})
		v := all.Evaluate(p, rules.Forwarded)
		if !v.Dropped {
			arriving[f]++
		}
		packets[w.send(w.t, p.Src, p.Dst, p.DstPort)] = sent{p, v}
	}
	arrived := map[int]netip.Addr{}
	for _, f := range inet.Families() {
		maps.Copy(arrived, w.receive(w.t, f, arriving[f]))
	}
	for number, s := range packets {
		from, came := arrived[number]
		if came == s.ours.Dropped {
			t.Fatalf("%v\narrived: %v, we say: %v by %+v\n%s", s.packet, came, !s.ours.Dropped, s.ours.Rule, script)
		}
		if came && (from != s.packet.Src) != (s.ours.SNAT != nil) {
			t.Fatalf("%v\narrived from %v, we say it is hidden: %v\n%s", s.packet, from, s.ours.SNAT, script)
		}
	}
}
