package ipmasq

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// foreign are rules of other people, per chain; some of them in our way.
var foreign = map[home][]string{
	natHome: {
		dockers, byHand, hairpin, ownSNAT,
		`-o ens33 -j MASQUERADE`, `! -s 10.0.0.0/8 -j MASQUERADE`, `-s 172.7.0.0/16 -j RETURN`, `-s 172.7.0.0/16 -d 172.7.0.0/16 -j ACCEPT`,
		`-s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment "not \"flanneld\"" -j RETURN`, `-m mark --mark 0x4000/0x4000 -j MASQUERADE`,
	},
	forwardHome: {
		rejectAll, `-j DROP`, `-m comment --comment "default deny" -j DROP`, `-s 172.7.22.9/32 -j DROP`, `-i docker0 -o docker0 -j DROP`,
		`-d 172.7.21.0/24 -j ACCEPT`, `-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		`-s 172.7.0.0/16 -m comment --comment "by hand" -j ACCEPT`,
	},
}

// former are rules of ours and of earlier flannels, wanted or not.
func former(h home) []string {
	now := map[home]string{natHome: ourMasq, forwardHome: ourForward}[h]
	return block(now, unmarkedText(now), strings.ReplaceAll(now, randomly, ""), strings.ReplaceAll(unmarkedText(now), randomly, ""),
		strings.ReplaceAll(now, "172.7.0.0", "172.8.0.0"), strings.ReplaceAll(now, "172.7.21.0", "172.7.99.0"),
		strings.ReplaceAll(now, "comment flanneld", `comment "flanneld forward"`))
}

// checkOnePass holds over any starting point: one pass ends in the wanted
// state with everybody else's rules as they were; a second one writes nothing.
func checkOnePass(t *rapid.T, kernel kernel, load func(h home, specs []string)) {
	want := map[home][]Rule{natHome: MasqRules(network, own, true), forwardHome: ForwardRules(network)}
	for h := range foreign {
		before := rapid.SliceOfN(rapid.SampledFrom(append(former(h), foreign[h]...)), 0, 14).Draw(t, h.chain)
		load(h, before)
		if rapid.IntRange(0, 9).Draw(t, "nothing wanted") == 0 {
			delete(want, h)
		}
		k := &Keeper{kernel: kernel}
		if _, err := k.put(context.Background(), h, want[h]); err != nil {
			t.Fatal(err)
		}
		lines, err := kernel.list(h)
		if err != nil {
			t.Fatal(err)
		}
		after := rulesOf(h, lines)
		mine := func(spec string) bool { return strings.Contains(spec, "--comment flanneld ") }
		var ours []string
		for _, r := range want[h] {
			ours = append(ours, r.marked())
		}
		if diff := cmp.Diff(ours, keepIf(after, mine)); diff != "" {
			t.Fatalf("ours -want +got:\n%s", diff)
		}
		others := func(spec string) bool { return !mine(spec) && !isOurs(parse(spec), want[h]) }
		if diff := cmp.Diff(keepIf(before, others), keepIf(after, func(s string) bool { return !mine(s) })); diff != "" {
			t.Fatalf("somebody else's -before +after:\n%s", diff)
		}
		firstForeign := slices.IndexFunc(after, func(spec string) bool { return !mine(spec) && parse(spec).defeats(network) })
		lastOwn := len(after) - 1
		for lastOwn >= 0 && !mine(after[lastOwn]) {
			lastOwn--
		}
		if firstForeign >= 0 && firstForeign < lastOwn {
			t.Fatalf("rule %d is in the way of rule %d:\n%s", firstForeign+1, lastOwn+1, strings.Join(after, "\n"))
		}
		if wrong, err := k.put(context.Background(), h, want[h]); wrong != "" || err != nil {
			t.Fatalf("the second pass found %q, %v", wrong, err)
		}
	}
}

func keepIf(in []string, keep func(string) bool) []string {
	var out []string
	for _, s := range in {
		if keep(s) {
			out = append(out, s)
		}
	}
	return out
}

func TestOnePassFromAnyState(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFake()
		checkOnePass(t, f, func(h home, specs []string) { f.chains[h] = listing(h, specs) })
	})
}

func TestOnePassFromAnyStateOfTheKernel(t *testing.T) {
	eachFlavour(t, func(t *testing.T, flavour string) {
		c, err := newCommand()
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			checkOnePass(t, c, func(h home, specs []string) {
				script := "*" + h.table + "\n-F " + h.chain + "\n"
				for _, s := range specs {
					script += "-A " + h.chain + " " + s + "\n"
				}
				if err := c.restore(context.Background(), script+"COMMIT\n"); err != nil {
					t.Fatal(err)
				}
				lines, err := c.list(h)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(listing(h, specs), lines); diff != "" {
					t.Fatalf("iptables prints it differently -written +read:\n%s", diff)
				}
			})
		})
	})
}

// BenchmarkTick is what one idle resync costs.
func BenchmarkTick(b *testing.B) {
	for _, flavour := range flavours {
		b.Run(flavour, func(b *testing.B) {
			useFlavour(b, flavour)
			c, err := newCommand()
			if err != nil {
				b.Fatal(err)
			}
			k := &Keeper{kernel: c}
			k.pass(context.Background(), everything, false)
			for b.Loop() {
				for _, o := range k.pass(context.Background(), everything, true) {
					if o.err != nil || o.wrong != "" {
						b.Fatal(o)
					}
				}
			}
		})
	}
}
