package agent

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"flanneld/pkg/kernel"
)

// world is a store that is lost while certain routes are there, or by itself.
type world struct {
	s       suspects
	now     time.Time
	routes  map[netip.Prefix]bool // wanted → in the kernel
	costs   map[netip.Prefix]bool // these cost etcd, 10 s after they came
	down    bool                  // etcd itself is
	heard   time.Time             // when its host last answered
	came    map[netip.Prefix]time.Time
	lost    time.Time // zero: etcd is read
	outages int
}

func newWorld(n int, guilty ...int) *world {
	w := &world{now: time.Unix(1e9, 0), routes: map[netip.Prefix]bool{}, costs: map[netip.Prefix]bool{}, came: map[netip.Prefix]time.Time{}}
	for i := range n {
		w.routes[subnetOf(i)] = false
	}
	for _, i := range guilty {
		w.costs[subnetOf(i)] = true
	}
	return w
}

func subnetOf(i int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("10.4.%d.0/24", i)) }

// run lets passes be made each second.
func (w *world) run(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Second) {
		bad := w.down
		for dst, there := range w.routes {
			bad = bad || there && w.costs[dst] && w.now.Sub(w.came[dst]) >= 10*time.Second
		}
		switch {
		case bad && w.lost.IsZero():
			w.lost = w.now
			w.outages++
		case !bad:
			w.lost = time.Time{}
		}
		w.s.judge(w.lost, w.heard, w.now)
		var ops []kernel.Op
		for dst, there := range w.routes {
			want := !w.s.holds(dst)
			if want && !there {
				ops, w.came[dst] = append(ops, kernel.Op{Action: kernel.Add, Object: kernel.Route{Dst: dst}}), w.now
			}
			w.routes[dst] = want
		}
		w.s.note(ops, w.now)
	}
}

func (w *world) missing() (out []netip.Prefix) {
	for dst, there := range w.routes {
		if !there {
			out = append(out, dst)
		}
	}
	return out
}

func TestSuspects(t *testing.T) {
	t.Run("the one that costs etcd", func(t *testing.T) {
		w := newWorld(1, 0)
		w.run(12 * time.Second)
		if len(w.missing()) != 1 {
			t.Fatal("it was not taken back")
		}
		w.run(time.Hour) // it is tried ever more rarely
		if w.outages < 3 || w.outages > 12 {
			t.Errorf("%d outages in an hour", w.outages)
		}
	})
	t.Run("one of a hundred", func(t *testing.T) {
		w := newWorld(100, 41)
		w.run(15 * time.Minute)
		if got := w.missing(); len(got) > 1 || len(got) == 1 && got[0] != subnetOf(41) {
			t.Errorf("after a quarter of an hour %d are missing: %v", len(got), got)
		}
		if w.outages > 16 {
			t.Errorf("%d outages", w.outages)
		}
	})
	t.Run("etcd is down for another reason", func(t *testing.T) {
		w := newWorld(10)
		w.run(5 * time.Second)
		w.down = true
		w.run(suspectTime + 5*time.Second)
		if got := w.missing(); len(got) != 0 {
			t.Errorf("still missing while etcd is away: %v", got)
		}
		w.run(10 * time.Minute)
		if got := w.missing(); len(got) != 0 {
			t.Errorf("missing in a long outage: %v", got)
		}
	})
	t.Run("etcd starts anew in this moment", func(t *testing.T) {
		w := newWorld(10)
		w.run(5 * time.Second)
		w.down = true
		w.run(3 * time.Second)
		w.down = false
		w.run(4 * time.Minute)
		if got := w.missing(); len(got) != 0 {
			t.Errorf("still missing: %v", got)
		}
	})
	t.Run("a route that is proven", func(t *testing.T) {
		w := newWorld(10)
		w.run(suspectTime + 5*time.Second)
		w.down = true
		w.run(time.Second)
		if got := w.missing(); len(got) != 0 {
			t.Errorf("taken back: %v", got)
		}
	})
}

// TestSuspectsNote: what restores a route that was there, or removes one, is no news.
func TestSuspectsNote(t *testing.T) {
	var s suspects
	now := time.Now()
	s.note([]kernel.Op{
		{Action: kernel.Add, Object: kernel.Route{Dst: subnetOf(1)}, Repair: true},
		{Action: kernel.Delete, Object: kernel.FoundRoute{Route: kernel.Route{Dst: subnetOf(2)}}},
		{Action: kernel.Add, Object: kernel.Route{Dst: subnetOf(3)}},
	}, now)
	if s.next() != time.Second {
		t.Error("it does not look again soon")
	}
	s.judge(now.Add(time.Second), time.Time{}, now.Add(2*time.Second))
	held := []bool{s.holds(subnetOf(1)), s.holds(subnetOf(2)), s.holds(subnetOf(3))}
	if !slices.Equal(held, []bool{false, false, true}) {
		t.Errorf("held: %v", held)
	}
}

// TestSuspectsAreTriedWhileOthersCome: routes that come all the time, as of a peer whose lease comes and goes, keep none
// of those that were taken back away.
func TestSuspectsAreTriedWhileOthersCome(t *testing.T) {
	w := newWorld(2)
	w.run(5 * time.Second)
	w.down = true // which is none of the routes' fault
	w.run(10 * time.Second)
	if len(w.s.held) != 2 {
		t.Fatalf("held %v", w.s.held)
	}
	w.down = false
	for range 40 {
		flapping := subnetOf(99)
		delete(w.routes, flapping)
		w.run(time.Second)
		w.routes[flapping] = false
		w.run(24 * time.Second)
	}
	if len(w.s.held) != 0 {
		t.Errorf("still held after 16 minutes: %v", w.s.held)
	}
}

// TestACrashingEtcdIsNoRoutesFault: an etcd that ends again and again, and whose host refuses connections meanwhile, costs
// no route; one whose host says nothing does.
func TestACrashingEtcdIsNoRoutesFault(t *testing.T) {
	for _, refuses := range []bool{true, false} {
		w, most := newWorld(10), 0
		for range 20 {
			w.down = true
			for range 5 {
				w.run(time.Second)
				if refuses {
					w.heard = w.now
				}
				most = max(most, len(w.s.held))
			}
			w.down = false
			w.run(40 * time.Second)
		}
		if refuses == (most > 0) {
			t.Errorf("host refuses %v: %d routes held", refuses, most)
		}
	}
}
