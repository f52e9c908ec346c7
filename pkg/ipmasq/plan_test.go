package ipmasq

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// apply does to a chain what iptables-restore --noflush does.
func apply(h home, lines []string, script string) ([]string, error) {
	lines = slices.Clone(lines)
	var body []string
	switch all := strings.Split(script, "\n"); {
	case len(all) < 3 || all[0] != "*"+h.table || all[len(all)-2] != "COMMIT":
		return nil, fmt.Errorf("script is not one of table %s: %q", h.table, script)
	default:
		body = all[1 : len(all)-2]
	}
	policies := len(lines) - len(rulesOf(h, lines))
	for _, line := range body {
		verb, rest, _ := strings.Cut(line, " ")
		chain, spec, _ := strings.Cut(rest, " ")
		if chain != h.chain {
			return nil, fmt.Errorf("line %q is not about chain %s", line, h.chain)
		}
		add := "-A " + h.chain + " "
		switch verb {
		case "-A":
			lines = append(lines, add+spec)
		case "-I":
			number, rule, _ := strings.Cut(spec, " ")
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > len(lines)-policies+1 {
				return nil, fmt.Errorf("line %q: no such place", line)
			}
			lines = slices.Insert(lines, policies+n-1, add+rule)
		case "-D":
			i := slices.Index(lines, add+spec)
			if i < 0 {
				return nil, fmt.Errorf("line %q: no such rule", line)
			}
			lines = slices.Delete(lines, i, i+1)
		default:
			return nil, fmt.Errorf("line %q: unknown verb", line)
		}
	}
	return lines, nil
}

// rulesOf are the rules among the lines of iptables -S, as text.
func rulesOf(h home, lines []string) []string {
	var out []string
	for _, line := range lines {
		if spec, ok := strings.CutPrefix(line, "-A "+h.chain+" "); ok {
			out = append(out, spec)
		}
	}
	return out
}

var (
	natHome     = home{"nat", "POSTROUTING"}
	forwardHome = home{"filter", "FORWARD"}
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

func listing(h home, specs []string) []string {
	lines := []string{"-P " + h.chain + " ACCEPT"}
	for _, s := range specs {
		lines = append(lines, "-A "+h.chain+" "+s)
	}
	return lines
}

func TestPlan(t *testing.T) {
	masq, forward := MasqRules(network, own, true), ForwardRules(network)
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
		want    []Rule
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
		{"nothing wanted", natHome, nil, block(ourMasq, dockers), block(dockers), "4 rules too many"},
		{"nothing wanted: v0.11's rules stay", natHome, nil, block(unmarkedText(ourMasq)), nil, ""},
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
			before := listing(tt.home, tt.before)
			s := look(tt.home, before, tt.want)
			if got := s.wrong(tt.want); got != tt.because {
				t.Errorf("found wrong: %q, want %q", got, tt.because)
			}
			after := tt.before
			if s.wrong(tt.want) != "" {
				lines, err := apply(tt.home, before, s.script(tt.home, tt.want))
				if err != nil {
					t.Fatal(err)
				}
				after = rulesOf(tt.home, lines)
			}
			want := tt.after
			if want == nil {
				want = tt.before
			}
			if diff := cmp.Diff(want, after); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
