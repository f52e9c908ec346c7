package iptables

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// translations are rules of other programs in nat POSTROUTING and in a chain that it may
// jump to.
var translations = []string{
	firewalltest.DockerMasq, firewalltest.ByHand, ownSNAT, officeSNAT, hairpin,
	`-o ens33 -j MASQUERADE`, `-o ens33 -j SNAT --to-source 10.4.7.98`, `-j SNAT --to-source 10.4.7.97`, `! -s 172.7.0.0/16 -j MASQUERADE`,
	`-s 172.7.21.3/32 -j SNAT --to-source 10.4.7.96`, `-s 10.9.0.0/16 -d 172.7.22.0/24 -j SNAT --to-source 10.4.7.95`, `-d 172.7.0.0/16 -o flannel.1 -j MASQUERADE`,
	`-s 172.7.0.0/16 -p udp -j SNAT --to-source 10.4.7.94`, `-s 172.7.0.0/16 -d 192.168.9.0/24 -j MASQUERADE --to-ports 1024-2047`, `-s 192.168.122.0/24 -j MASQUERADE`,
}

// exceptions end the way of some packets, or of all.
var exceptions = []string{`-s 172.7.0.0/16 -d 192.168.9.0/24 -j ACCEPT`, `-d 10.9.0.0/16 -j RETURN`, `-p udp -j ACCEPT`, `-j ACCEPT`, `-j RETURN`}

// TestFates holds what our rules may change of what other programs' translations do, over
// chains at random: nothing but what containers see of each other and of clients, and what
// nobody translates.
func TestFates(t *testing.T) { eachFamily(t, testFates) }

func testFates(t *testing.T, family inet.Family) {
	addresses := func(all ...string) (out []netip.Addr) {
		for _, a := range all {
			out = append(out, firewalltest.Addr(family, netip.MustParseAddr(a)))
		}
		return out
	}
	translations, exceptions := as(family, translations), as(family, exceptions)
	onlyMasq := firewalltest.Wanted(family, firewalltest.OnlyMasq)
	rapid.Check(t, func(t *rapid.T) {
		pool := translations
		excepted := rapid.Bool().Draw(t, "with exceptions")
		if excepted {
			pool = slices.Concat(translations, exceptions)
		}
		f := newFake()
		office := chainID{"nat", "OFFICE"}
		f.chains[office] = rapid.SliceOfN(rapid.SampledFrom(pool), 0, 3).Draw(t, "office")
		jumps := append(slices.Clone(pool), `-j OFFICE`, firewalltest.In(family, `-s 172.7.21.0/24 -j OFFICE`))
		early := rapid.SliceOfN(rapid.SampledFrom(jumps), 0, 4).Draw(t, "before our start")
		late := rapid.SliceOfN(rapid.SampledFrom(jumps), 0, 3).Draw(t, "afterwards")
		inserts := rapid.Bool().Draw(t, "inserted")

		w := over(family, f)
		f.chains[natChain] = early
		ran := func() {
			w.Apply(context.Background(), onlyMasq, false)
			if drift, err := anyDrift(t, w, onlyMasq); drift != "" || err != nil {
				t.Fatalf("the second pass found %q, %v:\n%s", drift, err, f.text())
			}
		}
		ran()
		alone := slices.Concat(early, late)
		if f.chains[natChain] = append(f.chains[natChain], late...); inserts {
			alone = slices.Concat(late, early)
			f.chains[natChain] = slices.Concat(late, f.chains[natChain][:len(f.chains[natChain])-len(late)])
		}
		ran()

		after := Parse(w.name(), f.text())
		f.chains[natChain] = alone
		before := Parse(w.name(), f.text())
		by := func(r *rules.Rule) string {
			switch {
			case r == nil:
				return ""
			case strings.HasPrefix(r.Text[strings.Index(r.Text, "-j "):], "-j MASQUERADE") && !strings.Contains(r.Text, "--to-ports"):
				return "masqueraded"
			}
			return r.Text
		}
		for _, src := range addresses("172.7.21.2", "172.7.21.3", "172.7.22.2", "10.4.7.50", "10.9.0.1", "192.168.122.5") {
			for _, dst := range addresses("172.7.21.2", "172.7.22.2", "8.8.8.8", "192.168.9.9", "10.9.0.1", "224.0.0.5") {
				for _, out := range []string{"ens33", "docker0", "flannel.1"} {
					for _, protocol := range []string{"tcp", "udp"} {
						p := rules.Packet{Out: out, Src: src, Dst: dst, Protocol: protocol, DstPort: 9, State: "NEW"}
						was, is := by(before.Evaluate(p, rules.Path{rules.Postrouting}).SNAT), by(after.Evaluate(p, rules.Path{rules.Postrouting}).SNAT)
						fromInside, toInside := onlyMasq.Network.Contains(src), onlyMasq.Network.Contains(dst)
						var wrong bool
						switch {
						case fromInside && toInside:
							wrong = is != "" && !strings.Contains(is, "-p udp")
						case onlyMasq.Subnet.Contains(dst):
							wrong = is != "" && is != was
						case was != "" && was != "masqueraded":
							wrong = is != was
						case was == "masqueraded", !excepted && (fromInside && !dst.IsMulticast() || toInside):
							wrong = is != "masqueraded"
						default:
							wrong = is != "" && is != "masqueraded"
						}
						if wrong {
							t.Fatalf("%v to %v (%s, by %s) was %q, and is %q:\n%s\nwithout ours:\n%s", src, dst, protocol, out, was, is,
								strings.Join(keepIf(strings.Split(text(after), "\n"), func(s string) bool { return s != "" }), "\n"), strings.Join(alone, "\n"))
						}
					}
				}
			}
		}
	})
}

// text is the rules of nat.
func text(set rules.Ruleset) string {
	var b strings.Builder
	for _, t := range set {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				b.WriteString(Show(r) + "\n")
			}
		}
	}
	return b.String()
}
