package daemon

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
)

// heard is a firewall.Writer that tells what is wanted.
type heard chan rules.Wanted

func (h heard) Apply(_ context.Context, w rules.Wanted, _ bool) rules.Result {
	h <- w
	return rules.Result{}
}

// TestWhichFirewall asks what rules are written by.
func TestWhichFirewall(t *testing.T) {
	for _, tt := range []struct {
		name            string
		flag            FirewallMode
		key             bool // EnableNFTables
		iptables, marks bool
		want            bool // nftables
	}{
		{"both are there", FirewallAuto, false, true, true, false},
		{"the key says so", FirewallAuto, true, true, true, true},
		{"the key says so, the flag something else", IPTables, true, true, true, false},
		{"the flag says so", NFTables, false, true, true, true},
		{"no iptables", FirewallAuto, false, false, true, true},
		{"the key says so, and the kernel has no nf_tables", FirewallAuto, true, true, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(heard, 1)
			r, err := firewall.New(firewall.Options{Writers: []firewall.Writer{got}, Resync: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()
			for _, family := range inet.Families() {
				r := &familyRules{family: family, iptables: tt.iptables, marks: tt.marks, rules: r}
				f := firewallTasks{options: Options{Firewall: tt.flag, IPMasq: true}, inside: &introspection{}, wrong: &condition.Set{}, families: map[inet.Family]*familyRules{
					inet.IPv4: {}, inet.IPv6: {}, family: r}}
				network, own := netip.MustParsePrefix("172.7.0.0/16"), netip.MustParsePrefix("172.7.21.0/24")
				f.set(subnet.Config{Range: subnet.Range{Network: firewalltest.Prefix(family, network)}, NFTables: tt.key}, firewalltest.Prefix(family, own), nil)
				if w := <-got; w.NFTables != tt.want || w.Family() != family {
					t.Errorf("%v by nftables: %v, want %v for %v", w.Family(), w.NFTables, tt.want, family)
				}
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBrokenIPTables has an iptables without its iptables-save. It ends flanneld,
// unless that was told to use nftables.
func TestBrokenIPTables(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, tt := range []struct {
		flag FirewallMode
		ends bool
	}{{FirewallAuto, true}, {IPTables, true}, {NFTables, false}} {
		inside, wrong := &introspection{}, &condition.Set{}
		_, err := newFirewall(Options{Firewall: tt.flag, IPTablesResync: time.Second, IPMasq: true, ForwardRules: true}, nil, inside, wrong)
		if (err != nil) != tt.ends {
			t.Errorf("--firewall=%s: %v", tt.flag, err)
		}
		said, _ := wrong.Find(condition.FirewallUnavailable, "iptables cannot be used")
		if !tt.ends && !strings.Contains(said.Cause, "iptables-save") {
			t.Errorf("--firewall=%s: conditions are %v", tt.flag, wrong.List())
		}
	}
}
