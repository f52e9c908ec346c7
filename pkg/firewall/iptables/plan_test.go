package iptables

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
)

const (
	hairpin = `-s 172.7.21.2/32 -d 172.7.21.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE`
	ownSNAT = `-s 172.7.21.0/24 -d 192.168.9.0/24 -j SNAT --to-source 10.4.7.99`
)

func TestPlan(t *testing.T) {
	masq, forward := firewalltest.OnlyMasq, firewalltest.OnlyForward
	oldMasq := strings.NewReplacer("172.7.0.0", "172.8.0.0", "172.7.21.0", "172.8.21.0").Replace(firewalltest.OurMasq)
	oldSubnet := strings.ReplaceAll(firewalltest.OurMasq, "172.7.21.0", "172.7.99.0")
	first, rest, _ := strings.Cut(strings.TrimSpace(firewalltest.OurMasq), "\n")
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
		{"an empty chain", natChain, masq, nil, firewalltest.Lines(firewalltest.OurMasq), "4 of 4 rules missing"},
		{"all in place", natChain, masq, firewalltest.Lines(firewalltest.OurMasq), nil, ""},
		{"quoted by an older iptables", natChain, masq, firewalltest.Lines(strings.ReplaceAll(firewalltest.OurMasq, "flanneld", `"flanneld"`)), nil, ""},
		{"v0.11's rules are replaced", natChain, masq, firewalltest.Lines(firewalltest.Uncommented(firewalltest.OurMasq)), firewalltest.Lines(firewalltest.OurMasq), "4 of 4 rules missing"},
		{"v0.11's rules, before --random-fully", natChain, masq, firewalltest.Lines(firewalltest.Uncommented(strings.ReplaceAll(firewalltest.OurMasq, " --random-fully", ""))),
			firewalltest.Lines(firewalltest.OurMasq), "4 of 4 rules missing"},
		{"a later flannel's rules are replaced", natChain, masq, firewalltest.Lines(strings.ReplaceAll(firewalltest.OurMasq, "comment flanneld", `comment "flanneld masq"`)),
			firewalltest.Lines(firewalltest.OurMasq), "4 of 4 rules missing"},
		{"somebody's own rule of the same text stays", natChain, masq, firewalltest.Lines(firewalltest.OurMasq, strings.ReplaceAll(first, "flanneld", `"ours, ask ops"`)), nil, ""},
		{"v0.11's beside ours", natChain, masq, firewalltest.Lines(firewalltest.OurMasq, firewalltest.Uncommented(firewalltest.OurMasq)), firewalltest.Lines(firewalltest.OurMasq), "4 rules too many"},
		{"one deleted", natChain, masq, firewalltest.Lines(rest), firewalltest.Lines(firewalltest.OurMasq), "1 of 4 rules missing"},
		{"doubled", natChain, masq, firewalltest.Lines(firewalltest.OurMasq, firewalltest.OurMasq), firewalltest.Lines(firewalltest.OurMasq), "4 rules too many"},
		{"reordered", natChain, masq, firewalltest.Lines(rest, first), firewalltest.Lines(firewalltest.OurMasq), "rules out of order"},
		{"another network's rules go", natChain, masq, firewalltest.Lines(oldMasq, firewalltest.OurMasq), firewalltest.Lines(firewalltest.OurMasq), "4 rules too many"},
		{"another subnet's rules go", natChain, masq, firewalltest.Lines(oldSubnet, firewalltest.DockerMasq), firewalltest.Lines(firewalltest.OurMasq, firewalltest.DockerMasq), "1 of 4 rules missing"},
		{"nothing wanted", natChain, firewalltest.Nothing, firewalltest.Lines(firewalltest.OurMasq, firewalltest.DockerMasq), firewalltest.Lines(firewalltest.DockerMasq), "4 rules too many"},
		{"docker's masquerading comes behind", natChain, masq, firewalltest.Lines(firewalltest.DockerMasq, firewalltest.OurMasq), firewalltest.Lines(firewalltest.OurMasq, firewalltest.DockerMasq),
			`rules stood behind "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE"`},
		{"docker's masquerading from the beginning", natChain, masq, firewalltest.Lines(firewalltest.ByHand, firewalltest.DockerMasq, hairpin), firewalltest.Lines(firewalltest.ByHand, firewalltest.OurMasq, firewalltest.DockerMasq, hairpin), "4 of 4 rules missing"},
		{"special translations may stand in front", natChain, masq, firewalltest.Lines(firewalltest.ByHand, hairpin, ownSNAT, firewalltest.OurMasq), nil, ""},
		{"and between", natChain, masq, firewalltest.Lines(first, firewalltest.ByHand, rest), nil, ""},
		{"jumps may stand in front", natChain, masq, firewalltest.Lines("-j POSTROUTING_direct", firewalltest.OurMasq), nil, ""},
		{"a sweeping translation comes behind", natChain, masq, firewalltest.Lines(`-o ens33 -j MASQUERADE`, firewalltest.OurMasq), firewalltest.Lines(firewalltest.OurMasq, `-o ens33 -j MASQUERADE`),
			`rules stood behind "-o ens33 -j MASQUERADE"`},

		{"CentOS's REJECT", forwardChain, forward, firewalltest.Lines(firewalltest.RejectAll), firewalltest.Lines(firewalltest.OurForward, firewalltest.RejectAll), "2 of 2 rules missing"},
		{"a DROP with a comment", forwardChain, forward, firewalltest.Lines(`-i lo -j ACCEPT`, `-m comment --comment "default deny" -j DROP`),
			firewalltest.Lines(`-i lo -j ACCEPT`, firewalltest.OurForward, `-m comment --comment "default deny" -j DROP`), "2 of 2 rules missing"},
		{"a REJECT whose comment looks like an option", forwardChain, forward, firewalltest.Lines(`-m comment --comment "--- the rest ---" -j REJECT`),
			firewalltest.Lines(firewalltest.OurForward, `-m comment --comment "--- the rest ---" -j REJECT`), "2 of 2 rules missing"},
		{"v0.11's rules behind REJECT", forwardChain, forward, firewalltest.Lines(firewalltest.RejectAll, firewalltest.Uncommented(firewalltest.OurForward)), firewalltest.Lines(firewalltest.OurForward, firewalltest.RejectAll), "2 of 2 rules missing"},
		{"a REJECT came in front", forwardChain, forward, firewalltest.Lines(firewalltest.RejectAll, firewalltest.OurForward), firewalltest.Lines(firewalltest.OurForward, firewalltest.RejectAll),
			`rules stood behind "-j REJECT --reject-with icmp-host-prohibited"`},
		{"a REJECT came between", forwardChain, forward, firewalltest.Lines(strings.TrimSpace(strings.SplitN(firewalltest.OurForward, "\n", 3)[1]), firewalltest.RejectAll, strings.SplitN(firewalltest.OurForward, "\n", 3)[2]),
			firewalltest.Lines(firewalltest.OurForward, firewalltest.RejectAll), `rules stood behind "-j REJECT --reject-with icmp-host-prohibited"`},
		{"docker's rules and the administrator's stay in front", forwardChain, forward,
			firewalltest.Lines(dockersForward, `-s 172.7.22.9/32 -j DROP`, firewalltest.RejectAll, `-j LOG`),
			firewalltest.Lines(dockersForward, `-s 172.7.22.9/32 -j DROP`, firewalltest.OurForward, firewalltest.RejectAll, `-j LOG`), "2 of 2 rules missing"},
		{"docker put its rules in front", forwardChain, forward, firewalltest.Lines(dockersForward, firewalltest.OurForward), nil, ""},
		{"the tutorial's rule in front", forwardChain, forward, firewalltest.Lines(`-d 172.7.21.0/24 -j ACCEPT`, firewalltest.OurForward), nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			f.chains[tt.home] = tt.before
			w := &Writer{program: f, randomFully: true}
			if got := drift(t, w, tt.want)[tt.home]; got != tt.because {
				t.Errorf("found wrong: %q, want %q", got, tt.because)
			}
			want := tt.after
			if want == nil {
				want = tt.before
			}
			if diff := cmp.Diff(want, f.rules(tt.home)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if again := drift(t, w, tt.want)[tt.home]; again != "" {
				t.Errorf("then found wrong: %q", again)
			}
		})
	}
}

// drift is what a pass has repaired, by chain.
func drift(t testing.TB, w *Writer, want rules.Wanted) map[chainID]string {
	t.Helper()
	out := map[chainID]string{}
	for _, o := range w.Apply(context.Background(), want, false).Outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		table, chain, _ := strings.Cut(strings.TrimPrefix(o.Subject, "iptables "), " ")
		out[chainID{table, chain}] = o.Drift
	}
	return out
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
			want := firewalltest.Everything
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
	if err := checkComplete(whole); err != nil {
		t.Error(err)
	}
}

// saving is a fake with another iptables-save.
type saving struct {
	*fake
	list func() (string, error)
}

func (s saving) save(context.Context) (string, error) { return s.list() }
