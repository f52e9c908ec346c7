package subnet

import (
	"errors"
	"testing"
)

// TestTrail has a watch go on in histories that begin alike.
func TestTrail(t *testing.T) {
	put := func(index uint64) Change { return Change{Index: index, Digest: 100 + index, Unique: true} }
	plain := func(index uint64) Change { return Change{Index: index, Digest: 100 + index} }
	another := func(index uint64) Change { return Change{Index: index, Digest: 900 + index, Unique: true} }
	heard := []Change{plain(11), put(12), plain(13), put(14), put(15), plain(16), plain(16)}
	for _, tt := range []struct {
		name    string
		listed  Change
		heard   []Change
		after   uint64
		from    uint64 // 0: nothing leads on
		told    []Change
		reached uint64 // and it says that it has told all
		lost    bool
		sure    bool
	}{
		{name: "nothing was heard", after: 10},
		{name: "nothing by which the store is known", heard: []Change{plain(11), plain(12)}, after: 12},
		{name: "the list shows the latest change", listed: put(10), after: 10, from: 10, told: []Change{put(10)}, sure: true},
		{name: "the list does not show the latest change", listed: put(9), after: 10},
		{name: "the list's latest change says nothing", listed: plain(10), after: 10},
		{name: "the same", heard: heard, after: 16, from: 14, told: append(heard[3:], plain(17)), sure: true},
		{name: "it is on its way", heard: heard, after: 16, from: 14, told: heard[3:5]},
		{name: "a member lags", heard: heard, after: 16, from: 14, reached: 13},
		{name: "another one at its beginning", heard: heard, after: 16, from: 14, told: []Change{another(14)}, lost: true},
		{name: "another one later", heard: heard, after: 16, from: 14, told: []Change{put(14), put(15), another(16)}, lost: true},
		{name: "one is missing", heard: heard, after: 16, from: 14, told: []Change{put(14), plain(16)}, lost: true},
		{name: "one more in between", heard: heard[:5], after: 15, from: 14, told: []Change{put(14), another(14), put(15)}, lost: true},
		{name: "one more at the end", heard: heard, after: 16, from: 14, told: append(heard[3:], another(16)), lost: true},
		{name: "nothing is told", heard: heard, after: 16, from: 14, reached: 20, lost: true},
		{name: "not all is told", heard: heard, after: 16, from: 14, told: heard[3:5], reached: 20, lost: true},
		{name: "the caller has not heard of all", heard: heard, after: 12, from: 13, told: heard[2:], sure: true},
		{name: "too many", heard: append([]Change{put(11)}, plain(12), plain(13), plain(14), plain(15), plain(16), plain(17)), after: 17},
	} {
		trail := Trail{Keep: 2, Longest: 6}
		trail.Listed(10, tt.listed)
		first, err := trail.Retrace(10)
		if err != nil || !first.First() || first.From() != 11 || !first.Sure() {
			t.Fatalf("%s: first watch %+v, %v", tt.name, first, err)
		}
		for _, c := range tt.heard {
			if err := first.Told(c); err != nil {
				t.Errorf("%s: first watch: %v", tt.name, err)
			}
		}
		if trail.Leads() != (tt.from > 0) {
			t.Errorf("%s: it leads on: %t", tt.name, trail.Leads())
		}
		again, err := trail.Retrace(tt.after)
		if tt.from == 0 {
			if !errors.Is(err, ErrHistoryLost) {
				t.Errorf("%s: error %v", tt.name, err)
			}
			continue
		}
		if err != nil || again.First() || again.From() != tt.from || again.Sure() {
			t.Fatalf("%s: %+v, %v", tt.name, again, err)
		}
		for _, c := range tt.told {
			if err == nil {
				err = again.Told(c)
			}
		}
		if err == nil && tt.reached > 0 {
			err = again.CaughtUp(tt.reached)
		}
		if errors.Is(err, ErrHistoryLost) != tt.lost || err == nil && again.Sure() != tt.sure {
			t.Errorf("%s: %v, sure %t", tt.name, err, again.Sure())
		}
	}
}

// TestTrailForgets what the store has forgotten.
func TestTrailForgets(t *testing.T) {
	for before, want := range map[uint64]uint64{5: 5, 6: 7, 7: 7, 8: 0} {
		trail := Trail{Keep: 9, Longest: 9}
		r, _ := trail.Retrace(1)
		for _, c := range []Change{{Index: 5, Unique: true}, {Index: 6}, {Index: 7, Unique: true}, {Index: 8}} {
			if err := r.Told(c); err != nil {
				t.Fatal(err)
			}
		}
		var from uint64
		if trail.Forget(before) {
			again, err := trail.Retrace(8)
			if err != nil {
				t.Fatal(err)
			}
			from = again.From()
		}
		if from != want {
			t.Errorf("without what was before %d it begins at %d, want %d", before, from, want)
		}
	}
}
