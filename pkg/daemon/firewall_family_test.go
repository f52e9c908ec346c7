package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/iptables"
	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
)

const soon = 20 * time.Second

// The two networks of a cluster, and this host's subnets in them.
var (
	networks = map[inet.Family]netip.Prefix{inet.IPv4: netip.MustParsePrefix("172.7.0.0/16"), inet.IPv6: netip.MustParsePrefix("fc00:7::/48")}
	subnets  = map[inet.Family]netip.Prefix{inet.IPv4: netip.MustParsePrefix("172.7.21.0/24"), inet.IPv6: netip.MustParsePrefix("fc00:7:0:21::/64")}
)

// rulesHost is a host whose programs tell when they are run.
type rulesHost struct {
	t   *testing.T
	dir string
}

func newRulesHost(t *testing.T, without ...string) *rulesHost {
	h := &rulesHost{t, t.TempDir()}
	real := filepath.Join(h.dir, "real")
	if err := os.Mkdir(real, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := lab.IPTablesAs("iptables-nft", real); err != nil {
		t.Fatal(err)
	}
	for _, family := range inet.Families() {
		for _, end := range []string{"", "-save", "-restore"} {
			name := iptables.Program(family) + end
			script := fmt.Sprintf("#!/bin/sh\necho %s >>%s/runs\nexec %s/%s \"$@\"\n", name, h.dir, real, name)
			if slices.Contains(without, iptables.Program(family)) {
				script = fmt.Sprintf("#!/bin/sh\necho %s >>%s/runs\necho out of order >&2\nexit 9\n", name, h.dir)
			}
			if err := os.WriteFile(filepath.Join(h.dir, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Setenv("PATH", h.dir+":"+os.Getenv("PATH"))
	h.nft("flush ruleset")
	t.Cleanup(func() { h.nft("flush ruleset") })
	return h
}

func (h *rulesHost) nft(script string) string {
	h.t.Helper()
	cmd := exec.Command("/usr/sbin/nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("nft: %v: %s", err, out)
	}
	return string(out)
}

// runs is how often a family's programs were run.
func (h *rulesHost) runs(f inet.Family) int {
	text, err := os.ReadFile(filepath.Join(h.dir, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	return strings.Count("\n"+string(text), "\n"+iptables.Program(f))
}

// has waits until there are as many rules of iptables for a family's network.
func (h *rulesHost) has(f inet.Family, want int) {
	h.t.Helper()
	lab.Eventually(h.t, soon, fmt.Sprintf("%d rules for %v", want, f), func() error {
		out, err := exec.Command(filepath.Join(h.dir, "real", iptables.Program(f)+"-save")).Output()
		if n := strings.Count(string(out), "--comment flanneld"); err == nil && n != want {
			err = fmt.Errorf("there are %d", n)
		}
		return err
	})
}

// rulesDaemon is the part of a daemon that keeps rules.
type rulesDaemon struct {
	*firewallTasks
	h   *rulesHost
	end func()
}

func (h *rulesHost) start(mode FirewallMode, formers ...netip.Prefix) *rulesDaemon {
	h.t.Helper()
	f, err := newFirewall(Options{Firewall: mode, IPMasq: true, ForwardRules: true, IPTablesResync: time.Minute}, formers, &introspection{}, &condition.Set{})
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runAll(ctx, f.tasks) }()
	over := false
	d := &rulesDaemon{firewallTasks: f, h: h, end: func() {
		if cancel(); !over {
			if err := <-ended; err != nil {
				h.t.Errorf("it ended with %v", err)
			}
		}
		over = true
	}}
	h.t.Cleanup(d.end)
	return d
}

// pass is what a pass of the agent does, for these families.
func (d *rulesDaemon) pass(with ...inet.Family) {
	d.h.t.Helper()
	for _, f := range inet.Families() {
		if !slices.Contains(with, f) {
			d.unset(f)
			continue
		}
		select {
		case <-d.set(subnet.Config{Range: subnet.Range{Network: networks[f]}}, subnets[f], nil):
		case <-time.After(soon):
			d.h.t.Fatalf("the rules of %v are not placed: %v", f, d.wrong.List())
		}
	}
}

// kept are the families whose rules are told.
func (d *rulesDaemon) kept() (out []inet.Family) {
	d.inside.mu.Lock()
	defer d.inside.mu.Unlock()
	for _, f := range inet.Families() {
		if slices.ContainsFunc(d.inside.rules, func(r string) bool { return strings.Contains(r, networks[f].String()) }) {
			out = append(out, f)
		}
	}
	return out
}

// TestIPv6ComesAndGoes in a running cluster. Where it never was, nothing is run for it.
func TestIPv6ComesAndGoes(t *testing.T) {
	h := newRulesHost(t)
	d := h.start(FirewallAuto)
	for range 3 {
		d.pass(inet.IPv4)
	}
	h.has(inet.IPv4, 6)
	// What others change has IPv4's rules read again, and nothing for IPv6.
	before := h.runs(inet.IPv4)
	h.nft("add table ip6 office")
	lab.Eventually(t, soon, "a look", func() error {
		if h.runs(inet.IPv4) == before {
			return errors.New("nobody looked")
		}
		return nil
	})
	if n := h.runs(inet.IPv6); n > 0 || d.families[inet.IPv6].rules != nil {
		t.Errorf("an IPv4-only cluster ran ip6tables %d times", n)
	}

	d.pass(inet.IPv4, inet.IPv6)
	h.has(inet.IPv4, 6)
	h.has(inet.IPv6, 6)
	if got := d.kept(); !slices.Equal(got, inet.Families()) {
		t.Errorf("it tells of rules of %v", got)
	}
	exec.Command(filepath.Join(h.dir, "real", "ip6tables"), "-F").Run()
	h.has(inet.IPv6, 6)

	d.pass(inet.IPv4)
	h.has(inet.IPv6, 0)
	h.has(inet.IPv4, 6)
	lab.Eventually(t, soon, "the end of IPv6's rules", func() error {
		if got := d.kept(); !slices.Equal(got, []inet.Family{inet.IPv4}) {
			return fmt.Errorf("it tells of rules of %v", got)
		}
		return nil
	})
	ended, before := h.runs(inet.IPv6), h.runs(inet.IPv4)
	h.nft("delete table ip6 office")
	lab.Eventually(t, soon, "a look", func() error {
		if h.runs(inet.IPv4) == before {
			return errors.New("nobody looked")
		}
		return nil
	})
	for range 3 {
		d.pass(inet.IPv4)
	}
	if n := h.runs(inet.IPv6); n != ended {
		t.Errorf("ip6tables was run %d times more", n-ended)
	}

	d.pass(inet.IPv4, inet.IPv6) // and back
	h.has(inet.IPv6, 6)
	d.pass(inet.IPv6)
	h.has(inet.IPv4, 0)
	h.has(inet.IPv6, 6)
}

// TestRulesOfAnEarlierRun go at a start without that family, however it is known that
// there are some.
func TestRulesOfAnEarlierRun(t *testing.T) {
	const of028 = `table ip flannel-ipv4 { chain forward { ip saddr 172.7.0.0/16 accept; }; }
		table ip6 flannel-ipv6 { chain forward { ip6 saddr fc00:7::/48 accept; }; }`
	for _, tt := range []struct {
		name   string
		mode   FirewallMode // of the earlier run
		script string
		former []netip.Prefix
		stays  string
	}{
		{"subnet.env tells", IPTables, "", []netip.Prefix{networks[inet.IPv4], networks[inet.IPv6]}, ""},
		{"the table of nftables tells", NFTables, "", nil, ""},
		{"flannel 0.28's tables tell", "", of028, nil, ""},
		{"another network's tables of 0.28", "", strings.ReplaceAll(of028, "172.7.", "172.8."), nil, "flannel-ipv6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newRulesHost(t)
			if tt.mode != "" {
				earlier := h.start(tt.mode)
				earlier.pass(inet.IPv4, inet.IPv6)
				earlier.end()
			}
			h.nft(tt.script)
			d := h.start(FirewallAuto, tt.former...)
			d.pass(inet.IPv4)
			d.pass(inet.IPv4)
			h.has(inet.IPv6, 0)
			lab.Eventually(t, soon, "the end of IPv6's tables", func() error {
				if list := h.nft("list ruleset"); strings.Contains(list, "table ip6 flan") != (tt.stays != "") || !strings.Contains(list, tt.stays) {
					return errors.New(list)
				}
				return nil
			})
			h.has(inet.IPv4, 6)
			if list := d.wrong.List(); len(list) > 0 {
				t.Errorf("conditions are %v", list)
			}
		})
	}
}

// TestAHostWithoutIP6Tables says so where the cluster has IPv6, and is as well as ever
// where it has not, also where rules cannot be removed.
func TestAHostWithoutIP6Tables(t *testing.T) {
	h := newRulesHost(t, "ip6tables")
	d := h.start(FirewallAuto, networks[inet.IPv6])
	d.pass(inet.IPv4)
	lab.Eventually(t, soon, "ip6tables", func() error {
		if h.runs(inet.IPv6) < 2 {
			return errors.New("it was not run")
		}
		return nil
	})
	if list := d.wrong.List(); len(list) > 0 {
		t.Errorf("without IPv6, conditions are %v", list)
	}
	d.set(subnet.Config{Range: subnet.Range{Network: networks[inet.IPv6]}}, subnets[inet.IPv6], nil)
	lab.Eventually(t, soon, "the condition", func() error {
		if c, told := d.wrong.Find(condition.FirewallNotApplied, "ip6tables"); !told || !strings.Contains(c.Cause, "out of order") {
			return fmt.Errorf("conditions are %v", d.wrong.List())
		}
		return nil
	})
	d.pass(inet.IPv4)
	if list := d.wrong.List(); len(list) > 0 {
		t.Errorf("without IPv6 again, conditions are %v", list)
	}
}
