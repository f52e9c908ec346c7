package iptables

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

const (
	hairpin    = `-s 172.7.21.2/32 -d 172.7.21.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE`
	officeSNAT = `-s 172.7.0.0/16 -o ens33 -j SNAT --to-source 10.4.7.99`
	ownSNAT    = `-s 172.7.21.0/24 -d 192.168.9.0/24 -j SNAT --to-source 10.4.7.99`
)

// former has 172.8.0.0/16 as the network of the run before.
func former(w rules.Wanted) rules.Wanted {
	w.Former = netip.MustParsePrefix("172.8.0.0/16")
	return w
}

func TestPlan(t *testing.T) {
	masq, forward := firewalltest.OnlyMasq, onlyForward
	oldMasq := strings.NewReplacer("172.7.0.0", "172.8.0.0", "172.7.21.0", "172.8.21.0").Replace(ourMasq)
	oldSubnet := strings.ReplaceAll(ourMasq, "172.7.21.0", "172.7.99.0")
	first, rest, _ := strings.Cut(strings.TrimSpace(ourMasq), "\n")
	four := lines(ourMasq)
	keeps, masquerades := four[0]+"\n"+four[2], four[1]+"\n"+four[3]
	dockersForward := `
-j DOCKER-USER
-j DOCKER-ISOLATION-STAGE-1
-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-o docker0 -j DOCKER
-i docker0 ! -o docker0 -j ACCEPT
-i docker0 -o docker0 -j DROP`

	tests := []struct {
		name    string
		home    chainID
		want    rules.Wanted
		before  []string
		after   []string // nil: as before
		because string
	}{
		{"an empty chain", natChain, masq, nil, lines(ourMasq), "4 of 4 rules missing"},
		{"all in place", natChain, masq, lines(ourMasq), nil, ""},
		{"quoted by an older iptables", natChain, masq, lines(strings.ReplaceAll(ourMasq, "flanneld", `"flanneld"`)), nil,
			""},
		{"v0.11's rules are replaced", natChain, masq, lines(firewalltest.Uncommented(ourMasq)), lines(ourMasq),
			"4 of 4 rules missing"},
		{"v0.11's rules, before --random-fully", natChain, masq,
			lines(firewalltest.Uncommented(strings.ReplaceAll(ourMasq, " --random-fully", ""))),
			lines(ourMasq), "4 of 4 rules missing"},
		{"a later flannel's rules are replaced", natChain, masq,
			lines(strings.ReplaceAll(ourMasq, "comment flanneld", `comment "flanneld masq"`)),
			lines(ourMasq), "4 of 4 rules missing"},
		{"somebody's own rule of the same text stays", natChain, masq,
			lines(ourMasq, strings.ReplaceAll(first, "flanneld", `"ours, ask ops"`)), nil, ""},
		{"v0.11's beside ours", natChain, masq, lines(ourMasq, firewalltest.Uncommented(ourMasq)), lines(ourMasq),
			"4 rules too many"},
		{"one deleted", natChain, masq, lines(rest), lines(ourMasq), "1 of 4 rules missing"},
		{"doubled", natChain, masq, lines(ourMasq, ourMasq), lines(ourMasq), "4 rules too many"},
		{"reordered", natChain, masq, lines(rest, first), lines(ourMasq), "rules out of order"},
		{"the former network's rules go", natChain, former(masq), lines(oldMasq, ourMasq), lines(ourMasq), "4 rules too many"},
		{"v0.11's for the former network go", natChain, former(masq), lines(firewalltest.Uncommented(oldMasq), ourMasq), lines(ourMasq),
			"4 rules too many"},
		{"v0.11's for another network stay", natChain, masq, lines(firewalltest.Uncommented(oldMasq), ourMasq), nil, ""},
		{"another daemon's rules stay", natChain, masq, lines(oldMasq, ourMasq), nil, ""},
		{"another daemon's rules stay behind", natChain, masq, lines(ourMasq, oldMasq), nil, ""},
		{"another daemon's rules stay, and ours come", natChain, masq, lines(oldMasq, firewalltest.DockerMasq),
			lines(oldMasq, ourMasq, firewalltest.DockerMasq), "4 of 4 rules missing"},
		{"another subnet's rules go", natChain, masq, lines(oldSubnet, firewalltest.DockerMasq),
			lines(ourMasq, firewalltest.DockerMasq), "1 of 4 rules missing"},
		{"nothing wanted", natChain, firewalltest.Nothing, lines(ourMasq, firewalltest.DockerMasq),
			lines(firewalltest.DockerMasq), "4 rules too many"},
		{"docker's masquerading comes behind", natChain, masq, lines(firewalltest.DockerMasq, ourMasq),
			lines(ourMasq, firewalltest.DockerMasq),
			`rules stood behind "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE"`},
		{"docker's masquerading from the beginning", natChain, masq,
			lines(firewalltest.ByHand, firewalltest.DockerMasq, hairpin),
			lines(firewalltest.ByHand, ourMasq, firewalltest.DockerMasq, hairpin), "4 of 4 rules missing"},
		{"special translations may stand in front", natChain, masq, lines(firewalltest.ByHand, hairpin, ownSNAT, ourMasq),
			nil, ""},
		{"and between", natChain, masq, lines(first, firewalltest.ByHand, rest), nil, ""},
		{"jumps may stand in front", natChain, masq, lines("-j POSTROUTING_direct", ourMasq), nil, ""},
		{"a sweeping translation comes behind", natChain, masq, lines(`-o ens33 -j MASQUERADE`, ourMasq),
			lines(ourMasq, `-o ens33 -j MASQUERADE`),
			`rules stood behind "-o ens33 -j MASQUERADE"`},
		{"an operator's SNAT goes on to work", natChain, masq, lines(officeSNAT), lines(keeps, officeSNAT, masquerades),
			"4 of 4 rules missing"},
		{"one that is appended", natChain, masq, lines(ourMasq, officeSNAT), lines(keeps, officeSNAT, masquerades),
			`rules stood in front of "-s 172.7.0.0/16 -o ens33 -j SNAT --to-source 10.4.7.99"`},
		{"one that is inserted", natChain, masq, lines(officeSNAT, ourMasq), lines(keeps, officeSNAT, masquerades),
			`rules stood behind "-s 172.7.0.0/16 -o ens33 -j SNAT --to-source 10.4.7.99"`},
		{"all as it should be around one", natChain, masq, lines(keeps, officeSNAT, masquerades), nil, ""},
		{"one that is gone", natChain, masq, lines(keeps, masquerades), lines(ourMasq), "rules out of order"},
		{"one beside docker's masquerading", natChain, masq, lines(firewalltest.DockerMasq, officeSNAT),
			lines(keeps, firewalltest.DockerMasq, officeSNAT, masquerades), "4 of 4 rules missing"},
		{"docker's rule comes in front of one", natChain, masq, lines(firewalltest.DockerMasq, keeps, officeSNAT, masquerades),
			lines(keeps, firewalltest.DockerMasq, officeSNAT, masquerades),
			`rules stood behind "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE"`},
		{"one for what leaves the network", natChain, masq, lines(ourMasq, ownSNAT), lines(ownSNAT, ourMasq),
			`rules stood in front of "-s 172.7.21.0/24 -d 192.168.9.0/24 -j SNAT --to-source 10.4.7.99"`},
		{"one for a port", natChain, masq, lines(ourMasq, `-p udp -m udp --dport 53 -j SNAT --to-source 10.4.7.99`),
			lines(`-p udp -m udp --dport 53 -j SNAT --to-source 10.4.7.99`, ourMasq),
			`rules stood in front of "-p udp -m udp --dport 53 -j SNAT --to-source 10.4.7.99"`},
		{"one for what enters the network elsewhere", natChain, masq,
			lines(ourMasq, `-s 10.9.0.0/16 -d 172.7.22.0/24 -j SNAT --to-source 10.4.7.99`),
			lines(`-s 10.9.0.0/16 -d 172.7.22.0/24 -j SNAT --to-source 10.4.7.99`, ourMasq),
			`rules stood in front of "-s 10.9.0.0/16 -d 172.7.22.0/24 -j SNAT --to-source 10.4.7.99"`},
		{"a NETMAP", natChain, masq, lines(ourMasq, `-s 172.7.21.0/24 -d 10.9.0.0/16 -j NETMAP --to 10.8.21.0/24`),
			lines(`-s 172.7.21.0/24 -d 10.9.0.0/16 -j NETMAP --to 10.8.21.0/24`, ourMasq),
			`rules stood in front of "-s 172.7.21.0/24 -d 10.9.0.0/16 -j NETMAP --to 10.8.21.0/24"`},
		{"ports that are masqueraded to", natChain, masq, lines(ourMasq, `-o ens34 -p tcp -j MASQUERADE --to-ports 1024-2047`),
			lines(`-o ens34 -p tcp -j MASQUERADE --to-ports 1024-2047`, ourMasq),
			`rules stood in front of "-o ens34 -p tcp -j MASQUERADE --to-ports 1024-2047"`},
		{"one for others, and between containers", natChain, masq,
			lines(ourMasq, `-s 192.168.122.0/24 -d 10.9.0.0/16 -j SNAT --to-source 10.4.7.99`, hairpin), nil, ""},
		{"a rule that ends the chain", natChain, masq, lines(ownSNAT, `-j RETURN`), lines(ownSNAT, ourMasq, `-j RETURN`),
			"4 of 4 rules missing"},
		{"one that ends it behind an SNAT", natChain, masq, lines(officeSNAT, `-j ACCEPT`),
			lines(keeps, officeSNAT, masquerades, `-j ACCEPT`), "4 of 4 rules missing"},
		{"one that ends it in front of an SNAT", natChain, masq, lines(`-j ACCEPT`, officeSNAT),
			lines(ourMasq, `-j ACCEPT`, officeSNAT), "4 of 4 rules missing"},
		{"an operator's exception stays one", natChain, masq, lines(`-s 172.7.0.0/16 -d 10.9.0.0/16 -j ACCEPT`),
			lines(`-s 172.7.0.0/16 -d 10.9.0.0/16 -j ACCEPT`, ourMasq), "4 of 4 rules missing"},

		{"CentOS's REJECT", forwardChain, forward, lines(firewalltest.RejectAll), lines(ourForward, firewalltest.RejectAll),
			"2 of 2 rules missing"},
		{"a DROP with a comment", forwardChain, forward,
			lines(`-i lo -j ACCEPT`, `-m comment --comment "default deny" -j DROP`),
			lines(`-i lo -j ACCEPT`, ourForward, `-m comment --comment "default deny" -j DROP`), "2 of 2 rules missing"},
		{"a REJECT whose comment looks like an option", forwardChain, forward,
			lines(`-m comment --comment "--- the rest ---" -j REJECT`),
			lines(ourForward, `-m comment --comment "--- the rest ---" -j REJECT`), "2 of 2 rules missing"},
		{"v0.11's rules behind REJECT", forwardChain, forward,
			lines(firewalltest.RejectAll, firewalltest.Uncommented(ourForward)), lines(ourForward, firewalltest.RejectAll),
			"2 of 2 rules missing"},
		{"a REJECT came in front", forwardChain, forward, lines(firewalltest.RejectAll, ourForward),
			lines(ourForward, firewalltest.RejectAll),
			`rules stood behind "-j REJECT --reject-with icmp-host-prohibited"`},
		{"a REJECT came between", forwardChain, forward,
			lines(strings.TrimSpace(strings.SplitN(ourForward, "\n", 3)[1]), firewalltest.RejectAll, strings.SplitN(ourForward, "\n", 3)[2]),
			lines(ourForward, firewalltest.RejectAll), `rules stood behind "-j REJECT --reject-with icmp-host-prohibited"`},
		{"docker's rules and the administrator's stay in front", forwardChain, forward,
			lines(dockersForward, `-s 172.7.22.9/32 -j DROP`, firewalltest.RejectAll, `-j LOG`),
			lines(dockersForward, `-s 172.7.22.9/32 -j DROP`, ourForward, firewalltest.RejectAll, `-j LOG`), "2 of 2 rules missing"},
		{"docker put its rules in front", forwardChain, forward, lines(dockersForward, ourForward), nil, ""},
		{"the tutorial's rule in front", forwardChain, forward, lines(`-d 172.7.21.0/24 -j ACCEPT`, ourForward), nil, ""},
	}
	eachFamily(t, func(t *testing.T, family inet.Family) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				f, wanted := newFake(), firewalltest.Wanted(family, tt.want)
				f.chains[tt.home] = as(family, tt.before)
				w := over(family, f)
				if got, because := drift(t, w, wanted)[tt.home], firewalltest.In(family, tt.because); got != because {
					t.Errorf("found wrong: %q, want %q", got, because)
				}
				want := tt.after
				if want == nil {
					want = tt.before
				}
				if diff := cmp.Diff(as(family, want), f.rules(tt.home)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				if again := drift(t, w, wanted)[tt.home]; again != "" {
					t.Errorf("then found wrong: %q", again)
				}
			})
		}
	})
}

// drift is what a pass has repaired, by chain.
func drift(t testing.TB, w *Writer, want rules.Wanted) map[chainID]string {
	t.Helper()
	out := map[chainID]string{}
	for _, o := range w.Apply(context.Background(), want, false).Outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		table, chain, _ := strings.Cut(strings.TrimPrefix(o.Subject, w.name()+" "), " ")
		out[chainID{table, chain}] = o.Drift
	}
	return out
}

// TestForwardRulesStay: with tables of nftables, ours in FORWARD are there because something drops.
// Programs like ufw take that away when they load their rules again.
func TestForwardRulesStay(t *testing.T) {
	eachFamily(t, func(t *testing.T, family inet.Family) {
		f := newFake()
		tables := firewalltest.Wanted(family, onlyForward)
		without := tables
		tables.NFTables = true
		w := over(family, f)
		for _, step := range []struct {
			name   string
			before func()
			want   rules.Wanted
			there  int
		}{
			{"nothing drops", func() {}, tables, 0},
			{"a policy does", func() { f.policies[forwardChain] = "DROP" }, tables, 2},
			{"not any more", func() { f.policies[forwardChain] = "ACCEPT" }, tables, 2},
			{"somebody takes ours away as well", func() { f.chains[forwardChain] = nil }, tables, 2},
			{"ours are wanted in iptables", func() {}, without, 2},
			{"in nftables again", func() {}, tables, 0},
			{"a policy drops again", func() { f.policies[forwardChain] = "DROP" }, tables, 2},
			{"a daemon starts anew, and nothing drops", func() { w, f.policies[forwardChain] = over(family, f), "ACCEPT" }, tables, 0},
		} {
			step.before()
			drift(t, w, step.want)
			if got := f.rules(forwardChain); len(got) != step.there {
				t.Fatalf("%s: %d rules in FORWARD, want %d:\n%s", step.name, len(got), step.there, strings.Join(got, "\n"))
			}
		}
	})
}

// TestRulesThatCannotBeListed: nothing is written then, and what marks packets for
// rules that may be there stays.
func TestRulesThatCannotBeListed(t *testing.T) {
	whole := docker28(t, "docker-28-plain.txt")
	for name, save := range map[string]func() (string, error){
		"an error":     func() (string, error) { return "", errors.New("no") },
		"garbage":      func() (string, error) { return "\x80\x01\nhello\n", nil },
		"half of them": func() (string, error) { return whole[:len(whole)/2], nil },
		"half a line":  func() (string, error) { return whole[:strings.LastIndex(whole, "COMMIT")+3], nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			want := everything
			want.Marked = true
			w := &Writer{program: saving{f, save}}
			got := w.Apply(context.Background(), want, false)
			if len(got.Outcomes) != 1 || got.Outcomes[0].Err == nil || !got.Marks || f.writes > 0 {
				t.Errorf("%+v, %d writes", got, f.writes)
			}
			w.program = f // and now it can be, and needs no marks
			w.Apply(context.Background(), want, false)
			w.program = saving{f, save}
			if got := w.Apply(context.Background(), want, false); got.Marks {
				t.Errorf("marks for rules that need none: %+v", got)
			}
		})
	}
	if err := checkComplete("iptables-save", whole); err != nil {
		t.Error(err)
	}
}

// saving is a fake with another iptables-save.
type saving struct {
	*fake
	list func() (string, error)
}

func (s saving) save(context.Context) (string, error) { return s.list() }
