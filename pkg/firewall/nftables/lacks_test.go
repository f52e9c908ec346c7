package nftables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	extension "github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// kindOf names what a step adds.
func kindOf(last any) string {
	switch e := last.(type) {
	case nil:
		return "table"
	case addresses:
		return "set"
	case chain:
		return "chain " + string(e.kind)
	case *expr.Masq:
		return fmt.Sprintf("masq, random: %v", e.FullyRandom)
	case *expr.Ct:
		return "ct " + fmt.Sprint(e.Key)
	}
	return strings.ToLower(reflect.TypeOf(last).Elem().Name())
}

// everyKind is all that our tables can be made of, whatever is wanted.
func everyKind(f inet.Family) (out []string) {
	wanted := firewalltest.Wanted(f, wanted)
	all := []rules.Wanted{{Network: wanted.Network, Subnet: wanted.Subnet, Peers: wanted.Peers}}
	for i := range reflect.TypeFor[rules.Wanted]().NumField() {
		if reflect.TypeFor[rules.Wanted]().Field(i).Type.Kind() == reflect.Bool {
			for _, w := range slices.Clone(all) {
				reflect.ValueOf(&w).Elem().Field(i).SetBool(true)
				all = append(all, w)
			}
		}
	}
	for _, w := range all {
		for _, marks := range []bool{false, true} {
			for _, s := range tableFor(w, marks).steps() {
				if k := kindOf(s.last); !slices.Contains(out, k) {
					out = append(out, k)
				}
			}
		}
	}
	return out
}

// lacking is write over a kernel that refuses things of one kind: it meets a name that it
// does not know in their place. It cannot be made to refuse sets.
func lacking(kind string) func(table, bool) error {
	return func(t table, trial bool) error {
		if kind == "table" || kind == "set" && len(t.sets) > 0 {
			return unix.EOPNOTSUPP
		}
		all := t.chains
		t.chains = nil
		for _, c := range all {
			if kindOf(c) == kind {
				c.kind = nftables.ChainType("none")
			}
			each := c.rules
			c.rules = nil
			for _, r := range each {
				r = slices.Clone(r)
				for i, e := range r {
					if kindOf(e) == kind {
						info := extension.Unknown("12345678")
						r[i] = &expr.Match{Name: "none", Info: &info}
					}
				}
				c.rules = append(c.rules, r)
			}
			t.chains = append(t.chains, c)
		}
		return write(t, trial)
	}
}

// without is what happens where the kernel lacks something: what the error says; "": the
// table does without.
var without = map[string]string{
	"table":                              "a table of family ip: run modprobe nf_tables, or use a kernel with CONFIG_NF_TABLES_IPV4",
	"chain nat":                          "a chain that translates addresses: run modprobe nft_chain_nat, or use a kernel with CONFIG_NFT_NAT",
	"nat":                                "snat: run modprobe nft_nat, or use a kernel with CONFIG_NFT_NAT",
	"ct " + fmt.Sprint(expr.CtKeySTATUS): "ct: run modprobe nft_ct, or use a kernel with CONFIG_NFT_CT",

	"masq, random: false": "masquerade: run modprobe nft_masq, or use a kernel with CONFIG_NFT_MASQ",
	"masq, random: true":  "",
	"counter":             "",
	"set":                 "",
	"lookup":              "",
	"meta":                "",
	"chain filter":        "",
}

// core is in every nf_tables.
var core = []string{"payload", "bitwise", "cmp", "verdict"}

// TestWithoutEachPart has the kernel refuse one thing at a time of all that our table can
// be made of.
func TestWithoutEachPart(t *testing.T) { eachFamily(t, testWithoutEachPart) }

func testWithoutEachPart(t *testing.T, f inet.Family) {
	for _, kind := range everyKind(f) {
		says, known := without[kind]
		says = as(f, says)
		if !known {
			if !slices.Contains(core, kind) {
				t.Errorf("our table is made of %q too: say what happens without it", kind)
			}
			continue
		}
		t.Run(kind, func(t *testing.T) {
			emptyRuleset(t)
			want := firewalltest.Wanted(f, wanted)
			if kind == "masq, random: false" {
				want.PlainPorts = true
			}
			w := &Writer{commit: lacking(kind)}
			t.Cleanup(w.close)
			for pass := range 3 {
				drift, err := once(w, want)
				switch {
				case says == "" && (err != nil || pass > 0 && drift != ""):
					t.Fatalf("pass %d finds %q, %v", pass, drift, err)
				case says != "" && (err == nil || !strings.Contains(err.Error(), "this kernel refuses "+says+"; or start flanneld with --firewall=iptables")):
					t.Fatalf("error %v, want %s", err, says)
				}
			}
			if says == "" {
				carries(t, f)
			} else if _, err := once(w, want); !strings.Contains(says, "run "+fixOf(err)+", or") {
				t.Errorf("the command that mends it is %q", fixOf(err))
			} else if list := nft(t, "list ruleset"); list != "" {
				t.Errorf("there is\n%s", list)
			}
			// Docker's own table needs marks, and nothing does instead.
			nft(t, as(f, "add table ip docker-bridges"))
			_, err := once(w, want)
			if marks := slices.Contains([]string{"set", "lookup", "meta", "chain filter"}, kind); (err != nil) != (marks || says != "") || marks && !strings.Contains(err.Error(), "modprobe") {
				t.Errorf("with docker's table: %v", err)
			}
			nft(t, as(f, "delete table ip docker-bridges"))

			w.close() // the module is loaded
			w.commit, w.learned, w.asked = nil, time.Now().Add(-2*answerTime), time.Now().Add(-2*answerTime)
			if !w.CanMark(want) {
				t.Error("it cannot mark for ever")
			}
			for range 2 {
				if _, err := once(w, want); err != nil {
					t.Fatal(err)
				}
			}
			if drift := connectAnd(t, tableFor(want, true)); drift != "" {
				t.Errorf("with the module: %s", drift)
			}
			carries(t, f)
			if list := nft(t, "list ruleset"); strings.Contains(list, tryTable) {
				t.Errorf("left behind:\n%s", list)
			}
		})
	}
}

func fixOf(err error) string {
	var lacks rules.Lacks
	errors.As(err, &lacks)
	return lacks.Fix
}

// connectAnd is how our table differs.
func connectAnd(t *testing.T, want table) string {
	t.Helper()
	have, exists, err := connect(t).table(want.family, want.name)
	if err != nil {
		t.Fatal(err)
	}
	return have.drift(exists, want)
}

func once(w *Writer, want rules.Wanted) (drift string, err error) {
	for _, o := range w.Apply(context.Background(), want, false).Outcomes {
		if o.Err != nil {
			return "", o.Err
		}
		drift += o.Drift
	}
	return drift, nil
}

// carries holds what our table does for packets.
func carries(t *testing.T, f inet.Family) {
	t.Helper()
	set, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	here, there := netip.MustParseAddr("172.7.21.2"), netip.MustParseAddr("172.7.22.2")
	for _, p := range []struct {
		packet rules.Packet
		hidden bool
	}{
		{rules.Packet{In: "docker0", Out: "flannel.1", Src: here, Dst: there}, false},
		{rules.Packet{In: "flannel.1", Out: "docker0", Src: there, Dst: here}, false},
		{rules.Packet{In: "docker0", Out: "ens33", Src: here, Dst: netip.MustParseAddr("8.8.8.8")}, true},
	} {
		p.packet.State = "NEW"
		by := ""
		v := set.Evaluate(firewalltest.Packet(f, p.packet), rules.Forwarded)
		if v.SNAT != nil {
			by = v.SNAT.Chain
		}
		if v.Dropped || (by == "masquerade") != p.hidden {
			t.Errorf("%v: %+v", p.packet, v)
		}
	}
}

// TestCanMark asks before rules are written that match marks.
func TestCanMark(t *testing.T) { eachFamily(t, testCanMark) }

func testCanMark(t *testing.T, f inet.Family) {
	emptyRuleset(t)
	for kind, can := range map[string]bool{"": true, "counter": true, "set": false, "lookup": false, "meta": false, "chain filter": false, "chain nat": true} {
		w := &Writer{commit: lacking(kind)}
		if got := w.CanMark(firewalltest.Wanted(f, wanted)); got != can {
			t.Errorf("without %q: %v", kind, got)
		}
		if list := nft(t, "list ruleset"); list != "" {
			t.Errorf("left behind:\n%s", list)
		}
		w.close()
	}
}
