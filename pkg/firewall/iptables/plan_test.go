package iptables

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/rules"
)

const (
	ourMasq = `
-s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment flanneld -j RETURN
-s 172.7.0.0/16 ! -d 224.0.0.0/4 -m comment --comment flanneld -j MASQUERADE --random-fully
! -s 172.7.0.0/16 -d 172.7.21.0/24 -m comment --comment flanneld -j RETURN
! -s 172.7.0.0/16 -d 172.7.0.0/16 -m comment --comment flanneld -j MASQUERADE --random-fully
`
	ourForward = `
-s 172.7.0.0/16 -m comment --comment flanneld -j ACCEPT
-d 172.7.0.0/16 -m comment --comment flanneld -j ACCEPT
`
	dockers   = `-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE`
	byHand    = `-s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE`
	hairpin   = `-s 172.7.21.2/32 -d 172.7.21.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE`
	ownSNAT   = `-s 172.7.21.0/24 -d 192.168.9.0/24 -j SNAT --to-source 10.4.7.99`
	rejectAll = `-j REJECT --reject-with icmp-host-prohibited`
)

func block(parts ...string) []string {
	var out []string
	for _, p := range parts {
		for line := range strings.Lines(p) {
			if line = strings.TrimSpace(line); line != "" {
				out = append(out, line)
			}
		}
	}
	return out
}

func unmarkedText(s string) string {
	return strings.ReplaceAll(s, " -m comment --comment flanneld", "")
}

var (
	network = netip.MustParsePrefix("172.7.0.0/16")
	own     = netip.MustParsePrefix("172.7.21.0/24")
	peers   = []rules.Peer{{Subnet: netip.MustParsePrefix("172.7.22.0/24"), Device: "flannel.1"}}

	everything = rules.Wanted{Network: network, Subnet: own, Peers: peers, Masquerade: true, Forward: true}
	onlyMasq   = rules.Wanted{Network: network, Subnet: own, Peers: peers, Masquerade: true}
	onlyPass   = rules.Wanted{Network: network, Subnet: own, Peers: peers, Forward: true}
	nothing    = rules.Wanted{Network: network, Subnet: own, Peers: peers}
)

func TestPlan(t *testing.T) {
	masq, forward := onlyMasq, onlyPass
	oldMasq := strings.NewReplacer("172.7.0.0", "172.8.0.0", "172.7.21.0", "172.8.21.0").Replace(ourMasq)
	oldSubnet := strings.ReplaceAll(ourMasq, "172.7.21.0", "172.7.99.0")
	first, rest, _ := strings.Cut(strings.TrimSpace(ourMasq), "\n")
	dockersForward := `
-j DOCKER-USER
-j DOCKER-ISOLATION-STAGE-1
-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-o docker0 -j DOCKER
-i docker0 ! -o docker0 -j ACCEPT
-i docker0 -o docker0 -j DROP`

	tests := []struct {
		name    string
		home    home
		want    rules.Wanted
		before  []string
		after   []string // nil: as before
		because string
	}{
		{"an empty chain", natHome, masq, nil, block(ourMasq), "4 of 4 rules missing"},
		{"all in place", natHome, masq, block(ourMasq), nil, ""},
		{"quoted by an older iptables", natHome, masq, block(strings.ReplaceAll(ourMasq, "flanneld", `"flanneld"`)), nil, ""},
		{"v0.11's rules are replaced", natHome, masq, block(unmarkedText(ourMasq)), block(ourMasq), "4 of 4 rules missing"},
		{"v0.11's rules, before --random-fully", natHome, masq, block(unmarkedText(strings.ReplaceAll(ourMasq, " --random-fully", ""))),
			block(ourMasq), "4 of 4 rules missing"},
		{"a later flannel's rules are replaced", natHome, masq, block(strings.ReplaceAll(ourMasq, "comment flanneld", `comment "flanneld masq"`)),
			block(ourMasq), "4 of 4 rules missing"},
		{"somebody's own rule of the same text stays", natHome, masq, block(ourMasq, strings.ReplaceAll(first, "flanneld", `"ours, ask ops"`)), nil, ""},
		{"v0.11's beside ours", natHome, masq, block(ourMasq, unmarkedText(ourMasq)), block(ourMasq), "4 rules too many"},
		{"one deleted", natHome, masq, block(rest), block(ourMasq), "1 of 4 rules missing"},
		{"doubled", natHome, masq, block(ourMasq, ourMasq), block(ourMasq), "4 rules too many"},
		{"reordered", natHome, masq, block(rest, first), block(ourMasq), "rules out of order"},
		{"a former network's rules go", natHome, masq, block(oldMasq, ourMasq), block(ourMasq), "4 rules too many"},
		{"a former subnet's rules go", natHome, masq, block(oldSubnet, dockers), block(ourMasq, dockers), "1 of 4 rules missing"},
		{"nothing wanted", natHome, nothing, block(ourMasq, dockers), block(dockers), "4 rules too many"},
		{"docker's masquerading comes behind", natHome, masq, block(dockers, ourMasq), block(ourMasq, dockers),
			`rules stood behind "-s 172.7.21.0/24 ! -o docker0 -j MASQUERADE"`},
		{"docker's masquerading from the beginning", natHome, masq, block(byHand, dockers, hairpin), block(byHand, ourMasq, dockers, hairpin), "4 of 4 rules missing"},
		{"special translations may stand in front", natHome, masq, block(byHand, hairpin, ownSNAT, ourMasq), nil, ""},
		{"and between", natHome, masq, block(first, byHand, rest), nil, ""},
		{"jumps may stand in front", natHome, masq, block("-j POSTROUTING_direct", ourMasq), nil, ""},
		{"a sweeping translation comes behind", natHome, masq, block(`-o ens33 -j MASQUERADE`, ourMasq), block(ourMasq, `-o ens33 -j MASQUERADE`),
			`rules stood behind "-o ens33 -j MASQUERADE"`},

		{"CentOS's REJECT", forwardHome, forward, block(rejectAll), block(ourForward, rejectAll), "2 of 2 rules missing"},
		{"a DROP with a comment", forwardHome, forward, block(`-i lo -j ACCEPT`, `-m comment --comment "default deny" -j DROP`),
			block(`-i lo -j ACCEPT`, ourForward, `-m comment --comment "default deny" -j DROP`), "2 of 2 rules missing"},
		{"a REJECT whose comment looks like an option", forwardHome, forward, block(`-m comment --comment "--- the rest ---" -j REJECT`),
			block(ourForward, `-m comment --comment "--- the rest ---" -j REJECT`), "2 of 2 rules missing"},
		{"v0.11's rules behind REJECT", forwardHome, forward, block(rejectAll, unmarkedText(ourForward)), block(ourForward, rejectAll), "2 of 2 rules missing"},
		{"a REJECT came in front", forwardHome, forward, block(rejectAll, ourForward), block(ourForward, rejectAll),
			`rules stood behind "-j REJECT --reject-with icmp-host-prohibited"`},
		{"a REJECT came between", forwardHome, forward, block(strings.TrimSpace(strings.SplitN(ourForward, "\n", 3)[1]), rejectAll, strings.SplitN(ourForward, "\n", 3)[2]),
			block(ourForward, rejectAll), `rules stood behind "-j REJECT --reject-with icmp-host-prohibited"`},
		{"docker's rules and the administrator's stay in front", forwardHome, forward,
			block(dockersForward, `-s 172.7.22.9/32 -j DROP`, rejectAll, `-j LOG`),
			block(dockersForward, `-s 172.7.22.9/32 -j DROP`, ourForward, rejectAll, `-j LOG`), "2 of 2 rules missing"},
		{"docker put its rules in front", forwardHome, forward, block(dockersForward, ourForward), nil, ""},
		{"the tutorial's rule in front", forwardHome, forward, block(`-d 172.7.21.0/24 -j ACCEPT`, ourForward), nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			f.chains[tt.home] = tt.before
			w := &Writer{kernel: f, randomFully: true}
			if got := wrong(t, w, tt.want)[tt.home]; got != tt.because {
				t.Errorf("found wrong: %q, want %q", got, tt.because)
			}
			want := tt.after
			if want == nil {
				want = tt.before
			}
			if diff := cmp.Diff(want, f.rules(tt.home)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if again := wrong(t, w, tt.want)[tt.home]; again != "" {
				t.Errorf("then found wrong: %q", again)
			}
		})
	}
}

// wrong is what a pass has put right, by chain.
func wrong(t testing.TB, w *Writer, want rules.Wanted) map[home]string {
	t.Helper()
	out := map[home]string{}
	for _, o := range w.Put(context.Background(), want, false).Outcomes {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		table, chain, _ := strings.Cut(strings.TrimPrefix(o.Subject, "iptables "), " ")
		out[home{table, chain}] = o.Wrong
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
			want := everything
			want.Marked = true
			w := &Writer{kernel: saving{f, save}}
			got := w.Put(context.Background(), want, false)
			if len(got.Outcomes) != 1 || got.Outcomes[0].Err == nil || !got.Marks || f.writes > 0 {
				t.Errorf("%+v, %d writes", got, f.writes)
			}
			w.kernel = f // and now it can be, and needs no marks
			w.Put(context.Background(), want, false)
			w.kernel = saving{f, save}
			if got := w.Put(context.Background(), want, false); got.Marks {
				t.Errorf("marks for rules that need none: %+v", got)
			}
		})
	}
	if err := complete(whole); err != nil {
		t.Error(err)
	}
}

// saving lists what it is told to.
type saving struct {
	*fake
	list func() (string, error)
}

func (s saving) save(context.Context) (string, error) { return s.list() }
