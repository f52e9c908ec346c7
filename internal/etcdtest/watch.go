package etcdtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"flanneld/pkg/subnet"
)

// Watch is a [subnet.Registry]'s Watch that runs, until the test ends at the
// latest.
type Watch struct {
	t        testing.TB
	again    bool // after an error
	standing chan struct{}
	events   chan subnet.Event
	errors   chan error
	stop     context.CancelFunc
}

// Follow watches once.
func Follow(t testing.TB, r subnet.Registry, after uint64) *Watch {
	t.Helper()
	return follow(t, r, after, false)
}

// KeepFollowing watches again after each error, as the Manager does; that
// history was lost fails the test.
func KeepFollowing(t testing.TB, r subnet.Registry, after uint64) *Watch {
	t.Helper()
	return follow(t, r, after, true)
}

func follow(t testing.TB, r subnet.Registry, after uint64, again bool) *Watch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &Watch{t, again, make(chan struct{}, 100), make(chan subnet.Event, 1000), make(chan error, 100), cancel}
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			err := r.Watch(ctx, after, func(batch []subnet.Event) {
				if len(batch) == 0 {
					w.standing <- struct{}{}
				}
				for _, e := range batch {
					w.events <- e
					after = e.Modified
				}
			})
			w.errors <- err
			switch {
			case !again || ctx.Err() != nil:
				return
			case errors.Is(err, subnet.ErrHistoryLost):
				t.Error(err)
				return
			}
			for goesOn := false; !goesOn && ctx.Err() == nil; {
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
				err := r.Resume(ctx, after)
				goesOn = err == nil || errors.Is(err, subnet.ErrHistoryLost) // which Watch says once more
			}
		}
	}()
	return w
}

// Stands waits until the watch stands.
func (w *Watch) Stands() *Watch {
	w.t.Helper()
	select {
	case <-w.standing:
	case err := <-w.errors:
		w.t.Fatalf("Watch ended with %v", err)
	case <-time.After(Patience):
		w.t.Fatal("the watch does not stand")
	}
	return w
}

// Next waits for an event with this value.
func (w *Watch) Next(value string) subnet.Event {
	w.t.Helper()
	ended := w.errors
	if w.again {
		ended = nil
	}
	select {
	case e := <-w.events:
		if e.Value != value {
			w.t.Fatalf("event %+v, want the value %q", e, value)
		}
		return e
	case err := <-ended:
		w.t.Fatalf("Watch ended with %v", err)
	case <-time.After(Patience):
		w.t.Fatalf("no event with the value %q", value)
	}
	return subnet.Event{}
}

// Fails waits for the end of the watch, without an event before it, and returns
// its error.
func (w *Watch) Fails() error {
	w.t.Helper()
	select {
	case err := <-w.errors:
		return err
	case e := <-w.events:
		w.t.Fatalf("event %+v", e)
	case <-time.After(Patience):
		w.t.Fatal("Watch does not end")
	}
	return nil
}

// End ends the watch.
func (w *Watch) End() {
	w.t.Helper()
	w.stop()
	if err := w.Fails(); !errors.Is(err, context.Canceled) {
		w.t.Errorf("Watch ended with %v", err)
	}
}
