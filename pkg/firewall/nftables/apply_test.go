package nftables

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

var wanted = rules.Wanted{
	Network: netip.MustParsePrefix("172.7.0.0/16"),
	Subnet:  netip.MustParsePrefix("172.7.21.0/24"),
	Peers: []rules.Peer{
		{Subnet: netip.MustParsePrefix("172.7.22.0/24"), Device: "flannel.1"},
		{Subnet: netip.MustParsePrefix("172.7.23.0/24"), Device: "ens33", Host: netip.MustParseAddr("10.4.7.23")},
	},
	Masquerade: true, Forward: true, NFTables: true,
}

// nft runs the program that operators use.
func nft(t testing.TB, script string) string {
	t.Helper()
	cmd := exec.Command("/usr/sbin/nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s\n%s", err, out, script)
	}
	return string(out)
}

// emptyRuleset empties nf_tables now and when the test ends.
func emptyRuleset(t testing.TB) {
	t.Helper()
	nft(t, "flush ruleset")
	t.Cleanup(func() { nft(t, "flush ruleset") })
}

func connect(t testing.TB) conn {
	t.Helper()
	c, err := open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func apply(t testing.TB, want table) string {
	t.Helper()
	drift, err := connect(t).apply(want)
	if err != nil {
		t.Fatal(err)
	}
	return drift
}

const everything = `table ip flanneld {
	set subnets-0 {
		type ipv4_addr
		elements = { 172.7.23.0 }
	}

	set hosts-0 {
		type ipv4_addr
		elements = { 10.4.7.23 }
	}

	set subnets-1 {
		type ipv4_addr
		elements = { 172.7.22.0 }
	}

	chain prerouting {
		type filter hook prerouting priority raw - 10; policy accept;
		iifname "ens33" ip daddr 172.7.21.0/24 ip saddr & 255.255.255.0 == @subnets-0 counter packets 0 bytes 0 meta mark set meta mark | 0x00001000 comment "flanneld"
		iifname "ens33" ip daddr 172.7.21.0/24 ip saddr @hosts-0 counter packets 0 bytes 0 meta mark set meta mark | 0x00001000 comment "flanneld"
		iifname "flannel.1" ip daddr 172.7.21.0/24 ip saddr & 255.255.255.0 == @subnets-1 counter packets 0 bytes 0 meta mark set meta mark | 0x00001000 comment "flanneld"
	}

	chain keep {
		type nat hook postrouting priority srcnat - 1; policy accept;
		ct status dnat counter packets 0 bytes 0 return comment "flanneld"
		ip saddr 172.7.0.0/16 ip daddr 172.7.0.0/16 counter packets 0 bytes 0 snat to ip saddr comment "flanneld"
		ip saddr != 172.7.0.0/16 ip daddr 172.7.21.0/24 counter packets 0 bytes 0 snat to ip saddr comment "flanneld"
	}

	chain masquerade {
		type nat hook postrouting priority srcnat + 1; policy accept;
		ip saddr 172.7.0.0/16 ip daddr 172.7.0.0/16 counter packets 0 bytes 0 return comment "flanneld"
		ip saddr 172.7.0.0/16 ip daddr != 224.0.0.0/4 counter packets 0 bytes 0 masquerade fully-random comment "flanneld"
		ip saddr != 172.7.0.0/16 ip daddr 172.7.21.0/24 counter packets 0 bytes 0 return comment "flanneld"
		ip saddr != 172.7.0.0/16 ip daddr 172.7.0.0/16 counter packets 0 bytes 0 masquerade fully-random comment "flanneld"
	}
}
`

func TestTable(t *testing.T) { eachFamily(t, testTable) }

func testTable(t *testing.T, f inet.Family) {
	emptyRuleset(t)
	everything := as(f, everything)
	without := func(change func(*rules.Wanted)) rules.Wanted {
		w := wanted
		change(&w)
		return w
	}
	section := func(names ...string) string {
		head, rest, _ := strings.Cut(everything, "\n")
		var out []string
		for _, part := range strings.Split(strings.TrimSuffix(rest, "}\n"), "\n\n") {
			for _, name := range names {
				if strings.HasPrefix(part, "\tchain "+name+" {") || name == "prerouting" && strings.HasPrefix(part, "\tset ") {
					out = append(out, strings.TrimSuffix(part, "\n")+"\n")
				}
			}
		}
		if out == nil {
			return ""
		}
		return head + "\n" + strings.Join(out, "\n") + "}\n"
	}
	for _, test := range []struct {
		name  string
		w     rules.Wanted
		marks bool
		want  string
	}{
		{"everything", wanted, false, everything},
		{"beside iptables", without(func(w *rules.Wanted) { w.NFTables = false }), true, section("prerouting")},
		{"iptables alone", without(func(w *rules.Wanted) { w.NFTables = false }), false, ""},
		{"without --ip-masq", without(func(w *rules.Wanted) { w.Masquerade = false }), true, section("prerouting")},
		{"without --iptables-forward-rules", without(func(w *rules.Wanted) { w.Forward = false }), true, section("keep", "masquerade")},
		{"plain ports", without(func(w *rules.Wanted) { w.PlainPorts = true }), false, strings.ReplaceAll(everything, " fully-random", "")},
		{"neither", without(func(w *rules.Wanted) { w.Forward, w.Masquerade = false, false }), true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			apply(t, tableFor(firewalltest.Wanted(f, test.w), test.marks))
			if diff := cmp.Diff(test.want, nft(t, "list ruleset")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if wrong := apply(t, tableFor(firewalltest.Wanted(f, test.w), test.marks)); wrong != "" {
				t.Errorf("written again, as: %s", wrong)
			}
		})
	}
}

func TestApplyRepairs(t *testing.T) { eachFamily(t, testApplyRepairs) }

func testApplyRepairs(t *testing.T, f inet.Family) {
	emptyRuleset(t)
	table := tableFor(firewalltest.Wanted(f, wanted), false)
	for _, test := range []struct{ name, how, wrong string }{
		{"at first", "", "the table ip flanneld is not there"},
		{"nothing", "", ""},
		{"flushed", "flush ruleset", "the table ip flanneld is not there"},
		{"chains emptied", "flush table ip flanneld", "chain prerouting: 0 rules in place of 3"},
		{"a chain deleted", "delete chain ip flanneld keep", "2 chains in place of 3"},
		{"a chain put in place of another", "delete chain ip flanneld keep; add chain ip flanneld other", "chain keep: is not there"},
		{"a chain added", "add chain ip flanneld other", "4 chains in place of 3"},
		{"a rule added", "add rule ip flanneld keep accept", "chain keep: 4 rules in place of 3"},
		{"a rule in front", "flush chain ip flanneld prerouting; add rule ip flanneld prerouting drop; add rule ip flanneld prerouting drop; add rule ip flanneld prerouting drop", "chain prerouting: rule 1 is another one"},
		{"another priority", "delete chain ip flanneld keep; add chain ip flanneld keep { type nat hook postrouting priority 98; }", "chain keep: sees other packets than it should"},
		{"a peer deleted", "delete element ip flanneld subnets-1 { 172.7.22.0 }", "1 peers missing, 0 too many in set subnets-1"},
		{"peers added", "add element ip flanneld hosts-0 { 10.4.7.99, 10.4.7.98 }", "0 peers missing, 2 too many in set hosts-0"},
		{"a set added", "add set ip flanneld other { type ipv4_addr; }", "other sets than there should be"},
		{"another policy", "add chain ip flanneld prerouting { type filter hook prerouting priority -310; policy drop; }", "chain prerouting: has another policy"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.how != "" {
				nft(t, as(f, test.how))
			}
			if wrong := apply(t, table); wrong != as(f, test.wrong) {
				t.Errorf("wrong was %q, want %q", wrong, as(f, test.wrong))
			}
			if wrong := apply(t, table); wrong != "" {
				t.Errorf("the second time it was %q", wrong)
			}
			if diff := cmp.Diff(as(f, everything), nft(t, "list ruleset")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestForeignTable(t *testing.T) {
	eachFamily(t, func(t *testing.T, f inet.Family) {
		emptyRuleset(t)
		w := firewalltest.Wanted(f, wanted)
		nft(t, as(f, "table ip flanneld { chain c { accept; }; }"))
		before := nft(t, "list ruleset")
		if _, err := connect(t).apply(tableFor(w, false)); !errors.Is(err, errForeign) {
			t.Errorf("error %v", err)
		}
		if now := nft(t, "list ruleset"); now != before {
			t.Errorf("it was\n%sand is\n%s", before, now)
		}
		other := map[inet.Family]string{inet.IPv4: "table ip6 flanneld", inet.IPv6: "table ip flanneld"}[f]
		nft(t, "flush ruleset; add table ip flanneld; add table ip6 flanneld")
		apply(t, tableFor(w, false))
		if now := nft(t, "list ruleset"); !strings.Contains(now, other) {
			t.Error("the other family's table is gone")
		}
	})
}

func TestLegacyTables(t *testing.T) {
	const of028 = `table ip flannel-ipv4 {
			chain postrtg { type nat hook postrouting priority srcnat; policy accept;
				meta mark 0x4000 return; ip saddr NET.21.0/24 ip daddr NET.0.0/16 return; ip saddr NET.0.0/16 ip daddr NET.21.0/24 return
				ip saddr != NET.0.0/16 ip daddr NET.21.0/24 return; ip saddr NET.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random; ip saddr != NET.0.0/16 ip daddr NET.0.0/16 masquerade fully-random; }
			chain forward { type filter hook forward priority filter; policy accept; ip saddr NET.0.0/16 accept; ip daddr NET.0.0/16 accept; }
		}`
	ours, others := strings.ReplaceAll(of028, "NET", "172.7"), strings.ReplaceAll(of028, "NET", "172.8")
	network := netip.MustParsePrefix("172.7.0.0/16")
	for _, test := range []struct {
		name, tables string
		removed      []string
		left         netip.Prefix
	}{
		{"none", "", nil, netip.Prefix{}},
		{"one", ours, []string{"flannel-ipv4"}, network},
		{"another network's", others, nil, netip.MustParsePrefix("172.8.0.0/16")},
		{"an empty one", "table ip flannel-ipv4 { }", nil, netip.Prefix{}},
		{"a host route of the network's name", "table ip flannel-ipv4 { chain forward { ip saddr 172.7.0.0 accept; }; }", nil, netip.MustParsePrefix("172.7.0.0/32")},
	} {
		t.Run(test.name, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, f inet.Family) {
				emptyRuleset(t)
				// The other family's table is its Writer's.
				other := map[inet.Family]inet.Family{inet.IPv4: inet.IPv6, inet.IPv6: inet.IPv4}[f]
				nft(t, as(f, test.tables)+"\n"+as(other, ours)+"\ntable ip other { }")
				before := nft(t, "list ruleset")
				mine, flannels, err := Left(f, "flanneld")
				if want := firewalltest.Prefix(f, test.left); err != nil || mine.IsValid() || flannels != want {
					t.Errorf("left are %v and %v, want %v; error %v", mine, flannels, want, err)
				}
				removed, err := connect(t).deleteLegacy(firewalltest.Wanted(f, wanted))
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				for _, name := range test.removed {
					want = append(want, as(f, name))
				}
				if diff := cmp.Diff(want, removed); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				now := nft(t, "list ruleset")
				if test.removed == nil && now != before || !strings.Contains(now, "table ip other") || !strings.Contains(now, as(other, "flannel-ipv4")) ||
					strings.Contains(now, as(f, "flannel-ipv4")) != (test.removed == nil && test.tables != "") {
					t.Errorf("it was\n%sand is\n%s", before, now)
				}
			})
		})
	}
}

// TestLeft: our own table shows for which network it is, in any form that it has.
func TestLeft(t *testing.T) {
	eachFamily(t, func(t *testing.T, f inet.Family) {
		w := firewalltest.Wanted(f, wanted)
		w.Table = "flanneld-0badc0de"
		beside := w
		beside.NFTables = false
		for _, tt := range []struct {
			table table
			want  netip.Prefix
		}{
			{tableFor(w, false), w.Network}, {tableFor(beside, true), w.Subnet}, {tableFor(beside, false), netip.Prefix{}},
		} {
			emptyRuleset(t)
			apply(t, tt.table)
			ours, flannels, err := Left(f, w.Table)
			if err != nil || ours != tt.want || flannels.IsValid() {
				t.Errorf("left are %v and %v, error %v; want %v", ours, flannels, err, tt.want)
			}
		}
		emptyRuleset(t)
		nft(t, as(f, "table ip flanneld-0badc0de { chain c { ip saddr 10.0.0.0/8 accept; }; }"))
		if ours, _, err := Left(f, w.Table); err != nil || ours.IsValid() {
			t.Errorf("somebody else's table has %v, error %v", ours, err)
		}
	})
}

// TestManyPeers comes and goes by the thousand, and does not write what is there.
func TestManyPeers(t *testing.T) { eachFamily(t, testManyPeers) }

func testManyPeers(t *testing.T, f inet.Family) {
	emptyRuleset(t)
	w := wanted
	w.Peers = nil
	for i := range 12000 {
		a := netip.AddrFrom4([4]byte{10, byte(64 + i>>8), byte(i), 0})
		w.Peers = append(w.Peers, rules.Peer{Subnet: netip.PrefixFrom(a, 24), Device: "ens33", Host: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
	}
	w = firewalltest.Wanted(f, w)
	apply(t, tableFor(w, true))
	if wrong := apply(t, tableFor(w, true)); wrong != "" {
		t.Errorf("written again, as: %s", wrong)
	}
	all := w.Peers
	w.Peers = all[5000:7001]
	if wrong, want := apply(t, tableFor(w, true)), "0 peers missing, 9999 too many in set subnets-0"; wrong != want {
		t.Errorf("wrong was %q, want %q", wrong, want)
	}
	w.Peers = all
	apply(t, tableFor(w, true))
	if wrong := apply(t, tableFor(w, true)); wrong != "" {
		t.Errorf("written again, as: %s", wrong)
	}
}
