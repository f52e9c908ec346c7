package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// everyWanted is all that can be asked for: each yes-or-no of rules.Wanted, both ways.
func everyWanted() []rules.Wanted {
	out := []rules.Wanted{firewalltest.Nothing}
	for i := range reflect.TypeFor[rules.Wanted]().NumField() {
		if reflect.TypeFor[rules.Wanted]().Field(i).Type.Kind() != reflect.Bool {
			continue
		}
		for _, w := range slices.Clone(out) {
			reflect.ValueOf(&w).Elem().Field(i).SetBool(true)
			out = append(out, w)
		}
	}
	return out
}

// everyPart is what all rules that the planner can write are made of, with whatever
// other programs have.
func everyPart(t *testing.T, f inet.Family) (out []part) {
	for _, set := range []string{"", docker28(t, "docker-28-plain.txt"), docker28(t, "docker-28-direct-routing.txt")} {
		for _, w := range everyWanted() {
			for _, comments := range []bool{true, false} {
				can := everyAbility
				can.comments = comments
				parts, _ := planner{set: Parse(Program(f), firewalltest.In(f, set)), wanted: firewalltest.Wanted(f, w), can: can}.plan()
				for _, q := range parts {
					for _, s := range q.want {
						for _, p := range partsOf(q.table, q.text(s)) {
							if !slices.Contains(out, p) {
								out = append(out, p)
							}
						}
					}
				}
			}
		}
	}
	return out
}

// without is what happens on a host that lacks a part of our rules.
var without = map[part]struct {
	lacks []string // of the kernel, by name
	// option: iptables itself does not know it.
	option string
	says   string // what a failure says; "": there is another way
	onNFT  string // the same with iptables-nft, where it differs
	never  bool   // nf_tables always has it
}{
	{"nat", ""}: {lacks: []string{"nat"}, says: "the table nat: run modprobe iptable_nat, or use a kernel with CONFIG_IP_NF_NAT",
		onNFT: "the table nat: run modprobe nft_chain_nat, or use a kernel with CONFIG_NFT_NAT"},
	{"filter", ""}: {lacks: []string{"filter"}, never: true},
	{"raw", ""}:    {lacks: []string{"raw"}, never: true},
	{"nat", "-j MASQUERADE"}: {lacks: []string{"MASQUERADE"},
		says:  `"-j MASQUERADE": run modprobe xt_MASQUERADE, or use a kernel with CONFIG_NETFILTER_XT_TARGET_MASQUERADE`,
		onNFT: `"-j MASQUERADE": run modprobe -a nft_compat xt_MASQUERADE, or use a kernel with CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_MASQUERADE`},
	{"nat", randomPart}:     {option: "--random-fully"},
	{"nat", commentPart}:    {lacks: []string{"comment"}},
	{"filter", commentPart}: {lacks: []string{"comment"}},
	{"raw", commentPart}:    {lacks: []string{"comment"}},
	{"filter", markPart}:    {lacks: []string{"mark"}},
	{"raw", markPart}:       {lacks: []string{"mark"}},
}

// inNewNamespace runs the rest of the test in a network namespace of its own, where
// iptables-legacy has no tables yet.
func inNewNamespace(t *testing.T) {
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutEachPart takes away one part of our rules at a time, on the real kernel: there
// is another way, which carries the same packets, or an error that names it and what
// brings it about.
func TestWithoutEachPart(t *testing.T) { eachFamily(t, testWithoutEachPart) }

func testWithoutEachPart(t *testing.T, family inet.Family) {
	modules := func(says string) string {
		if family == inet.IPv6 {
			return strings.NewReplacer("iptable_", "ip6table_", "IP_NF", "IP6_NF").Replace(says)
		}
		return says
	}
	for _, p := range everyPart(t, family) {
		about, known := without[p]
		if !known {
			t.Errorf("our rules are made of %+v too: say what happens without it", p)
			continue
		}
		for _, flavour := range lab.IPTablesFlavours {
			if about.never && flavour == "iptables-nft" {
				continue
			}
			t.Run(fmt.Sprintf("%s %s %s", flavour, p.table, p.text), func(t *testing.T) {
				inNewNamespace(t)
				dir := t.TempDir()
				t.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
				if err := lab.IPTablesAs(flavour, dir); err != nil {
					t.Fatal(err)
				}
				if about.option != "" {
					refusesOption(t, family, dir, about.option)
				}
				want := firewalltest.Wanted(family, firewalltest.Everything)
				want.Marked = true
				dockerDrops(t, family, func(table string) bool { return p != part{table, ""} })
				kernel, err := lab.NewLacking(t.TempDir(), about.lacks...)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range kernel.Env {
					name, value, _ := strings.Cut(e, "=")
					t.Setenv(name, value)
				}
				w, err := New(family)
				if err != nil {
					t.Fatal(err)
				}
				says := about.says
				if about.onNFT != "" && flavour == "iptables-nft" {
					says = about.onNFT
				}
				if says != "" {
					for range 2 {
						_, err := once(w, want)
						var lacks rules.Lacks
						if !errors.As(err, &lacks) || !strings.Contains(err.Error(), "refuses "+modules(says)+"; or start flanneld with --firewall=nftables") {
							t.Fatalf("error %v\nwant %s", err, says)
						}
						if lacks.Fix == "" || !strings.Contains(modules(says), "run "+lacks.Fix+", or") {
							t.Errorf("the command that mends it is %q", lacks.Fix)
						}
					}
					if err := kernel.Set(); err != nil {
						t.Fatal(err)
					}
				}
				settles(t, w, want)
				w, err = New(family) // a restart writes nothing again
				if err != nil {
					t.Fatal(err)
				}
				before := savedRules(t, family)
				settles(t, w, want)
				if diff := cmp.Diff(before, savedRules(t, family)); diff != "" {
					t.Errorf("after a restart -before +after:\n%s", diff)
				}
				if err := kernel.Set(); err != nil { // the module is loaded
					t.Fatal(err)
				}
				for a := range w.answers {
					w.answers[a] = answer{refused: w.answers[a].refused, when: time.Now().Add(-2 * answerTime)}
				}
				settles(t, w, want)
				if about.lacks != nil && !strings.Contains(savedRules(t, family), "-j MASQUERADE --random-fully") {
					t.Errorf("what the kernel has now is not used:\n%s", savedRules(t, family))
				}
				if got := strings.Count(savedRules(t, family), "--comment flanneld"); about.lacks != nil && got < 6 {
					t.Errorf("%d rules have our comment:\n%s", got, savedRules(t, family))
				}
				settles(t, w, firewalltest.Wanted(family, firewalltest.Nothing))
				if text := savedRules(t, family); strings.Contains(text, want.Network.String()) || strings.Contains(text, tryChain) {
					t.Errorf("in the end there is\n%s", text)
				}
			})
		}
	}
}

// TestLackingHosts is hosts that lack more than one thing, or in another way.
func TestLackingHosts(t *testing.T) { eachFamily(t, testLackingHosts) }

func testLackingHosts(t *testing.T, family inet.Family) {
	takesNothing := "this host's " + Program(family) + " takes no rule at all: use a kernel with "
	legacy := map[inet.Family]string{inet.IPv4: "ip_tables, iptable_filter and iptable_nat,", inet.IPv6: "ip6_tables, ip6table_filter and ip6table_nat,"}[family]
	for _, tt := range []struct {
		name, flavour string
		lacks         []string // of the kernel
		extensions    []string // that the package of iptables does not have
		says          string   // "": packets pass
	}{
		{"no nft_compat", "iptables-nft", []string{"match", "target", "comment", "mark", "MASQUERADE"}, nil, "run modprobe -a nft_compat xt_MASQUERADE"},
		{"no nft_counter", "iptables-nft", []string{"counter"}, nil, takesNothing + "nf_tables, nft_compat and nft_counter"},
		{"no iptables-legacy in the kernel", "iptables-legacy", []string{"filter", "nat", "raw", "mangle"}, nil, takesNothing + legacy},
		{"no comments nor marks", "iptables-legacy", []string{"comment", "mark"}, nil, ""},
		{"no comments nor marks", "iptables-nft", []string{"comment", "mark"}, nil, ""},
		{"no comments, marks and raw", "iptables-legacy", []string{"comment", "mark", "raw"}, nil, ""},
		{"a package without libxt_comment", "iptables-legacy", nil, []string{"libxt_comment"}, ""},
		{"a package without libxt_comment and libxt_mark", "iptables-nft", nil, []string{"libxt_comment", "libxt_mark"}, ""},
	} {
		t.Run(tt.flavour+" "+tt.name, func(t *testing.T) {
			inNewNamespace(t)
			dir := t.TempDir()
			t.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
			if err := lab.IPTablesAs(tt.flavour, dir); err != nil {
				t.Fatal(err)
			}
			if tt.says == "" {
				dockerDrops(t, family, func(table string) bool { return !slices.Contains(tt.lacks, table) })
			}
			kernel, err := lab.NewLacking(t.TempDir(), tt.lacks...)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range append(kernel.Env, extensionsBut(t, tt.extensions)) {
				name, value, _ := strings.Cut(e, "=")
				t.Setenv(name, value)
			}
			w, err := New(family)
			if err != nil {
				t.Fatal(err)
			}
			want := firewalltest.Wanted(family, firewalltest.Everything)
			want.Marked = true
			if tt.says == "" {
				settles(t, w, want)
				return
			}
			for range 2 {
				if _, err := once(w, want); err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error %v\nwant %s", err, tt.says)
				}
			}
		})
	}
}

// extensionsBut is the setting that has iptables find all extensions but some.
func extensionsBut(t *testing.T, some []string) string {
	t.Helper()
	all, err := filepath.Glob("/usr/lib/*/xtables/*.so")
	if more, err2 := filepath.Glob("/usr/lib/xtables/*.so"); err != nil || err2 != nil || len(all)+len(more) == 0 {
		t.Fatalf("no extensions of iptables: %v, %v", err, err2)
	} else {
		all = append(all, more...)
	}
	dir := t.TempDir()
	for _, path := range all {
		name := filepath.Base(path)
		if slices.Contains(some, strings.TrimSuffix(name, ".so")) {
			continue
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return "XTABLES_LIBDIR=" + dir
}

// once is one pass.
func once(w *Writer, want rules.Wanted) (drift string, err error) {
	for _, o := range w.Apply(context.Background(), want, false).Outcomes {
		if o.Err != nil {
			return "", o.Err
		}
		drift += o.Drift
	}
	return drift, nil
}

// settles has all packets pass within a few passes, and nothing change after that.
func settles(t *testing.T, w *Writer, want rules.Wanted) {
	t.Helper()
	var drift string
	var err error
	for range 4 {
		if drift, err = once(w, want); drift == "" && err == nil {
			break
		}
	}
	if drift != "" || err != nil {
		t.Fatalf("it finds %q, %v", drift, err)
	}
	set := Parse(w.name(), savedRules(t, w.family))
	here, there, outside := netip.MustParseAddr("172.7.21.2"), netip.MustParseAddr("172.7.22.2"), netip.MustParseAddr("8.8.8.8")
	for _, p := range []struct {
		name   string
		packet rules.Packet
		hidden bool
	}{
		{"to a peer", rules.Packet{In: "docker0", Out: "flannel.1", Src: here, Dst: there}, false},
		{"from a peer", rules.Packet{In: "flannel.1", Out: "docker0", Src: there, Dst: here, Mark: rules.PeerMark}, false},
		{"out", rules.Packet{In: "docker0", Out: "ens33", Src: here, Dst: outside}, true},
	} {
		p.packet.Protocol, p.packet.State = "tcp", "NEW"
		v := set.Evaluate(firewalltest.Packet(w.family, p.packet), rules.Forwarded)
		if (want.Forward && v.Dropped) || (want.Masquerade && (v.SNAT != nil) != p.hidden) {
			t.Errorf("%s: %+v in\n%s", p.name, v, savedRules(t, w.family))
		}
	}
}

func savedRules(t *testing.T, f inet.Family) string {
	t.Helper()
	c, err := newCommand(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.save(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		if line[0] != '#' {
			out.WriteString(line)
		}
	}
	return out.String()
}

// dockerDrops has rules as docker 28 makes them, in the tables that there are.
func dockerDrops(t *testing.T, f inet.Family, has func(table string) bool) {
	t.Helper()
	c, err := newCommand(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{
		"*filter\n:DOCKER-USER - [0:0]\n:DOCKER - [0:0]\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER\n-A DOCKER ! -i docker0 -o docker0 -j DROP\nCOMMIT\n",
		"*raw\n-A PREROUTING -d 172.7.21.2/32 ! -i docker0 -j DROP\nCOMMIT\n",
	} {
		if table, _, _ := strings.Cut(script[1:], "\n"); !has(table) {
			continue
		}
		if err := c.restore(context.Background(), firewalltest.In(f, script)); err != nil {
			t.Fatal(err)
		}
	}
}

// refusesOption has the programs of a folder refuse an option, as an older release does.
func refusesOption(t *testing.T, f inet.Family, dir, option string) {
	t.Helper()
	for _, end := range []string{"", "-restore"} {
		name := filepath.Join(dir, Program(f)+end)
		original, err := os.Readlink(name)
		if err == nil {
			err = os.Remove(name)
		}
		script := "#!/bin/bash\ninput=$(if [ ${0##*/} = " + Program(f) + "-restore ]; then cat; fi)\ncase \"$* $input\" in *" + option +
			"*) echo \"iptables: unknown option '" + option + "'\" >&2; exit 2;; esac\nexec -a " + Program(f) + end + " " + original + " \"$@\" <<<\"$input\"\n"
		if err == nil {
			err = os.WriteFile(name, []byte(script), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
