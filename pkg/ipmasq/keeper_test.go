package ipmasq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const resync = 5 * time.Second

var everything = slices.Concat(MasqRules(network, own, true), ForwardRules(network))

// bench is a Keeper that runs over a fake inside a synctest bubble.
type bench struct {
	*Keeper
	t       *testing.T
	kernel  *fake
	mu      sync.Mutex
	reports []map[string]string
	repairs atomic.Int32
	stop    func()
}

func startBench(t *testing.T) *bench {
	b := &bench{t: t, kernel: newFake()}
	k, err := newKeeper(b.kernel, true, Options{Resync: resync, Report: b.report, Repaired: func() { b.repairs.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	b.Keeper = k
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}
	return b
}

func (b *bench) report(problems map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, problems)
}

// expectReports compares all that was reported so far.
func (b *bench) expectReports(want ...map[string]string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if diff := cmp.Diff(want, b.reports); diff != "" {
		b.t.Errorf("reports -want +got:\n%s", diff)
	}
}

// after lets time pass until everything is idle again.
func (b *bench) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (b *bench) expect(h home, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(block(want...), b.kernel.rules(h)); diff != "" {
		b.t.Errorf("%v -want +got:\n%s", h, diff)
	}
}

func TestSetAppliesAtOnceAndTicksRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		defer b.stop()
		b.after(time.Minute)
		if lists, _ := b.kernel.counts(); lists != 0 {
			t.Errorf("%d lists before the first Set", lists)
		}
		b.Set(everything)
		synctest.Wait()
		b.expect(natHome, ourMasq)
		b.expect(forwardHome, ourForward)

		b.kernel.do(func(f *fake) { f.flush(natHome) })
		b.after(resync)
		b.expect(natHome, ourMasq)
		if n := b.repairs.Load(); n != 1 {
			t.Errorf("%d repairs were told, of 1", n)
		}

		lists, writes := b.kernel.counts()
		b.Set(slices.Clone(everything))
		b.after(time.Hour)
		moreLists, moreWrites := b.kernel.counts()
		if got, want := moreLists-lists, 2*int(time.Hour/resync); got != want {
			t.Errorf("an idle hour took %d lists, want %d", got, want)
		}
		if moreWrites != writes {
			t.Errorf("an idle hour took %d writes", moreWrites-writes)
		}
		b.expectReports()
	})
}

func TestSetReplacesTheWholeSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		defer b.stop()
		b.Set(everything)
		synctest.Wait()

		b.Set(ForwardRules(network)) // --ip-masq given up
		synctest.Wait()
		b.expect(natHome)
		b.expect(forwardHome, ourForward)
		lists, _ := b.kernel.counts()
		b.after(10 * resync)
		if more, _ := b.kernel.counts(); more-lists != 10 {
			t.Errorf("%d lists in 10 ticks over one chain", more-lists)
		}

		other := []Rule{{"nat", "OUTPUT", "-d 10.9.0.1/32 -j ACCEPT"}} // any chain can be kept
		b.Set(other)
		synctest.Wait()
		b.expect(forwardHome)
		b.expect(home{"nat", "OUTPUT"}, "-d 10.9.0.1/32 -m comment --comment flanneld -j ACCEPT")

		b.Set(nil)
		synctest.Wait()
		b.expectReports()
		if n := b.repairs.Load(); n != 0 {
			t.Errorf("what was not repaired was told %d times", n)
		}
	})
}

func TestAFormerRunsRulesAreSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		defer b.stop()
		b.kernel.do(func(f *fake) {
			f.chains[natHome] = listing(natHome, block(ourMasq, dockers))
			f.fail[natHome] = errors.New("not now")
		})
		b.Set(ForwardRules(network))
		synctest.Wait()
		b.kernel.do(func(f *fake) { delete(f.fail, natHome) })
		b.after(resync)
		b.expect(natHome, dockers)
	})
}

func TestOneFailureIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		defer b.stop()
		b.kernel.do(func(f *fake) { f.failPut = errors.New("line 2 failed") })
		b.Set(everything)
		synctest.Wait()
		b.kernel.do(func(f *fake) { f.failPut = nil })
		b.after(time.Second)
		b.expect(natHome, ourMasq)
		b.expectReports()
	})
}

func TestALastingFailureIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		defer b.stop()
		b.kernel.do(func(f *fake) { f.fail[forwardHome] = errors.New("exit status 3: out of order") })
		b.Set(everything)
		b.after(time.Second)
		b.expect(natHome, ourMasq) // one chain's failure is not the other's
		problem := map[string]string{"iptables filter FORWARD": "list the rules of filter FORWARD: exit status 3: out of order"}
		b.expectReports(problem)
		before, _ := b.kernel.counts()
		b.after(time.Hour)
		if lists, _ := b.kernel.counts(); lists-before > 2*2*int(time.Hour/resync) {
			t.Errorf("%d lists in an hour of failures: no backing off", lists-before)
		}
		b.expectReports(problem)

		b.kernel.do(func(f *fake) { delete(f.fail, forwardHome) })
		b.after(resync)
		b.expect(forwardHome, ourForward)
		b.expectReports(problem, map[string]string{})
	})
}

func TestAHeldLockIsWaitedForOncePerPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		defer b.stop()
		b.kernel.do(func(f *fake) { f.fail[natHome] = fmt.Errorf("wrapped: %w", errLocked) })
		b.Set(everything)
		synctest.Wait()
		if lists, _ := b.kernel.counts(); lists != 1 {
			t.Errorf("%d lists while the lock is held, want 1", lists)
		}
		b.kernel.do(func(f *fake) { clear(f.fail) })
		b.after(resync)
		b.expect(natHome, ourMasq)
		b.expect(forwardHome, ourForward)
	})
}

func TestATugOfWarIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		defer b.stop()
		b.Set(everything)
		synctest.Wait()
		_, before := b.kernel.counts()
		for range 20 {
			b.kernel.do(func(f *fake) { f.flush(forwardHome) })
			b.after(resync)
			b.expect(forwardHome, ourForward) // we go on
		}
		if _, writes := b.kernel.counts(); writes-before != 20 {
			t.Errorf("%d writes in 20 ticks", writes-before)
		}
		problem := map[string]string{"iptables filter FORWARD": tugOfWar}
		b.expectReports(problem)
		b.after(resync)
		b.expectReports(problem, map[string]string{})
	})
}

// TestEndsAtOnce ends a Keeper whose iptables waits for the lock.
func TestEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startBench(t)
		lock := make(chan struct{})
		b.kernel.do(func(f *fake) { f.lock = lock })
		b.Set(everything)
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
	if _, err := newKeeper(newFake(), false, Options{}); err == nil || !strings.Contains(err.Error(), "must be positive") {
		t.Errorf("error %v", err)
	}
}
