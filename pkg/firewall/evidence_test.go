package firewall

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
)

// liar is a Writer that says yes and writes nothing, while it lies.
type liar struct {
	fake
	lies bool
}

func (l *liar) Apply(ctx context.Context, w rules.Wanted, marks bool) rules.Result {
	out := l.fake.Apply(ctx, w, marks)
	l.do(func(f *fake) {
		if l.lies {
			clear(f.have)
		}
	})
	return out
}

// silent is a Writer whose program takes its time.
type silent struct {
	fake
	since time.Time
	takes time.Duration
}

func (s *silent) Apply(ctx context.Context, w rules.Wanted, marks bool) rules.Result {
	s.do(func(*fake) { s.since = time.Now() })
	time.Sleep(s.takes)
	return s.fake.Apply(ctx, w, marks)
}

func (s *silent) WaitsFor() (string, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "/usr/sbin/iptables-save", time.Since(s.since)
}

func over(t *testing.T, w Writer, changed <-chan struct{}) *fixture {
	b := &fixture{t: t}
	r, err := New(Options{Writers: []Writer{w}, Resync: resync, Report: b.report, Changed: changed})
	if err != nil {
		t.Fatal(err)
	}
	b.Reconciler, b.stop = r, runs(t, r)
	return b
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestAWriteThatDoesNothingIsNoSuccess: only rules that were read back are in place.
func TestAWriteThatDoesNothingIsNoSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &liar{fake: fake{have: map[string]rules.Wanted{}}, lies: true}
		b := over(t, w, nil)
		defer b.stop()
		placed := b.Set(firewalltest.Everything)
		b.after(time.Second)
		if isClosed(placed) {
			t.Error("rules that are not there count as placed")
		}
		_, before := w.counts()
		b.after(time.Hour)
		if _, writes := w.counts(); writes-before > 4*int(time.Hour/resync)*2 {
			t.Errorf("%d writes in an hour: they are not paced", writes-before)
		}
		if len(b.reports) != 1 || !strings.Contains(b.reports[0][chains[1]], "reported success, but the rules are not there") {
			t.Errorf("reports are %v", b.reports)
		}
		w.do(func(*fake) { w.lies = false })
		b.after(resync)
		if !isClosed(placed) || len(b.reports) != 2 || len(b.reports[1]) != 0 {
			t.Errorf("placed %v, reports are %v", isClosed(placed), b.reports)
		}
	})
}

// TestAProgramThatDoesNotAnswerIsToldOf within seconds, once.
func TestAProgramThatDoesNotAnswerIsToldOf(t *testing.T) {
	for _, tt := range []struct {
		name         string
		takes, after time.Duration
		told         bool
	}{
		{"it hangs", time.Hour, 4 * time.Second, true},
		{"it is slow", 2 * time.Second, time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &silent{fake: fake{have: map[string]rules.Wanted{}}, takes: tt.takes}
				b := over(t, w, nil)
				placed := b.Set(firewalltest.Everything)
				b.after(tt.after)
				if isClosed(placed) == tt.told {
					t.Errorf("placed: %v", isClosed(placed))
				}
				var want []map[string]string
				if tt.told {
					want = append(want, map[string]string{"iptables": rules.NoAnswer{Program: "/usr/sbin/iptables-save"}.Error()})
				}
				b.expectReports(want...)
				b.after(time.Minute / 2)
				b.expectReports(want...)
				b.stop()
				time.Sleep(2 * time.Hour)
			})
		})
	}
}

// TestAnErrorOfTimeIsTheSameNews: what was told before the program was killed is not
// told again, and is over once it answers.
func TestAnErrorOfTimeIsTheSameNews(t *testing.T) {
	err := rules.NoAnswer{Program: "/usr/sbin/iptables-restore"}
	var told []map[string]condition.Condition
	h := newHistory(Options{Resync: resync, Report: func(m map[string]condition.Condition) { told = append(told, m) }})
	h.noAnswer(err)
	for range 3 {
		h.record(rules.Result{Outcomes: []rules.Outcome{{Subject: "iptables filter FORWARD", Err: err}}}, time.Now())
	}
	if len(told) != 1 || told[0]["iptables"].Code != condition.FirewallNotApplied {
		t.Errorf("told %v", told)
	}
	h.record(rules.Result{Outcomes: []rules.Outcome{{Subject: "iptables filter FORWARD"}}}, time.Now())
	if len(told) != 2 || len(told[1]) != 0 {
		t.Errorf("told %v", told)
	}
}

// TestWhatMendsIt: a host that lacks something is told the command, not only a sentence.
func TestWhatMendsIt(t *testing.T) {
	err := fmt.Errorf("cannot write: %w", rules.Lacks{Text: "no MASQUERADE", Fix: "modprobe xt_MASQUERADE", Err: errors.New("exit status 1")})
	c := notApplied("iptables nat POSTROUTING", err)
	if c.Fix != "modprobe xt_MASQUERADE" || c.Cause != "cannot write: no MASQUERADE: exit status 1" || c.Code != condition.FirewallNotApplied {
		t.Errorf("%+v", c)
	}
}
