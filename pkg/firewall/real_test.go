package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"flanneld/internal/lab"
	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/inet"
)

// eachFlavour runs a test over both flavours and both families. What it says of IPv4 is
// translated.
func eachFlavour(t *testing.T, test func(t *testing.T, f inet.Family)) {
	for _, f := range inet.Families() {
		for _, flavour := range lab.IPTablesFlavours {
			t.Run(fmt.Sprint(f, " ", flavour), func(t *testing.T) {
				useFlavour(t, f, flavour)
				test(t, f)
			})
		}
	}
}

// useFlavour makes one flavour the iptables of PATH, with empty tables of a family, and
// returns the folder it is found in.
func useFlavour(t testing.TB, f inet.Family, flavour string) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := lab.IPTablesAs(flavour, dir); err != nil {
		t.Fatal(err)
	}
	empty := func() {
		for _, table := range []string{"raw", "nat", "filter"} {
			runIPTables(t, f, "-t", table, "-F")
			runIPTables(t, f, "-t", table, "-X")
		}
		runIPTables(t, f, "-P", "FORWARD", "ACCEPT")
	}
	empty()
	t.Cleanup(empty) // both flavours act on every packet
	return dir
}

// chainID names a chain.
type chainID struct{ table, chain string }

var (
	natChain     = chainID{"nat", "POSTROUTING"}
	forwardChain = chainID{"filter", "FORWARD"}
)

func run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func runIPTables(t testing.TB, f inet.Family, args ...string) string {
	t.Helper()
	all := []string{"--wait"}
	for _, a := range args {
		all = append(all, firewalltest.In(f, a))
	}
	return run(t, iptables.Program(f), all...)
}

// rulesNow are a chain's rules as iptables prints them.
func rulesNow(t testing.TB, f inet.Family, h chainID) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(runIPTables(t, f, "-t", h.table, "-S", h.chain)) {
		if spec, isRule := strings.CutPrefix(strings.TrimSpace(line), "-A "+h.chain+" "); isRule {
			out = append(out, spec)
		}
	}
	return out
}

// eventually waits for a chain to hold exactly these rules.
func eventually(t testing.TB, f inet.Family, h chainID, want ...string) {
	t.Helper()
	var diff string
	for range 300 {
		if diff = cmp.Diff(firewalltest.All(f, want...), rulesNow(t, f, h)); diff == "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%v -want +got:\n%s", h, diff)
}

// status collects what a Reconciler reports.
type status struct {
	mu   sync.Mutex
	seen []map[string]string
}

func (s *status) report(chains map[string]condition.Condition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	problems := map[string]string{}
	for chain, c := range chains {
		problems[chain] = c.Cause
	}
	s.seen = append(s.seen, problems)
}

func (s *status) all() []map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen
}

// wait waits for the nth report.
func (s *status) wait(t testing.TB, n int) map[string]string {
	t.Helper()
	for range 600 {
		if all := s.all(); len(all) >= n {
			return all[n-1]
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("no report number %d: %v", n, s.all())
	return nil
}

// reconcile runs a Reconciler over the real iptables until the test ends, or until
// stop is called.
func reconcile(t testing.TB, f inet.Family, s *status) (r *Reconciler, stop func()) {
	t.Helper()
	w, err := iptables.New(f)
	if err != nil {
		t.Fatal(err)
	}
	r, err = New(Options{Writers: []Writer{w}, Resync: 100 * time.Millisecond, Report: s.report})
	if err != nil {
		t.Fatal(err)
	}
	return r, runs(t, r)
}

// runs runs r until the test ends, or until stop is called.
func runs(t testing.TB, r *Reconciler) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestRulesStayInPlace(t *testing.T) {
	eachFlavour(t, func(t *testing.T, f inet.Family) {
		var s status
		runIPTables(t, f, "-A", "FORWARD", "-j", "REJECT", "--reject-with", "icmp-host-prohibited")
		k, stop := reconcile(t, f, &s)
		k.Set(firewalltest.Wanted(f, firewalltest.Everything))
		eventually(t, f, natChain, firewalltest.OurMasq)
		eventually(t, f, forwardChain, firewalltest.OurForward, firewalltest.RejectAll)

		for _, fault := range []struct{ name, commands string }{
			{"flushed", "-t nat -F"},
			{"flushed, as firewalld does", "-F\n-X\n-t nat -F\n-t nat -X\n-P FORWARD DROP\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited"},
			{"one deleted", "-t nat -D POSTROUTING 3"},
			{"one moved to the end", "-t nat -D POSTROUTING 1\n-t nat -A POSTROUTING -s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment flanneld -j RETURN"},
			{"one doubled", "-A FORWARD -s 172.7.0.0/16 -m comment --comment flanneld -j ACCEPT"},
			{"v0.11 came back", "-A FORWARD -s 172.7.0.0/16 -j ACCEPT\n-A FORWARD -d 172.7.0.0/16 -j ACCEPT"},
			{"REJECT put in front", "-D FORWARD -j REJECT --reject-with icmp-host-prohibited\n-I FORWARD -j REJECT --reject-with icmp-host-prohibited"},
		} {
			t.Run(fault.name, func(t *testing.T) {
				for command := range strings.Lines(fault.commands) {
					runIPTables(t, f, strings.Fields(command)...)
				}
				eventually(t, f, natChain, firewalltest.OurMasq)
				eventually(t, f, forwardChain, firewalltest.OurForward, firewalltest.RejectAll)
			})
		}

		runIPTables(t, f, "-t", "nat", "-I", "POSTROUTING", "-s", "172.7.21.0/24", "!", "-o", "docker0", "-j", "MASQUERADE") // docker restarted
		eventually(t, f, natChain, firewalltest.OurMasq, firewalltest.DockerMasq)
		k.Set(firewalltest.Wanted(f, firewalltest.OnlyMasq))
		eventually(t, f, natChain, firewalltest.OurMasq, firewalltest.DockerMasq)
		eventually(t, f, forwardChain, firewalltest.RejectAll)
		k.Set(firewalltest.Wanted(f, firewalltest.Everything))
		eventually(t, f, natChain, firewalltest.OurMasq, firewalltest.DockerMasq)

		stop()
		if diff := cmp.Diff(firewalltest.All(f, firewalltest.OurMasq, firewalltest.DockerMasq), rulesNow(t, f, natChain)); diff != "" {
			t.Errorf("after the end -want +got:\n%s", diff)
		}
	})
}

// TestFormerRules starts where v0.11, an earlier run for another network and
// the tutorial's reader have left their rules.
func TestLegacyRules(t *testing.T) {
	eachFlavour(t, func(t *testing.T, f inet.Family) {
		load := func(table, chain string, specs []string) {
			script := "*" + table + "\n"
			for _, spec := range specs {
				script += "-A " + chain + " " + spec + "\n"
			}
			restore := exec.Command(iptables.Program(f)+"-restore", "--noflush")
			restore.Stdin = strings.NewReader(firewalltest.In(f, script+"COMMIT\n"))
			if out, err := restore.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
		oldMasq := strings.NewReplacer("172.7.0.0", "172.8.0.0", "172.7.21.0", "172.8.21.0").Replace(firewalltest.OurMasq)
		other := `-s 172.7.0.0/16 -m comment --comment "who \"knows\" this?" -j ACCEPT`
		load("nat", "POSTROUTING", firewalltest.Lines(firewalltest.ByHand, oldMasq, firewalltest.DockerMasq, firewalltest.Uncommented(firewalltest.OurMasq)))
		load("filter", "FORWARD", firewalltest.Lines(`-d 172.7.21.0/24 -j ACCEPT`, other, firewalltest.RejectAll, firewalltest.Uncommented(firewalltest.OurForward)))
		var s status
		k, _ := reconcile(t, f, &s)
		want := firewalltest.Everything
		want.Former = netip.MustParsePrefix("172.8.0.0/16")
		k.Set(firewalltest.Wanted(f, want))
		eventually(t, f, natChain, firewalltest.ByHand, firewalltest.OurMasq, firewalltest.DockerMasq)
		eventually(t, f, forwardChain, `-d 172.7.21.0/24 -j ACCEPT`, other, firewalltest.OurForward, firewalltest.RejectAll)
		if reports := s.all(); len(reports) != 0 {
			t.Errorf("reported %v", reports)
		}
	})
}

// TestFormerChains starts where flannel 0.28 has left its chains (observed), one
// of them also for another network.
func TestLegacyChains(t *testing.T) {
	eachFlavour(t, func(t *testing.T, f inet.Family) {
		restore := exec.Command(iptables.Program(f)+"-restore", "--noflush")
		restore.Stdin = strings.NewReader(firewalltest.In(f, `*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.7.21.0/24 -d 172.7.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 172.7.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
COMMIT
*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 172.7.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
`))
		if out, err := restore.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var s status
		k, _ := reconcile(t, f, &s)
		k.Set(firewalltest.Wanted(f, firewalltest.OnlyForward))
		eventually(t, f, natChain)
		eventually(t, f, chainID{"filter", "FLANNEL-FWD"}, `-s 10.5.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT`)
		eventually(t, f, forwardChain, `-m comment --comment "flanneld forward" -j FLANNEL-FWD`, firewalltest.OurForward)
		if out, err := exec.Command(iptables.Program(f), "-t", "nat", "-S", "FLANNEL-POSTRTG").CombinedOutput(); err == nil {
			t.Errorf("it is still there:\n%s", out)
		}
		if reports := s.all(); len(reports) != 0 {
			t.Errorf("reported %v", reports)
		}
	})
}

// wrap puts a script in place of a program, which may end by running the real
// one; it stays effective for the rest of the test.
func wrap(t *testing.T, dir, program, script string) {
	t.Helper()
	original := filepath.Join(dir, "real", program)
	if err := os.MkdirAll(filepath.Dir(original), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, program), original); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf("#!/bin/sh\n%s\nexec %s \"$@\"\n", script, original)
	if err := os.WriteFile(filepath.Join(dir, program), []byte(body), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsWrittenWhereNothingDiffers(t *testing.T) {
	for _, flavour := range lab.IPTablesFlavours {
		t.Run(flavour, func(t *testing.T) {
			dir := useFlavour(t, inet.IPv4, flavour)
			reads, writes := filepath.Join(dir, "reads"), filepath.Join(dir, "writes")
			wrap(t, dir, "iptables-save", "echo >>"+reads)
			wrap(t, dir, "iptables-restore", "echo >>"+writes)
			var s status
			k, stop := reconcile(t, inet.IPv4, &s)
			k.Set(firewalltest.Everything)
			for lines(t, reads) < 20 {
				time.Sleep(20 * time.Millisecond)
			}
			stop()
			if n := lines(t, writes); n != 2 {
				t.Errorf("%d writes, want one per table", n)
			}
		})
	}
}

func lines(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

func TestFailingIPTables(t *testing.T) {
	dir := useFlavour(t, inet.IPv4, "iptables-nft")
	broken := filepath.Join(dir, "broken")
	wrap(t, dir, "iptables-save", `[ ! -e `+broken+` ] || { echo "iptables-save: Permission denied
(you must be root)" >&2; exit 4; }`)
	wrap(t, dir, "iptables-restore", `[ ! -e `+broken+`2 ] || { echo "iptables-restore: line 3 failed" >&2; exit 1; }`)
	for _, fault := range []struct {
		file, says string
		subjects   []string
	}{
		{broken, "exit status 4: iptables-save: Permission denied (you must be root) (CAP_NET_ADMIN is needed", []string{"iptables"}},
		{broken + "2", "exit status 1: iptables-restore: line 3 failed", []string{"iptables nat POSTROUTING", "iptables filter FORWARD"}},
	} {
		var s status
		if err := os.WriteFile(fault.file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		k, stop := reconcile(t, inet.IPv4, &s)
		k.Set(firewalltest.Everything)
		problems := s.wait(t, 1)
		for _, subject := range fault.subjects {
			if got := problems[subject]; !strings.Contains(got, fault.says) || strings.Contains(got, "\n") {
				t.Errorf("%s: reported %q, want one line with %q", subject, got, fault.says)
			}
		}
		if err := os.Remove(fault.file); err != nil {
			t.Fatal(err)
		}
		for n := 2; len(s.wait(t, n)) > 0; n++ { // one table may be well before the other
		}
		eventually(t, inet.IPv4, natChain, firewalltest.OurMasq)
		eventually(t, inet.IPv4, forwardChain, firewalltest.OurForward)
		stop()
		runIPTables(t, inet.IPv4, "-F")
		runIPTables(t, inet.IPv4, "-t", "nat", "-F")
	}
}

// TestHeldLock holds the lock of iptables-legacy as another program would.
func TestHeldLock(t *testing.T) {
	useFlavour(t, inet.IPv4, "iptables-legacy")
	lock := func() *os.File {
		f, err := os.OpenFile("/run/xtables.lock", os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		return f
	}
	var s status
	k, stop := reconcile(t, inet.IPv4, &s)
	held := lock()
	k.Set(firewalltest.Everything)
	problems := s.wait(t, 1)
	const locked = "another program has held the iptables lock for more than 5 seconds; find it with: fuser -v /run/xtables.lock"
	if len(problems) != 1 || !strings.Contains(problems["iptables nat POSTROUTING"], locked) {
		t.Errorf("reported %v", problems)
	}
	held.Close()
	if problems := s.wait(t, 2); len(problems) != 0 {
		t.Errorf("after the end of it: %v", problems)
	}
	eventually(t, inet.IPv4, natChain, firewalltest.OurMasq)
	eventually(t, inet.IPv4, forwardChain, firewalltest.OurForward)

	held = lock()
	defer held.Close()
	k.Set(firewalltest.OnlyForward)
	time.Sleep(300 * time.Millisecond) // so that iptables waits for the lock by now; true or not, the end must come
	ended := make(chan struct{})
	go func() { stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(2500 * time.Millisecond):
		t.Error("Run does not end while iptables waits for its lock")
	}
}
