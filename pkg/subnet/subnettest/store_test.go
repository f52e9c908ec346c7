package subnettest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/pkg/subnet"
)

func TestConformance(t *testing.T) {
	Conformance(t, func(*testing.T) subnet.Registry { return NewStore().Client() })
}

// TestFaults injects each fault into each call on the key "a".
func TestFaults(t *testing.T) {
	for op, call := range map[string]func(context.Context, *Client, subnet.Entry) error{
		"List":    func(ctx context.Context, c *Client, _ subnet.Entry) error { _, err := c.List(ctx); return err },
		"Watch":   func(ctx context.Context, c *Client, e subnet.Entry) error { return c.Watch(ctx, e.Modified, nil) },
		"Put":     func(ctx context.Context, c *Client, e subnet.Entry) error { _, err := c.Put(ctx, e); return err },
		"Refresh": func(ctx context.Context, c *Client, e subnet.Entry) error { _, err := c.Refresh(ctx, e); return err },
		"Delete":  func(ctx context.Context, c *Client, e subnet.Entry) error { return c.Delete(ctx, e) },
	} {
		writes := op == "Put" || op == "Refresh" || op == "Delete"
		for fault, want := range map[Fault]error{Refused: errRefused, Lost: errLost} {
			s := NewStore()
			s.Set("a", "old", 0)
			before := s.Entries()[0]
			c := s.Client()
			c.Inject(func(o string) Fault {
				if o != op {
					t.Errorf("%s is called %s", op, o)
				}
				return fault
			})
			e := before
			e.Value = "new"
			if err := call(t.Context(), c, e); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", op, err, want)
			}
			all := s.Entries()
			if changed := len(all) == 0 || all[0] != before; changed != (writes && fault == Lost) {
				t.Errorf("%s after %v: %+v", op, want, all)
			}
			if c.Calls(op) != 1 || c.Calls("other") != 0 {
				t.Errorf("%s was called %d times", op, c.Calls(op))
			}

			// A reply that is lost tells nothing of a conflict either.
			if !writes {
				continue
			}
			e.Modified += 1000
			if err := call(t.Context(), c, e); !errors.Is(err, want) {
				t.Errorf("%s in conflict: %v, want %v", op, err, want)
			}
			c.Inject(nil)
			if err := call(t.Context(), c, e); !errors.Is(err, subnet.ErrConflict) {
				t.Errorf("%s in conflict, without a fault: %v", op, err)
			}
		}
	}
}

// TestPartition cuts one of two clients off, with a watch and without.
func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore()
		a, b := s.Client(), s.Client()
		ended := make(chan error)
		watch := func() {
			go func() { ended <- a.Watch(t.Context(), 0, func([]subnet.Event) {}) }()
			synctest.Wait()
		}
		watch()
		a.Partition(true)
		a.Partition(true)
		if err := <-ended; !errors.Is(err, errPartition) {
			t.Errorf("the watch ended with %v", err)
		}
		if _, err := a.Put(t.Context(), subnet.Entry{Key: "a"}); !errors.Is(err, errPartition) || len(s.Entries()) > 0 {
			t.Errorf("written: %v", err)
		}
		if _, err := b.Put(t.Context(), subnet.Entry{Key: "b"}); err != nil {
			t.Error(err)
		}
		a.Partition(false)
		a.Partition(false)
		if list, err := a.List(t.Context()); err != nil || len(list.Entries) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		watch()
		a.Partition(true)
		<-ended
	})
}

// TestOperator writes, removes and wipes by hand, while somebody watches.
func TestOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore()
		ctx, cancel := context.WithCancel(t.Context())
		var seen []subnet.Event
		go func() {
			err := s.Client().Watch(ctx, 0, func(events []subnet.Event) { seen = append(seen, events...) })
			if !errors.Is(err, errStarted) {
				t.Errorf("the watch ended with %v", err)
			}
		}()
		s.Set("a", "for ever", 0)
		s.Set("b", "a minute", time.Minute)
		s.Set("b", "another minute", time.Minute)
		s.Remove("a")
		s.Remove("a")
		if all := s.Entries(); len(all) != 1 || all[0].TTL.Round(time.Second) > time.Minute+time.Second || all[0].Created != 2 || all[0].Modified != 3 {
			t.Errorf("%+v", all)
		}
		time.Sleep(2 * time.Minute)
		if all := s.Entries(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
		s.Set("c", "a minute", time.Minute)
		synctest.Wait()
		var story string
		for _, e := range seen {
			story += e.Key
			if e.Deleted {
				story += "-"
			}
			story += " "
		}
		if story != "a b b a- b- c " {
			t.Errorf("the watch told %q", story)
		}
		s.Wipe()
		if all := s.Entries(); len(all) != 0 {
			t.Errorf("%+v", all)
		}
		time.Sleep(2 * time.Minute) // what was wiped does not expire
		if list, err := s.Client().List(ctx); err != nil || list.Index != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		cancel()
		if _, err := s.Client().List(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// TestWipeEndsWatches: what was listed of a store says nothing of the one in its place, however far that has come.
func TestWipeEndsWatches(t *testing.T) {
	s := NewStore()
	s.Set("config", "one", 0)
	c := s.Client()
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Wipe()
	for range 3 {
		s.Set("config", "two", 0)
	}
	if err := c.Watch(t.Context(), list.Index, func([]subnet.Event) {}); !errors.Is(err, subnet.ErrHistoryLost) {
		t.Errorf("the watch ended with %v", err)
	}
}
