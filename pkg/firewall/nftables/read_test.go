package nftables

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

func load(t testing.TB, file string) rules.Ruleset {
	t.Helper()
	emptyRuleset(t)
	script, err := os.ReadFile("testdata/" + file + ".nft")
	if err != nil {
		t.Fatal(err)
	}
	nft(t, string(script))
	return read(t)
}

func read(t testing.TB) rules.Ruleset {
	t.Helper()
	all, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// listing is a rule set as text.
func listing(all rules.Ruleset) string {
	var b strings.Builder
	for _, t := range all {
		fmt.Fprintf(&b, "%s %s\n", t.Family, t.Name)
		var names []string
		for name := range t.Chains {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			c := t.Chains[name]
			fmt.Fprintf(&b, " %s", name)
			if c.Hook != "" {
				fmt.Fprintf(&b, " %s %d nat=%v drops=%v", c.Hook, c.Priority, c.NAT, c.Drops)
			}
			b.WriteString("\n")
			for _, r := range c.Rules {
				fmt.Fprintf(&b, "  %s # %q\n", r.Text, r.Comment)
			}
		}
	}
	return b.String()
}

func TestReadDocker29(t *testing.T) {
	const want = `ip docker-bridges
 filter-FORWARD forward 0 nat=false drops=false
  oifname vmap @filter-forward-in-jumps # ""
  iifname vmap @filter-forward-out-jumps # ""
 filter-forward-in__docker0
  ct state established,related accept # ""
  meta mark & 0x00001000 == 0x00001000 accept # "ALLOW FW MARK"
  iifname "docker0" accept # "ICC"
  drop # "UNPUBLISHED PORT DROP"
 filter-forward-out__docker0
  ct state established,related accept # ""
  accept # "OUTGOING"
 nat-OUTPUT output -100 nat=true drops=false
  ip daddr != 127.0.0.0/8 fib daddr type local jump nat-prerouting-and-output # ""
 nat-POSTROUTING postrouting 100 nat=true drops=false
  iifname vmap @nat-postrouting-out-jumps # ""
  oifname vmap @nat-postrouting-in-jumps # ""
 nat-PREROUTING prerouting -100 nat=true drops=false
  fib daddr type local jump nat-prerouting-and-output # ""
 nat-postrouting-in__docker0
 nat-postrouting-out__docker0
  oifname != "docker0" ip saddr 172.7.21.0/24 masquerade # "MASQUERADE"
 nat-prerouting-and-output
 raw-PREROUTING prerouting -300 nat=false drops=false
  ip daddr 172.7.21.2 iifname != "docker0" drop # "DROP DIRECT ACCESS"
`
	eachFamily(t, func(t *testing.T, f inet.Family) {
		file := map[inet.Family]string{inet.IPv4: "docker-29-onlymark", inet.IPv6: "docker-29-ipv6-onlymark"}[f]
		got := slices.DeleteFunc(load(t, file), func(table *rules.Table) bool { return table.Family != families[byte(tableFamily(f))] })
		if diff := cmp.Diff(strings.ReplaceAll(as(f, want), "::1/128", "::1"), listing(got)); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

// TestDocker29 sends packets through what docker 29 writes, with and without our
// table.
func TestDocker29(t *testing.T) {
	const direct, unpublished = `ip daddr 172.7.21.2 iifname != "docker0" drop`, "drop"
	here, there := netip.MustParseAddr("172.7.21.2"), netip.MustParseAddr("172.7.22.2")
	from := rules.Packet{In: "flannel.1", Out: "docker0", Src: there, Dst: here, Protocol: "tcp", DstPort: 80, State: "NEW"}
	to := rules.Packet{In: "docker0", Out: "flannel.1", Src: here, Dst: there, Protocol: "tcp", DstPort: 80, State: "NEW"}
	stranger := from
	stranger.Src = netip.MustParseAddr("10.4.7.99")
	for _, test := range []struct {
		file     string
		alone    string // drops what comes from a peer
		with     string // the same beside our table
		stranger string // drops what comes from elsewhere, beside our table
	}{
		{"docker-29-plain", direct, direct, direct},
		{"docker-29-direct-routing", unpublished, unpublished, unpublished},
		{"docker-29-onlymark", direct, direct, direct},
		{"docker-29-options", unpublished, "", unpublished},
	} {
		eachFamily(t, func(t *testing.T, f inet.Family) {
			t.Run(test.file, func(t *testing.T) {
				file, alone, with, strange, direct := test.file, as(f, test.alone), as(f, test.with), as(f, test.stranger), as(f, direct)
				if f == inet.IPv6 {
					file = strings.Replace(file, "docker-29", "docker-29-ipv6", 1)
				}
				to := firewalltest.Packet(f, to)
				by := func(p rules.Packet) string {
					v := read(t).Evaluate(firewalltest.Packet(f, p), rules.Forwarded)
					if v.Dropped {
						return v.Rule.Text
					}
					return ""
				}
				all := load(t, file)
				if got := by(from); got != alone {
					t.Errorf("alone, it is dropped by %q, want %q", got, alone)
				}
				if v := all.Evaluate(to, rules.Forwarded); v.Dropped || (v.SNAT != nil) != strings.Contains(listing(all), "MASQUERADE\"") {
					t.Errorf("alone, what we send: %+v", v)
				}
				apply(t, tableFor(firewalltest.Wanted(f, wanted), true))
				if got := by(from); got != with {
					t.Errorf("with our table, it is dropped by %q, want %q", got, with)
				}
				if got := by(stranger); got != strange {
					t.Errorf("with our table, a stranger's is dropped by %q, want %q", got, strange)
				}
				if v := read(t).Evaluate(to, rules.Forwarded); v.Dropped || v.SNAT != nil {
					t.Errorf("with our table, what we send: %+v", v)
				}
				established := from
				established.State = "ESTABLISHED"
				if got := by(established); got != "" && got != direct {
					t.Errorf("an answer is dropped by %q", got)
				}
			})
		})
	}
}

func TestTexts(t *testing.T) {
	emptyRuleset(t)
	const script = `table inet t {
	set tcp_ports { type inet_service; elements = { 22, 80 }; }
	chain c { }
	chain f { type filter hook forward priority 5; policy drop;
	%s
	}
}`
	same := []string{ // as nft prints them
		"drop", "accept", "jump c", "goto c", `iifname "docker0" oifname != "docker0" drop`, `iifname "br-*" accept`, "meta l4proto udp accept", "tcp dport 22 accept", "udp sport 53 accept",
		"tcp dport @tcp_ports accept", "tcp dport != @tcp_ports drop", "tcp dport { 22, 80-90 } accept", "udp dport vmap { 53 : accept, 67-68 : jump c } drop",
		"ip saddr 10.0.0.0/8 accept", "ip saddr != 10.1.0.0/20 drop", "ip saddr { 10.0.0.1, 10.0.0.3-10.0.0.9 } accept", "ct state established,related accept", "ct state vmap { invalid : drop, established : accept } continue",
		"ct status dnat accept", "meta mark 0x00000001 accept", "meta mark & 0x0000ff00 == 0x00000100 accept", "meta mark set 0x00001000", "fib daddr type local accept", "limit rate 10/second accept", "limit rate over 5/minute drop",
		`iif "lo" accept`, "meta nfproto ipv4 accept", "ct mark 0x00000002 accept", "tcp dport >= 1024 accept", "reject", "meta mark set ct mark", "meta mark set meta mark | 0x00001000",
		"ip6 saddr fd00:7::/64 accept", "ip6 saddr fd00:7::/61 accept", "ip6 saddr fe80::/10 drop", "ip6 daddr != fd00:7::2 drop", "ip6 saddr { fd00::1, fd00::3-fd00::9 } accept", "ip6 daddr fd00:7::2 tcp dport 80 accept",
		"meta l4proto ipv6-icmp accept", "meta nfproto ipv6 accept", "ip6 nexthdr tcp accept", "meta protocol ip6 accept",
	}
	// Not printed; the handle is enough.
	other := []string{"tcp flags syn drop", "ip saddr . tcp dport { 10.0.0.1 . 22 } accept", "meta skuid 0 accept", "tcp option maxseg size set rt mtu", "ip ttl 1 drop", "ip6 hoplimit 1 drop", "icmpv6 type nd-neighbor-solicit accept", "ip6 saddr . tcp dport { fd00::1 . 22 } accept"}
	nft(t, fmt.Sprintf(script, strings.Join(append(append([]string{}, same...), other...), "\n\t")))
	got := read(t)[0].Chains["f"].Rules
	if len(got) != len(same)+len(other) {
		t.Fatalf("%d rules, want %d", len(got), len(same)+len(other))
	}
	for i, r := range got {
		want := fmt.Sprintf("rule %d", r.Handle)
		if i < len(same) {
			want = same[i]
		}
		if r.Text != want {
			t.Errorf("the text is %q, want %q", r.Text, want)
		}
	}
}

// TestNames is what others may name and say: anything.
func TestNames(t *testing.T) {
	for in, want := range map[string]string{"abc\x00def": "abc", "a\nb\x1b[31m\xff": "a?b?[31m?", "käse": "käse", strings.Repeat("x", 300): strings.Repeat("x", 256) + "…"} {
		if got := textOf([]byte(in)); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"": "", "\x00": "", "\x00\x05ab": "", "\x00\x03ab\x00": "ab", "\x01\x01x\x00\x02hi": "hi", "\x01\xffx": ""} {
		if got := commentOf([]byte(in)); got != want {
			t.Errorf("in %q the comment is %q, want %q", in, got, want)
		}
	}
}

func FuzzExpressions(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x10\x00\x01\x80\x09\x00\x01\x00meta\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, list []byte) {
		exprs, _ := expressions(2, list)
		for family := range families {
			b := body{host: &host{}, family: family, exprs: exprs}
			b.Evaluate(&rules.Packet{In: "a", Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2")})
			b.Evaluate(&rules.Packet{In: "a", Src: netip.MustParseAddr("fd00::1"), Dst: netip.MustParseAddr("fd00::2")})
			b.text(1)
			prefixes(headers[family], exprs)
		}
	})
}

// TestUnknownIsMaybe has rules about what we do not know: they neither match nor
// do anything.
func TestUnknownIsMaybe(t *testing.T) {
	p := rules.Packet{In: "eth0", Out: "docker0", Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Protocol: "tcp", DstPort: 80, State: "NEW"}
	for rule, want := range map[string]rules.Truth{
		"tcp flags syn drop":                              rules.Maybe,
		"meta skuid 0 drop":                               rules.Maybe,
		"ct mark 1 drop":                                  rules.Maybe,
		"meta mark set ct mark drop":                      rules.Yes,
		"ip ttl 1 drop":                                   rules.Maybe,
		"ip ttl 1 ip saddr 10.0.0.2 drop":                 rules.No,
		"ip ttl 1 meta mark set 0x7 accept":               rules.Maybe,
		"ip saddr . ip ttl { 10.0.0.1 . 1 } drop":         rules.Maybe,
		"ip saddr . ip ttl { 10.0.0.7 . 1 } drop":         rules.No,
		"tcp sport vmap { 1 : drop, 2 : accept }":         rules.Maybe,
		"tcp sport != { 1, 2 } drop":                      rules.Maybe,
		"rt classid 7 drop":                               rules.Maybe,
		"numgen random mod 2 0 drop":                      rules.Maybe,
		"ct count over 20 drop":                           rules.Maybe,
		"fib saddr . iif oif missing drop":                rules.Maybe,
		"ip saddr 10.0.0.1 counter log drop":              rules.Yes,
		"ct state { new } tcp dport 1-100 drop":           rules.Yes,
		"iifname { \"eth*\", \"lo\" } drop":               rules.Yes,
		"limit rate 1/second burst 1 packets drop":        rules.Yes,
		"limit rate over 1/second drop":                   rules.No,
		"ct direction reply drop":                         rules.No,
		"quota over 1 mbytes drop":                        rules.Maybe,
		"update @m { ip saddr limit rate 1/second } drop": rules.Maybe,
		"add @m { ip saddr } drop":                        rules.Yes,
	} {
		emptyRuleset(t)
		nft(t, "table ip t { set m { type ipv4_addr; flags dynamic; size 100; }; chain c { type filter hook forward priority 0; "+rule+"; }; }")
		here := p
		if e := read(t)[0].Chains["c"].Rules[0].Body.Evaluate(&here); e.Match != want || here.Mark != 0 {
			t.Errorf("%s: matches %v, want %v; mark %#x", rule, e.Match, want, here.Mark)
		}
	}
}

// TestWhatIPv6PacketsMatch asks what only one family has.
func TestWhatIPv6PacketsMatch(t *testing.T) {
	p := rules.Packet{In: "eth0", Out: "docker0", Src: netip.MustParseAddr("fd00:7:0:22::1"), Dst: netip.MustParseAddr("fd00:7:0:21::2"), Protocol: "tcp", DstPort: 80, State: "NEW"}
	echo := p
	echo.Protocol, echo.DstPort = "icmpv6", 0
	for _, tt := range []struct {
		rule       string
		tcp, icmp6 rules.Truth
	}{
		{"ip6 saddr fd00:7:0:22::1", rules.Yes, rules.Yes},
		{"ip6 saddr fd00:7::/32 ip6 daddr fd00:7:0:21::/64", rules.Yes, rules.Yes},
		{"ip6 saddr fd00:7:0:22::/63 ip6 daddr != fd00:7:0:20::/63", rules.No, rules.No},
		{"ip6 daddr { fd00:7:0:20::/64, fd00:7:0:21::-fd00:7:0:21::2 }", rules.Yes, rules.Yes},
		{"ip6 daddr { fd00:7:0:20::/64, fd00:7:0:21::3-fd00:7:0:22:: }", rules.No, rules.No},
		{"ip6 saddr . tcp dport { fd00:7:0:22::/64 . 80-90 }", rules.Yes, rules.No},
		{"meta l4proto ipv6-icmp", rules.No, rules.Yes},
		{"meta l4proto icmp", rules.No, rules.No},
		{"ip6 nexthdr { tcp, udp }", rules.Yes, rules.No},
		{"icmpv6 type echo-request", rules.No, rules.Maybe},
		{"ip6 hoplimit 1", rules.Maybe, rules.Maybe},
		{"meta nfproto ipv6", rules.Yes, rules.Yes},
		{"meta nfproto ipv4", rules.No, rules.No},
		{"meta protocol ip6", rules.Yes, rules.Yes},
		{"meta protocol ip", rules.No, rules.No},
		{"ip saddr 0.0.0.0/0 ip daddr != 10.0.0.0/8", rules.No, rules.No},
		{"tcp dport 80", rules.Yes, rules.No},
	} {
		emptyRuleset(t)
		nft(t, "table inet t { chain c { type filter hook forward priority 0; "+tt.rule+" reject; }; }")
		for of, want := range map[*rules.Packet]rules.Truth{&p: tt.tcp, &echo: tt.icmp6} {
			here := *of
			if e := read(t)[0].Chains["c"].Rules[0].Body.Evaluate(&here); e.Match != want {
				t.Errorf("%s: %s matches %v, want %v", tt.rule, of.Protocol, e.Match, want)
			}
		}
	}
}

// TestFamiliesAreApart: a table of one family sees no packets of the other, and one for
// both does.
func TestFamiliesAreApart(t *testing.T) {
	for _, f := range inet.Families() {
		src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
		p := firewalltest.Packet(f, rules.Packet{In: "eth0", Out: "docker0", Src: src, Dst: dst})
		for family, drops := range map[string]bool{"ip": f == inet.IPv4, "ip6": f == inet.IPv6, "inet": true} {
			emptyRuleset(t)
			nft(t, "table "+family+" t { chain c { type filter hook forward priority 0; drop; }; }")
			if v := read(t).Evaluate(p, rules.Forwarded); v.Dropped != drops {
				t.Errorf("a packet of %v in a table of %s: dropped %v", f, family, v.Dropped)
			}
		}
	}
}
