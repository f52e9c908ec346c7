package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"flanneld/internal/lab"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// foreign are rules of other people, per chain; some of which ours must precede.
var foreign = map[chainID][]string{
	natChain: {
		firewalltest.DockerMasq, firewalltest.ByHand, hairpin, ownSNAT,
		`-o ens33 -j MASQUERADE`, `! -s 10.0.0.0/8 -j MASQUERADE`, `-s 172.7.0.0/16 -j RETURN`, `-s 172.7.0.0/16 -d 172.7.0.0/16 -j ACCEPT`,
		`-s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment "not \"flanneld\"" -j RETURN`, `-m mark --mark 0x4000/0x4000 -j MASQUERADE`,
	},
	forwardChain: {
		firewalltest.RejectAll, `-j DROP`, `-m comment --comment "default deny" -j DROP`, `-s 172.7.22.9/32 -j DROP`, `-i docker0 -o docker0 -j DROP`,
		`-d 172.7.21.0/24 -j ACCEPT`, `-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
		`-s 172.7.0.0/16 -m comment --comment "by hand" -j ACCEPT`,
	},
}

// legacyRules are rules of ours and of earlier flannels, wanted or not.
func legacyRules(h chainID) []string {
	now := map[chainID]string{natChain: ourMasq, forwardChain: ourForward}[h]
	return lines(now, firewalltest.Uncommented(now), strings.ReplaceAll(now, " --random-fully", ""), strings.ReplaceAll(firewalltest.Uncommented(now), " --random-fully", ""),
		strings.ReplaceAll(now, "172.7.0.0", "172.8.0.0"), strings.ReplaceAll(now, "172.7.21.0", "172.7.99.0"),
		strings.ReplaceAll(now, "comment flanneld", `comment "flanneld forward"`))
}

// checkOnePass holds over any starting point: one pass ends in the wanted
// state with everybody else's rules as they were; a second one writes nothing.
func checkOnePass(t *rapid.T, w *Writer, load func(h chainID, specs []string), list func(h chainID) []string) {
	want := rules.Wanted{Network: firewalltest.Network, Subnet: firewalltest.Subnet, Peers: firewalltest.Peers, Masquerade: true, Forward: true,
		Former: netip.MustParsePrefix("172.8.0.0/16")}
	want = firewalltest.Wanted(w.family, want)
	if rapid.IntRange(0, 9).Draw(t, "nothing wanted") == 0 {
		want.Masquerade, want.Forward = false, false
	}
	before := map[chainID][]string{}
	for _, h := range []chainID{natChain, forwardChain} {
		before[h] = rapid.SliceOfN(rapid.SampledFrom(as(w.family, append(legacyRules(h), foreign[h]...))), 0, 14).Draw(t, h.chain)
		load(h, before[h])
	}
	at := saved(t, w)
	if _, bad := anyDrift(t, w, want); bad != nil {
		t.Fatal(bad)
	}
	p := planner{set: Parse(w.name(), at), wanted: want, can: w.can()}
	parts, _ := p.plan()
	for h, specs := range before {
		q := parts[slices.IndexFunc(parts, func(q chainPlan) bool { return q.chainID == h })]
		after := list(h)
		var ours []string
		for _, s := range q.want {
			ours = append(ours, q.text(s))
		}
		mine := func(spec string) bool {
			return strings.Contains(spec, "--comment flanneld ") || q.uncommented && slices.Contains(ours, spec)
		}
		if diff := cmp.Diff(ours, keepIf(after, mine)); diff != "" {
			t.Fatalf("ours -want +got:\n%s", diff)
		}
		foreign := func(spec string) bool { return !mine(spec) && !q.isOurs(parseRule(spec)) }
		if diff := cmp.Diff(keepIf(specs, foreign), keepIf(after, func(s string) bool { return !mine(s) })); diff != "" {
			t.Fatalf("somebody else's -before +after:\n%s", diff)
		}
		others := 0
		for _, spec := range after {
			if i := slices.IndexFunc(q.want, func(s string) bool { return q.text(s) == spec }); i < 0 {
				others++
			} else if at := q.places[i]; others < at.after || others > at.before {
				t.Fatalf("%s stands behind %d rules, of %+v:\n%s", spec, others, at, strings.Join(after, "\n"))
			}
		}
	}
	set := Parse(w.name(), saved(t, w))
	if v := set.Evaluate(rules.Packet{In: "docker0", Out: "flannel.1", Src: want.Subnet.Addr().Next(), Dst: want.Network.Addr().Next(), State: "NEW"}, rules.Forwarded); want.Masquerade && v.SNAT != nil && !v.Dropped {
		t.Fatalf("the address of a container is translated by %s", v.SNAT.Text)
	}
	if again, err := anyDrift(t, w, want); again != "" || err != nil {
		t.Fatalf("the second pass found %q, %v", again, err)
	}
}

func saved(t *rapid.T, w *Writer) string {
	text, err := w.program.save(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func anyDrift(t *rapid.T, w *Writer, want rules.Wanted) (wrong string, err error) {
	for _, o := range w.Apply(context.Background(), want, false).Outcomes {
		wrong, err = wrong+o.Drift, errors.Join(err, o.Err)
	}
	return wrong, err
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

func TestOnePassFromAnyState(t *testing.T) { eachFamily(t, testOnePass("")) }

// TestOnePassWithoutComments is the same where ours can have none.
func TestOnePassWithoutComments(t *testing.T) { eachFamily(t, testOnePass("--comment flanneld ")) }

func testOnePass(refuses string) func(*testing.T, inet.Family) {
	return func(t *testing.T, family inet.Family) {
		rapid.Check(t, func(t *rapid.T) {
			f := newFake()
			if refuses != "" {
				f.refuses = []string{refuses}
			}
			checkOnePass(t, over(family, f), func(h chainID, specs []string) { f.chains[h] = specs }, f.rules)
		})
	}
}

// useFlavour makes one flavour the iptables of PATH, with empty tables, and returns that
// of a family.
func useFlavour(t testing.TB, f inet.Family, flavour string) command {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := lab.IPTablesAs(flavour, dir); err != nil {
		t.Fatal(err)
	}
	c, err := newCommand(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	if want := flavour == "iptables-nft"; c.inNFTables != want {
		t.Errorf("%s keeps its rules in nf_tables: %v", flavour, c.inNFTables)
	}
	t.Cleanup(func() { // both flavours act on every packet
		if err := c.restore(context.Background(), "*nat\n-F\nCOMMIT\n*filter\n-F\nCOMMIT\n"); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestOnePassFromAnyStateOfTheKernel(t *testing.T) {
	for _, flavour := range lab.IPTablesFlavours {
		t.Run(flavour, func(t *testing.T) {
			of := map[inet.Family]command{}
			for _, f := range inet.Families() {
				of[f] = useFlavour(t, f, flavour)
			}
			rapid.Check(t, func(t *rapid.T) { // half of them each
				c := of[rapid.SampledFrom(inet.Families()).Draw(t, "family")]
				list := func(h chainID) []string {
					lines, err := c.List(h.table, h.chain)
					if err != nil {
						t.Fatal(err)
					}
					var out []string
					for _, line := range lines[1:] { // behind the policy
						out = append(out, strings.TrimPrefix(line, "-A "+h.chain+" "))
					}
					return out
				}
				checkOnePass(t, over(c.family, c), func(h chainID, specs []string) {
					script := "*" + h.table + "\n-F " + h.chain + "\n"
					for _, s := range specs {
						script += "-A " + h.chain + " " + s + "\n"
					}
					if err := c.restore(context.Background(), script+"COMMIT\n"); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(lines(specs...), lines(list(h)...)); diff != "" {
						t.Fatalf("%s prints it differently -written +read:\n%s", Program(c.family), diff)
					}
				}, list)
			})
		})
	}
}

// BenchmarkPass is what one idle look costs.
func BenchmarkPass(b *testing.B) {
	for _, flavour := range lab.IPTablesFlavours {
		b.Run(flavour, func(b *testing.B) {
			w := &Writer{program: useFlavour(b, inet.IPv4, flavour), randomFully: true}
			w.Apply(context.Background(), everything, false)
			for b.Loop() {
				for _, o := range w.Apply(context.Background(), everything, false).Outcomes {
					if o.Err != nil || o.Drift != "" {
						b.Fatal(o)
					}
				}
			}
		})
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", t.TempDir())
	_, err := newCommand(context.Background(), inet.IPv4, dir, "/nowhere")
	if !errors.As(err, &NotInstalled{}) || !strings.HasPrefix(err.Error(), "iptables is not installed: ") || !strings.Contains(err.Error(), dir+", /nowhere; install it") || !strings.Contains(err.Error(), "--firewall=nftables") {
		t.Errorf("error %v", err)
	}
	program := func(name, script string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program("iptables", "echo nonsense")
	program("iptables-save", "")
	if _, err := newCommand(context.Background(), inet.IPv4, dir); err == nil || !strings.Contains(err.Error(), "find iptables-restore beside "+dir) {
		t.Errorf("error %v", err)
	}
	program("iptables-restore", "")
	if _, err := newCommand(context.Background(), inet.IPv4, dir); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error %v", err)
	}
	program("iptables", "echo 'iptables v1.6.1'")
	c, err := newCommand(context.Background(), inet.IPv4, dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.HasRandomFully() {
		t.Error("1.6.1 has no --random-fully")
	}
	if c.inNFTables {
		t.Error("1.6.1 keeps its rules in nf_tables")
	}
	program("iptables", "echo 'iptables v1.8.9 (nf_tables)'")
	if c, err = newCommand(context.Background(), inet.IPv4, dir); err != nil || !c.inNFTables {
		t.Errorf("1.8.9's rules are not in nf_tables: %v", err)
	}
	if c.restorePath != filepath.Join(dir, "iptables-restore") || c.savePath != filepath.Join(dir, "iptables-save") {
		t.Errorf("restores with %s, saves with %s", c.restorePath, c.savePath)
	}
}

// TestHangingIPTables: one that hangs is an error, and no wait without end.
func TestHangingScriptLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "iptables")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsleep 600 &\necho $! >"+dir+"/pid\nwait\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var a activity
	if _, err := a.run(context.Background(), 300*time.Millisecond, exec.Command(script)); err == nil {
		t.Fatal("it has ended by itself")
	}
	content, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("what the script ran, pid %d, goes on", pid)
}

func TestHangingIPTables(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	program := func(name, script string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []string{"-save", "-restore"} {
		program("iptables"+end, "exec sleep 60")
	}
	program("iptables", "echo 'iptables v1.8.9 (legacy)'")
	c, err := newCommand(context.Background(), inet.IPv4, dir)
	if err != nil {
		t.Fatal(err)
	}
	c.timeout = 100 * time.Millisecond
	const says = " has not answered for more than 3 seconds"
	if _, err := c.save(context.Background()); err == nil || !strings.Contains(err.Error(), "iptables-save"+says) {
		t.Errorf("list: error %v", err)
	}
	if err := c.restore(context.Background(), ""); err == nil || !strings.Contains(err.Error(), "iptables-restore"+says) {
		t.Errorf("write: error %v", err)
	}
	program("iptables", "sleep 60")
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	began := time.Now()
	if _, err := newCommand(ctx, inet.IPv4, dir); err == nil || time.Since(began) > 2*time.Second {
		t.Errorf("after %v, error %v", time.Since(began), err)
	}
}
