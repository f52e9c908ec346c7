package firewall

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/condition"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/firewall/rules"
)

const resync = 5 * time.Second

// fake is a Writer of two chains in memory, that fails and blocks on demand.
type fake struct {
	mu     sync.Mutex
	have   map[string]rules.Wanted // by chain
	fail   map[string]error
	lock   chan struct{} // Put waits until it is closed
	marks  bool
	looks  int
	writes int
}

var chains = []string{"nat POSTROUTING", "filter FORWARD"}

func (f *fake) Apply(ctx context.Context, w rules.Wanted, _ bool) (out rules.Result) {
	f.mu.Lock()
	f.looks++
	lock := f.lock
	f.mu.Unlock()
	if lock != nil {
		<-lock
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range chains {
		o := rules.Outcome{Subject: c, Err: f.fail[c]}
		if !f.have[c].Equal(w) && o.Err == nil && ctx.Err() == nil {
			f.have[c] = w
			f.writes++
			o.Drift = "2 of 2 rules missing"
		}
		out.Outcomes = append(out.Outcomes, o)
	}
	out.Rules, out.Marks = w.Devices(), f.marks
	return out
}

// do changes the fake as another program would.
func (f *fake) do(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) flush(chain string) { delete(f.have, chain) }

func (f *fake) counts() (looks, writes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks, f.writes
}

// fixture is a Reconciler that runs over a fake inside a synctest bubble.
type fixture struct {
	*Reconciler
	t       *testing.T
	kernel  *fake
	changed chan struct{}
	mu      sync.Mutex
	reports []map[string]string
	kept    [][]string
	repairs atomic.Int32
	stop    func()
}

func newFixture(t *testing.T) *fixture {
	b := &fixture{t: t, kernel: &fake{have: map[string]rules.Wanted{}, fail: map[string]error{}}, changed: make(chan struct{}, 1)}
	r, err := New(Options{
		Writers: []Writer{b.kernel}, Changed: b.changed, Resync: resync,
		Report: b.report, Repaired: func() { b.repairs.Add(1) }, Rules: func(k []string) { b.kept = append(b.kept, k) },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Reconciler = r
	b.stop = runs(t, r)
	return b
}

func (b *fixture) report(chains map[string]condition.Condition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	problems := map[string]string{}
	for chain, c := range chains {
		problems[chain] = c.Cause
	}
	b.reports = append(b.reports, problems)
}

// expectReports compares all that was reported so far.
func (b *fixture) expectReports(want ...map[string]string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if diff := cmp.Diff(want, b.reports); diff != "" {
		b.t.Errorf("reports -want +got:\n%s", diff)
	}
}

// after lets time pass until everything is idle again.
func (b *fixture) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// inPlace holds that a chain has what is wanted.
func (b *fixture) inPlace(chain string, want rules.Wanted) {
	b.t.Helper()
	b.kernel.mu.Lock()
	defer b.kernel.mu.Unlock()
	if !b.kernel.have[chain].Equal(want) {
		b.t.Errorf("%s has %+v", chain, b.kernel.have[chain])
	}
}

// undo flushes a chain as another program would, which the kernel tells of.
func (b *fixture) undo(chain string) {
	b.kernel.do(func(f *fake) { f.flush(chain) })
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func TestSetAppliesAtOnceAndTicksRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		defer b.stop()
		b.after(time.Minute)
		if looks, _ := b.kernel.counts(); looks != 0 {
			t.Errorf("%d looks before the first Set", looks)
		}
		b.Set(firewalltest.Everything)
		synctest.Wait()
		b.inPlace(chains[0], firewalltest.Everything)
		b.inPlace(chains[1], firewalltest.Everything)

		b.kernel.do(func(f *fake) { f.flush(chains[0]) }) // as with iptables-legacy, of which nobody tells
		b.after(resync)
		b.inPlace(chains[0], firewalltest.Everything)
		if n := b.repairs.Load(); n != 1 {
			t.Errorf("%d repairs were reported, of 1", n)
		}

		looks, writes := b.kernel.counts()
		same := firewalltest.Everything
		same.Peers = slices.Clone(same.Peers)
		b.Set(same)
		b.after(time.Hour)
		moreLooks, moreWrites := b.kernel.counts()
		if got, want := moreLooks-looks, int(time.Hour/resync); got != want {
			t.Errorf("an idle hour took %d looks, want %d", got, want)
		}
		if moreWrites != writes {
			t.Errorf("an idle hour took %d writes", moreWrites-writes)
		}
		b.expectReports()
		b.Set(firewalltest.OnlyForward)
		synctest.Wait()
		b.inPlace(chains[0], firewalltest.OnlyForward)
		if n := b.repairs.Load(); n != 1 {
			t.Errorf("reported %d repairs that were none", n)
		}
		if len(b.kept) != 1 {
			t.Errorf("the same rules were reported %d times", len(b.kept))
		}
	})
}

// Who sets something can wait until the rules for it have been seen.
func TestSetTellsWhenItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		defer b.stop()
		done := func(placed <-chan struct{}) bool {
			select {
			case <-placed:
				return true
			default:
				return false
			}
		}
		var placed <-chan struct{}
		b.kernel.do(func(*fake) { // nothing can be done meanwhile
			if placed = b.Set(firewalltest.Everything); done(placed) {
				t.Error("it is done before it begins")
			}
		})
		synctest.Wait()
		if !done(placed) || !done(b.Set(firewalltest.Everything)) {
			t.Error("the channel is not closed after success")
		}
		b.kernel.do(func(f *fake) { f.fail[chains[0]] = errors.New("line 2 failed") })
		b.Set(firewalltest.OnlyMasq)
		second := b.Set(firewalltest.OnlyForward)
		b.after(quietTime)
		if done(second) {
			t.Error("the channel is closed although the rules are not there")
		}
		b.kernel.do(func(f *fake) { clear(f.fail) })
		b.after(resync)
		if !done(second) {
			t.Error("the channel is not closed although the rules are there now")
		}
		b.Set(firewalltest.OnlyMasq)
		b.kernel.do(func(*fake) {
			if done(b.Set(firewalltest.Everything)) {
				t.Error("it is done before it begins again")
			}
		})
		b.after(resync)
	})
}

// TestRemove: rules of a family that is not in use any more go, and then nobody looks.
func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		defer b.stop()
		b.Set(firewalltest.Everything)
		b.after(time.Second)
		nothing := rules.Wanted{Network: firewalltest.Network, Subnet: firewalltest.Network, Table: "flanneld"}
		b.kernel.do(func(f *fake) { f.fail[chains[0]] = errors.New("line 2 failed") })
		gone := b.Remove(firewalltest.Network, netip.Prefix{}, "flanneld")
		b.after(3 * resync)
		if isClosed(gone) {
			t.Error("they count as gone, and are not")
		}
		b.kernel.do(func(f *fake) { clear(f.fail) })
		b.after(resync)
		b.inPlace(chains[0], nothing)
		b.inPlace(chains[1], nothing)
		if !isClosed(gone) || b.Remove(firewalltest.Network, netip.Prefix{}, "flanneld") != gone {
			t.Error("nobody tells that they are gone")
		}
		if last := b.reports[len(b.reports)-1]; len(last) > 0 || len(b.kept) != 2 || len(b.kept[1]) != 0 {
			t.Errorf("reports are %v, kept rules %v", b.reports, b.kept)
		}
		before, _ := b.kernel.counts()
		for range 100 {
			b.undo(chains[0])
			b.Remove(firewalltest.Network, netip.Prefix{}, "flanneld")
			b.after(resync)
		}
		if looks, _ := b.kernel.counts(); looks != before {
			t.Errorf("%d looks at rules that are gone", looks-before)
		}
		placed := b.Set(firewalltest.Everything)
		b.after(time.Second)
		b.inPlace(chains[0], firewalltest.Everything)
		if !isClosed(placed) {
			t.Error("they are back, and nobody tells")
		}
		b.undo(chains[0])
		b.after(time.Second)
		b.inPlace(chains[0], firewalltest.Everything)

		b.Set(firewalltest.OnlyMasq)
		synctest.Wait()
		b.Remove(firewalltest.Network, netip.Prefix{}, "flanneld") // right after a pass
		synctest.Wait()
		before, _ = b.kernel.counts()
		b.after(quietTime)
		b.undo(chains[0])
		b.after(resync)
		if looks, _ := b.kernel.counts(); looks != before {
			t.Errorf("%d looks at rules that are gone", looks-before)
		}
	})
}

// markless is a fake on a kernel that may lack what sets marks.
type markless struct {
	fake
	can bool
}

func (m *markless) CanMark(rules.Wanted) bool { return m.can }

// TestNobodyMatchesMarksThatNobodySets: whether packets can be marked is asked first.
func TestNobodyMatchesMarksThatNobodySets(t *testing.T) {
	for _, can := range []bool{true, false} {
		first, second := &fake{have: map[string]rules.Wanted{}}, &markless{fake{have: map[string]rules.Wanted{}}, can}
		r, err := New(Options{Writers: []Writer{first, second}, Resync: resync})
		if err != nil {
			t.Fatal(err)
		}
		want := firewalltest.Everything
		want.Marked = true
		r.apply(context.Background(), want)
		if got := first.have[chains[0]].Marked; got != can {
			t.Errorf("the rules match marks: %v, which can be set: %v", got, can)
		}
	}
}

// Peers that come and go by the devices that there are cost nothing, unless
// packets are matched by them.
func TestPeersMatterWhereTheyAreMarked(t *testing.T) {
	for _, marks := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := newFixture(t)
			defer b.stop()
			b.kernel.marks = marks
			b.Set(firewalltest.Everything)
			b.after(time.Second)
			before, _ := b.kernel.counts()
			more := firewalltest.Everything
			more.Peers = append(slices.Clone(firewalltest.Peers), rules.Peer{Subnet: firewalltest.Network, Device: firewalltest.Peers[0].Device})
			placed := b.Set(more)
			b.after(100 * time.Millisecond)
			if looks, _ := b.kernel.counts(); looks-before > 0 != marks {
				t.Errorf("%d looks at a new peer, where marks are %v", looks-before, marks)
			}
			<-placed
			more.Peers = append(slices.Clone(firewalltest.Peers), rules.Peer{Subnet: firewalltest.Network, Device: "ens33"})
			b.Set(more)
			b.after(100 * time.Millisecond)
			b.inPlace(chains[0], more) // the device is a new one
			b.after(2 * resync)
			b.kernel.do(func(f *fake) { f.marks = true }) // docker has come
			last := firewalltest.Everything
			b.Set(last)
			b.after(resync)
			b.inPlace(chains[1], last)
		})
	}
}

// What the kernel signals is repaired within milliseconds, and a burst of it
// takes few looks.
func TestChangesAreLookedAtAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		defer b.stop()
		b.Set(firewalltest.Everything)
		b.after(time.Second)
		b.undo(chains[1])
		synctest.Wait()
		b.inPlace(chains[1], firewalltest.Everything)
		looks, _ := b.kernel.counts()
		for range 100 {
			b.undo(chains[1])
			b.after(time.Millisecond)
		}
		b.after(quietTime)
		b.inPlace(chains[1], firewalltest.Everything)
		if more, _ := b.kernel.counts(); more-looks > 2*int(100*time.Millisecond/quietTime)+2 {
			t.Errorf("%d looks at a burst of 100 ms", more-looks)
		}
		b.expectReports()
	})
}

func TestOneFailureIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		defer b.stop()
		b.kernel.do(func(f *fake) { f.fail[chains[0]] = errors.New("line 2 failed") })
		b.Set(firewalltest.Everything)
		synctest.Wait()
		b.kernel.do(func(f *fake) { clear(f.fail) })
		b.after(time.Second)
		b.inPlace(chains[0], firewalltest.Everything)
		b.expectReports()
	})
}

func TestALastingFailureIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		defer b.stop()
		b.kernel.do(func(f *fake) { f.fail[chains[1]] = errors.New("exit status 3: out of order") })
		b.Set(firewalltest.Everything)
		b.after(time.Second)
		b.inPlace(chains[0], firewalltest.Everything) // one chain's failure is not the other's
		problem := map[string]string{chains[1]: "exit status 3: out of order"}
		b.expectReports(problem)
		before, _ := b.kernel.counts()
		b.after(time.Hour)
		if looks, _ := b.kernel.counts(); looks-before > 2*int(time.Hour/resync) {
			t.Errorf("%d looks in an hour of failures: no backing off", looks-before)
		}
		b.expectReports(problem)

		b.kernel.do(func(f *fake) { clear(f.fail) })
		b.after(resync)
		b.inPlace(chains[1], firewalltest.Everything)
		b.expectReports(problem, map[string]string{})
	})
}

// TestContentionIsReportedOnce has another program undo a chain, of which the
// kernel tells and of which it does not.
func TestContentionIsReportedOnce(t *testing.T) {
	for name, signalled := range map[string]bool{"signalled": true, "not signalled": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t)
				defer b.stop()
				b.Set(firewalltest.Everything)
				synctest.Wait()
				_, before := b.kernel.counts()
				for range 20 {
					if signalled {
						b.undo(chains[1])
					} else {
						b.kernel.do(func(f *fake) { f.flush(chains[1]) })
					}
					b.after(resync)
					b.inPlace(chains[1], firewalltest.Everything) // we go on
				}
				if _, writes := b.kernel.counts(); writes-before != 20 {
					t.Errorf("%d writes of 20", writes-before)
				}
				problem := map[string]string{chains[1]: contention}
				b.expectReports(problem)
				b.after(2 * resync)
				b.expectReports(problem, map[string]string{})
			})
		})
	}
}

// A program that removes our rules all the time does not keep us busy.
func TestContentionIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		defer b.stop()
		b.Set(firewalltest.Everything)
		for range 60 * 100 {
			b.undo(chains[1])
			b.after(10 * time.Millisecond)
		}
		if _, writes := b.kernel.counts(); writes > repairsToReport*int(time.Second/quietTime)+12 {
			t.Errorf("%d writes in a minute", writes)
		}
		b.expectReports(map[string]string{chains[1]: contention})
	})
}

// TestEndsAtOnce ends a Reconciler whose iptables waits for the lock.
func TestEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t)
		lock := make(chan struct{})
		b.kernel.do(func(f *fake) { f.lock = lock })
		b.Set(firewalltest.Everything)
		synctest.Wait()
		begin := time.Now()
		b.stop()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("took %v", took)
		}
		close(lock)
		synctest.Wait()
		if _, writes := b.kernel.counts(); writes != 0 {
			t.Errorf("%d writes after the end", writes)
		}
	})
}

func TestResyncMustBePositive(t *testing.T) {
	if _, err := New(Options{}); err == nil || !strings.Contains(err.Error(), "must be positive") {
		t.Errorf("error %v", err)
	}
}
