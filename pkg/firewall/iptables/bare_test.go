package iptables

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
	"flanneld/pkg/inet"
)

// TestWithoutComments is what becomes of chains on a host whose rules can have none. A
// daemon starts anew in each.
func TestWithoutComments(t *testing.T) {
	bare := firewalltest.Uncommented
	old := strings.NewReplacer("172.7.", "172.8.").Replace
	otherSubnet := strings.NewReplacer("172.7.21.0", "172.7.99.0").Replace
	const (
		in, out     = `-s 172.7.0.0/16 -d 172.7.21.0/24 -i flannel.1 -j ACCEPT`, `-s 172.7.21.0/24 -d 172.7.0.0/16 -o flannel.1 -j ACCEPT`
		marked      = `-d 172.7.21.0/24 -m mark --mark 0x1000/0x1000 -j ACCEPT`
		oneByHand   = `-s 172.7.0.0/16 -j ACCEPT`
		dockersDrop = "*filter\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n-A FORWARD -j DOCKER\n-A DOCKER ! -i docker0 -o docker0 -j DROP\nCOMMIT\n"
	)
	for _, tt := range []struct {
		name          string
		home          chainID
		want          rules.Wanted
		before, after []string // nil: as before
		docker        bool
	}{
		{"an empty chain", natChain, everything, nil, lines(bare(ourMasq)), false},
		{"nothing is written twice", natChain, everything, lines(bare(ourMasq)), nil, false},
		{"nor what lets packets pass", forwardChain, everything, lines(bare(ourForward)), nil, false},
		{"one is missing", natChain, everything, lines(bare(ourMasq))[1:], lines(bare(ourMasq)), false},
		{"all twice", natChain, everything, lines(bare(ourMasq), bare(ourMasq)), lines(bare(ourMasq)), false},
		{"another subnet's", natChain, everything, lines(otherSubnet(bare(ourMasq))), lines(bare(ourMasq)), false},
		{"the former network's", natChain, former(everything), lines(old(bare(ourMasq))), lines(bare(ourMasq)), false},
		{"the former network's that let pass", forwardChain, former(everything), lines(old(bare(ourForward))), lines(bare(ourForward)), false},
		{"another daemon's", natChain, everything, lines(old(bare(ourMasq))), lines(old(bare(ourMasq)), bare(ourMasq)), false},
		{"docker's comes behind", natChain, everything, lines(firewalltest.DockerMasq, bare(ourMasq)), lines(bare(ourMasq), firewalltest.DockerMasq), false},
		{"an operator's SNAT", natChain, everything, lines(officeSNAT, firewalltest.ByHand), lines(lines(bare(ourMasq))[0], lines(bare(ourMasq))[2],
			officeSNAT, firewalltest.ByHand, lines(bare(ourMasq))[1], lines(bare(ourMasq))[3]), false},
		{"a REJECT", forwardChain, everything, lines(firewalltest.RejectAll, bare(ourForward)), lines(bare(ourForward), firewalltest.RejectAll), false},
		{"rules with a comment, which a later kernel wrote", natChain, everything, lines(ourMasq), lines(bare(ourMasq)), false},
		{"no rules are wanted any more", natChain, firewalltest.OnlyForward, lines(bare(ourMasq)), []string{}, false},
		{"nor those that let pass", forwardChain, firewalltest.OnlyMasq, lines(bare(ourForward)), []string{}, false},
		{"an operator's own rule, of ours' form", forwardChain, firewalltest.OnlyMasq, lines(oneByHand), nil, false},
		{"an operator's own rule in nat", natChain, firewalltest.OnlyForward, lines(lines(bare(ourMasq))[0]), nil, false},
		{"docker 28", userChain, everything, nil, lines(in, out), true},
		{"docker 28, nothing twice", userChain, everything, lines(in, out), nil, true},
		{"docker 28, an operator appends", userChain, everything, lines(in, out, `-s 172.7.22.0/24 -j DROP`), lines(`-s 172.7.22.0/24 -j DROP`, in, out), true},
		{"docker 28, another device of before", userChain, everything, lines(strings.ReplaceAll(in, "flannel.1", "flannel.2"), strings.ReplaceAll(out, "flannel.1", "ens33"), marked),
			lines(in, out), true},
		{"docker 28, another daemon's stay and nobody moves", userChain, everything, lines(in, out, old(in), old(out), old(marked)), nil, true},
		{"docker's chains are gone, it may come again", userChain, everything, lines(in, out, marked), lines(in, out), false},
		{"docker's rule in raw is gone, it may come again", rawChain, everything, lines(marked), lines(in), false},
		{"docker's chains are gone, and no forward rules are wanted", userChain, firewalltest.OnlyMasq, lines(in, out, marked), []string{}, false},
	} {
		eachFamily(t, func(t *testing.T, family inet.Family) {
			t.Run(tt.name, func(t *testing.T) {
				f, wanted := newFake(), firewalltest.Wanted(family, tt.want)
				if tt.docker {
					f.load(dockersDrop)
				}
				f.chains[tt.home] = as(family, tt.before)
				f.refuses = []string{"--comment"}
				for range 2 {
					w := over(family, f)
					drift(t, w, wanted)
					want := tt.after
					if want == nil {
						want = tt.before
					}
					if diff := cmp.Diff(lines(as(family, want)...), lines(f.rules(tt.home)...)); diff != "" {
						t.Fatalf("-want +got:\n%s", diff)
					}
					writes := f.writes
					for h, again := range drift(t, w, wanted) {
						if again != "" || f.writes > writes {
							t.Errorf("a second pass finds wrong, in %v: %s", h, again)
						}
					}
				}
			})
		})
	}
}

// TestCommentsCome: a module may be loaded later. Then rules get their comment, each chain
// at once; until then nothing is tried more than once in a while.
func TestCommentsCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.refuses = []string{"--comment"}
		w := &Writer{program: f, randomFully: true}
		drift(t, w, everything)
		tries := f.tries
		if tries == 0 {
			t.Error("nothing was tried")
		}
		for range 100 {
			time.Sleep(time.Second)
			drift(t, w, everything)
		}
		if f.tries > tries {
			t.Errorf("%d tries, and %d more", tries, f.tries-tries)
		}
		f.refuses = nil
		time.Sleep(answerTime)
		drift(t, w, everything)
		for h, want := range map[chainID]string{natChain: ourMasq, forwardChain: ourForward} {
			if diff := cmp.Diff(lines(want), f.rules(h)); diff != "" {
				t.Errorf("%v -want +got:\n%s", h, diff)
			}
		}
	})
}

// TestAPartThatIsWrittenAsAnother: iptables 1.8.9 writes "--mark 0x1000/0x0", and reports
// success, where it asks a kernel without xt_mark.
func TestAPartThatIsWrittenAsAnother(t *testing.T) {
	f := newFake()
	f.load(docker28(t, "docker-28-plain.txt"))
	f.spoils = "0x1000/0x1000"
	f.chains[userChain] = lines(peersIn, peersOut) // which a run before has found out
	want := everything
	want.Marked = true
	w := &Writer{program: f, randomFully: true}
	for range 3 {
		drift(t, w, want)
		if diff := cmp.Diff(lines(peersIn, peersOut), f.rules(userChain)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		for p, a := range w.answers {
			a.when = time.Now().Add(-2 * answerTime)
			w.answers[p] = a
		}
	}
	for _, script := range f.scripts {
		if strings.Contains(script, "0x1000/0x0") && !strings.Contains(script, tryChain) {
			t.Errorf("packets met\n%s", script)
		}
	}
	if w.Apply(context.Background(), want, false).Marks {
		t.Error("it asks for marks that no rule matches")
	}
}

// TestFailuresThatSayNothing: what every rule meets says nothing about parts of them.
func TestFailuresThatSayNothing(t *testing.T) {
	f := newFake()
	f.refuses = []string{"-A ", "-I "}
	w := &Writer{program: f, randomFully: true}
	for range 3 {
		if _, err := once(w, everything); err == nil || strings.Contains(err.Error(), "refuses") {
			t.Errorf("error %v", err)
		}
	}
	if !w.can().comments || !w.can().randomFully {
		t.Errorf("it takes %+v for what it can do", w.can())
	}
	f.refuses = nil
	drift(t, w, everything)
	if diff := cmp.Diff(lines(ourMasq), f.rules(natChain)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestAChainThatWasLeft: a daemon may be killed while it tries a part.
func TestAChainThatWasLeft(t *testing.T) {
	f := newFake()
	left := chainID{"filter", tryChain}
	f.chains[left] = lines(`-m comment --comment flanneld -j RETURN`)
	if wrong := drift(t, &Writer{program: f, randomFully: true}, everything)[left]; wrong != "" {
		t.Errorf("it finds %q", wrong)
	}
	if _, there := f.chains[left]; there {
		t.Error("it is still there")
	}
}

// TestWaitIsUnknown: iptables-restore before 1.6.2 has no --wait.
func TestWaitIsUnknown(t *testing.T) {
	c := useFlavour(t, inet.IPv4, "iptables-nft")
	refusesOption(t, inet.IPv4, filepath.Dir(c.path), "--wait")
	c, err := newCommand(context.Background(), inet.IPv4)
	if err != nil {
		t.Fatal(err)
	}
	w := &Writer{program: c, randomFully: true}
	for range 2 {
		drift(t, w, everything)
	}
	if n := strings.Count(savedRules(t, inet.IPv4), "--comment flanneld"); n != 6 {
		t.Errorf("%d rules:\n%s", n, savedRules(t, inet.IPv4))
	}
}
