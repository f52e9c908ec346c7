package subnettest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"flanneld/pkg/subnet"
)

// patience is how long the suite waits for what should take milliseconds.
const patience = 20 * time.Second

// Conformance holds a Registry to the contract of [subnet.Registry].
// newRegistry returns one over an empty prefix of its own, and ends it with t.
// The tests take turns, as one of them fills the history of the whole store.
func Conformance(t *testing.T, newRegistry func(t *testing.T) subnet.Registry) {
	for _, tt := range []struct {
		name string
		test func(suite)
	}{
		{"an absent prefix is empty", suite.absentPrefix},
		{"create", suite.create},
		{"create again", suite.createAgain},
		{"swap", suite.swap},
		{"refresh", suite.refresh},
		{"delete", suite.remove},
		{"replace", suite.replace},
		{"strange keys and values", suite.strange},
		{"expiry", suite.expiry},
		{"watch from each index", suite.watchFromEachIndex},
		{"a refresh tells no watcher", suite.quietRefresh},
		{"lost history", suite.lostHistory},
		{"an index that has not been reached", suite.futureIndex},
		{"the end of the context", suite.endOfContext},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.test(suite{t, newRegistry(t)})
		})
	}
}

// Compactor is a Registry whose store forgets its history when it is told to.
type Compactor interface {
	// Compact lets the store forget what was before an index.
	Compact(t *testing.T, index uint64)
}

type suite struct {
	*testing.T
	r subnet.Registry
}

func (s suite) list() subnet.Snapshot {
	s.Helper()
	snapshot, err := s.r.List(s.Context())
	if err != nil {
		s.Fatalf("List: %v", err)
	}
	slices.SortFunc(snapshot.Entries, func(a, b subnet.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return snapshot
}

// holds fails the test unless the prefix holds exactly these entries.
func (s suite) holds(want ...subnet.Entry) {
	s.Helper()
	if got := s.list().Entries; !slices.EqualFunc(got, want, same) {
		s.Fatalf("the prefix holds\n%+v, want\n%+v", got, want)
	}
}

// same compares entries, of whose lifetime up to a minute may have passed.
func same(a, b subnet.Entry) bool {
	if a.TTL == subnet.UnknownTTL && b.TTL != 0 || b.TTL == subnet.UnknownTTL && a.TTL != 0 {
		a.TTL, b.TTL = 0, 0
	}
	elapsed := (a.TTL - b.TTL).Abs()
	if elapsed > time.Minute || (a.TTL == 0) != (b.TTL == 0) {
		return false
	}
	a.TTL = b.TTL
	return a == b
}

func (s suite) put(e subnet.Entry) subnet.Entry {
	s.Helper()
	stored, err := s.r.Put(s.Context(), e)
	if err != nil {
		s.Fatalf("Put(%+v): %v", e, err)
	}
	asked := e
	asked.Created, asked.Modified = stored.Created, stored.Modified
	if !same(stored, asked) || stored.Modified <= e.Modified {
		s.Fatalf("Put(%+v) stored %+v", e, stored)
	}
	return stored
}

func (s suite) conflict(what string, err error) {
	s.Helper()
	if !errors.Is(err, subnet.ErrConflict) {
		s.Fatalf("%s: error %v, want ErrConflict", what, err)
	}
}

func (s suite) absentPrefix() {
	snapshot := s.list()
	if len(snapshot.Entries) != 0 || snapshot.Cluster == "" {
		s.Fatalf("%+v", snapshot)
	}
	events := s.watch(snapshot.Index)
	stored := s.put(subnet.Entry{Key: "config", Value: "{}"})
	events.are(subnet.Event{Entry: stored})
}

func (s suite) create() {
	before := s.list()
	a := s.put(subnet.Entry{Key: "subnets/172.7.21.0-24", Value: "a", TTL: time.Hour})
	b := s.put(subnet.Entry{Key: "config", Value: "b"})
	for _, e := range []subnet.Entry{a, b} {
		if e.Created != e.Modified || e.Created <= before.Index {
			s.Errorf("%+v was created at index %d", e, before.Index)
		}
	}
	s.holds(b, a)
	if after := s.list(); after.Index < b.Modified || after.Cluster != before.Cluster {
		s.Errorf("%+v after index %d of cluster %s", after, b.Modified, before.Cluster)
	}
}

func (s suite) createAgain() {
	first := s.put(subnet.Entry{Key: "subnets/a", Value: "first"})
	_, err := s.r.Put(s.Context(), subnet.Entry{Key: "subnets/a", Value: "second"})
	s.conflict("another value", err)
	// This is how a lost reply looks to the one who tries again.
	again, err := s.r.Put(s.Context(), subnet.Entry{Key: "subnets/a", Value: "first"})
	if err != nil || again != first {
		s.Errorf("the same value: %+v, %v", again, err)
	}
	s.holds(first)
}

func (s suite) swap() {
	first := s.put(subnet.Entry{Key: "subnets/a", Value: "first", TTL: time.Hour})
	second := first
	second.Value, second.TTL = "second", 2*time.Hour
	second = s.put(second)
	if second.Created != first.Created {
		s.Errorf("created at %d, and after a swap at %d", first.Created, second.Created)
	}
	stale := first
	stale.Value = "third"
	_, err := s.r.Put(s.Context(), stale)
	s.conflict("a stale index", err)
	_, err = s.r.Put(s.Context(), subnet.Entry{Key: "subnets/b", Value: "b", Modified: first.Modified})
	s.conflict("an absent key", err)
	s.holds(second)

	second.TTL = 0
	s.holds(s.put(second))
}

func (s suite) refresh() {
	first := s.put(subnet.Entry{Key: "subnets/a", Value: "a", TTL: time.Hour})
	longer := first
	longer.TTL = 2 * time.Hour
	second, err := s.r.Refresh(s.Context(), longer)
	longer.Modified = second.Modified
	if err != nil || !same(second, longer) || second.Modified < first.Modified {
		s.Fatalf("Refresh = %+v, %v", second, err)
	}
	s.holds(second)

	other := second
	other.Value = "b"
	other = s.put(other)
	_, err = s.r.Refresh(s.Context(), second)
	s.conflict("a stale index", err)
	_, err = s.r.Refresh(s.Context(), subnet.Entry{Key: "subnets/b", TTL: time.Hour, Modified: first.Modified})
	s.conflict("an absent key", err)
	s.holds(other)
}

func (s suite) remove() {
	first := s.put(subnet.Entry{Key: "subnets/a", Value: "a", TTL: time.Hour})
	second := first
	second.Value = "b"
	second = s.put(second)
	s.conflict("a stale index", s.r.Delete(s.Context(), first))
	s.holds(second)
	if err := s.r.Delete(s.Context(), second); err != nil {
		s.Fatal(err)
	}
	s.holds()
	s.conflict("an absent key", s.r.Delete(s.Context(), second))
	s.holds(s.put(subnet.Entry{Key: "subnets/a", Value: "c"}))
}

func (s suite) strange() {
	start := s.list().Index
	var want []subnet.Entry
	var events []subnet.Event
	for _, e := range []subnet.Entry{
		{Key: "Config", Value: "\x00\x01 \n\r\"\\</script>&=+%41;"},
		{Key: "subnets/172.7.21.0-24", Value: "日本 é 🐧"},
		{Key: "subnets/a b+c%2F%?x=1&y#z", Value: ""},
		{Key: "subnets/日本", Value: "{\"node\":null}"},
	} {
		stored := s.put(e)
		want, events = append(want, stored), append(events, subnet.Event{Entry: stored})
	}
	s.holds(want...)
	s.watch(start).are(events...)
}

func (s suite) expiry() {
	start := s.list().Index
	stored := s.put(subnet.Entry{Key: "subnets/a", Value: "a", TTL: time.Second})
	kept := s.put(subnet.Entry{Key: "subnets/b", Value: "b", TTL: time.Hour})
	events := s.watch(start)
	events.are(subnet.Event{Entry: stored}, subnet.Event{Entry: kept},
		subnet.Event{Entry: subnet.Entry{Key: "subnets/a"}, Deleted: true})
	s.holds(kept)
}

func (s suite) watchFromEachIndex() {
	config := s.put(subnet.Entry{Key: "config", Value: "b"}) // without it no watch goes on
	start := s.list().Index
	live := s.watch(start)
	var want []subnet.Event
	last := subnet.Entry{Key: "subnets/a", TTL: time.Hour}
	for i := range 5 {
		last.Value = fmt.Sprint(i)
		last = s.put(last)
		want = append(want, subnet.Event{Entry: last})
	}
	if err := s.r.Delete(s.Context(), last); err != nil {
		s.Fatal(err)
	}
	config.Value = "c"
	want = append(want, subnet.Event{Entry: subnet.Entry{Key: "subnets/a"}, Deleted: true},
		subnet.Event{Entry: s.put(config)})
	live.are(want...)
	for i, e := range want {
		if !e.Deleted {
			s.watch(e.Modified).are(want[i+1:]...)
		}
	}
	s.watch(start).are(want...)
}

func (s suite) quietRefresh() {
	first := s.put(subnet.Entry{Key: "subnets/a", Value: "a", TTL: time.Hour})
	live := s.watch(first.Modified)
	second, err := s.r.Refresh(s.Context(), first)
	if err != nil {
		s.Fatal(err)
	}
	other := subnet.Event{Entry: s.put(subnet.Entry{Key: "subnets/b", Value: "b"})}
	live.are(other)
	for _, from := range []subnet.Entry{first, second} {
		s.list()
		s.watch(from.Modified).are(other)
	}
}

func (s suite) lostHistory() {
	start := s.list().Index
	e := s.put(subnet.Entry{Key: "subnets/a"})
	for i := range HistoryLength + 1 { // more than any store keeps by itself, and may keep
		e.Value = fmt.Sprint(i)
		e = s.put(e)
	}
	if store, ok := s.r.(Compactor); ok {
		store.Compact(s.T, e.Modified)
	}
	s.lost(start)
	s.list()
	s.watch(e.Modified).are()
}

func (s suite) futureIndex() {
	s.put(subnet.Entry{Key: "config", Value: "{}"})
	s.lost(s.list().Index + 1000)
}

// lost fails the test unless a watch from this index ends as it must.
func (s suite) lost(after uint64) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	err := s.r.Watch(ctx, after, func(events []subnet.Event) {
		if len(events) > 0 {
			s.Errorf("events %+v", events)
		}
	})
	if !errors.Is(err, subnet.ErrHistoryLost) {
		s.Errorf("Watch ended with %v, want ErrHistoryLost", err)
	}
}

// replace gives a lease another key. Where both keys are there for a moment, the one that
// stays is written last.
func (s suite) replace() {
	old := s.put(subnet.Entry{Key: "subnets/10.1.2.0-24", Value: "old", TTL: time.Hour})
	other := s.put(subnet.Entry{Key: "subnets/10.1.3.0-24&fd00:7::-64", Value: "other", TTL: time.Hour})
	e := subnet.Entry{Key: "subnets/10.1.2.0-24&fd00:7:0:1::-64", Value: "new", TTL: time.Hour}
	stale, taken := old, e
	stale.Modified--
	taken.Key = other.Key
	if _, err := s.r.Replace(s.Context(), old, taken); !errors.Is(err, subnet.ErrConflict) {
		s.Errorf("Replace by a key that is there: error %v", err)
	}
	s.holds(old, other)
	w := s.watch(s.list().Index)
	stored, err := s.r.Replace(s.Context(), old, e)
	if err != nil {
		s.Fatalf("Replace: %v", err)
	}
	s.holds(stored, other)
	var last subnet.Event
	gone := false
	for last.Modified < stored.Modified {
		for _, event := range w.next() {
			last, gone = event, gone || event.Deleted && event.Key == old.Key
		}
	}
	if !gone || last.Deleted || last.Key != e.Key || last.Value != e.Value {
		s.Errorf("the last event is %+v; told of the old key's end: %v", last, gone)
	}
	w.end()
	_, err = s.r.Replace(s.Context(), stale, subnet.Entry{Key: "subnets/10.1.2.0-24&fd00:7:0:2::-64"})
	if !errors.Is(err, subnet.ErrConflict) {
		s.Errorf("Replace of a key that is gone: error %v", err)
	}
}

func (s suite) endOfContext() {
	stored := s.put(subnet.Entry{Key: "subnets/a", Value: "a", TTL: time.Hour})
	ended, cancel := context.WithCancel(s.Context())
	cancel()
	_, list := s.r.List(ended)
	_, put := s.r.Put(ended, stored)
	_, refresh := s.r.Refresh(ended, stored)
	for what, err := range map[string]error{
		"List": list, "Put": put, "Refresh": refresh, "Delete": s.r.Delete(ended, stored),
		"Watch": s.r.Watch(ended, stored.Modified, func([]subnet.Event) {}),
	} {
		if !errors.Is(err, context.Canceled) {
			s.Errorf("%s: error %v", what, err)
		}
	}
	s.watch(s.list().Index).end() // what became of the writes is unknown
}

// watcher is a Watch that runs.
type watcher struct {
	suite
	events chan []subnet.Event
	stop   context.CancelFunc
	ended  chan error
}

// watch starts a Watch, and returns when it stands.
func (s suite) watch(after uint64) *watcher {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	w := &watcher{s, make(chan []subnet.Event), cancel, make(chan error, 1)}
	go func() {
		w.ended <- s.r.Watch(ctx, after, func(events []subnet.Event) {
			select {
			case w.events <- events:
			case <-ctx.Done():
			}
		})
	}()
	if first := w.next(); len(first) > 0 {
		s.Fatalf("the watch began with %+v, want a call without events", first)
	}
	return w
}

func (w *watcher) next() []subnet.Event {
	w.Helper()
	select {
	case events := <-w.events:
		return events
	case err := <-w.ended:
		w.Fatalf("Watch ended with %v", err)
	case <-time.After(patience):
		w.Fatal("nothing came of a watch")
	}
	return nil
}

// are fails the test unless these are the events, in this order, and then ends
// the watch. A deletion is compared by its key.
func (w *watcher) are(want ...subnet.Event) {
	w.Helper()
	var got []subnet.Event
	var last uint64
	for len(got) < len(want) {
		for _, e := range w.next() {
			if e.Modified <= last {
				w.Errorf("event %+v came after index %d", e, last)
			}
			last = e.Modified
			if e.Deleted {
				e.Entry = subnet.Entry{Key: e.Key}
			}
			got = append(got, e)
		}
	}
	equal := func(a, b subnet.Event) bool { return a.Deleted == b.Deleted && same(a.Entry, b.Entry) }
	if !slices.EqualFunc(got, want, equal) {
		w.Errorf("events\n%+v, want\n%+v", got, want)
	}
	w.end()
}

// end ends the watch.
func (w *watcher) end() {
	w.Helper()
	w.stop()
	select {
	case err := <-w.ended:
		if !errors.Is(err, context.Canceled) {
			w.Errorf("Watch ended with %v", err)
		}
	case <-time.After(patience):
		w.Error("Watch does not end with its context")
	}
}
