package etcdv3

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

func TestMain(m *testing.M) {
	lab.NeedEtcd()
	lab.NeedNewestEtcd()
	lab.Main(m)
}

const (
	prefix   = "/coreos.com/network"
	lease    = "subnets/172.7.21.0-24"
	patience = 20 * time.Second
)

// startEtcd starts etcd for a test that must leave no goroutine behind.
func startEtcd(t testing.TB, o lab.EtcdOptions) *lab.Etcd {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	return lab.StartEtcd(t, o)
}

// open makes a Registry that ends with t.
func open(t testing.TB, c Config, change ...func(*limits)) *Registry {
	t.Helper()
	l := productLimits()
	for _, f := range change {
		f(&l)
	}
	if c.Prefix == "" {
		c.Prefix = prefix
	}
	r, err := newRegistry(c, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// saysWhat fails the test unless an error is one line that contains all of these.
func saysWhat(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error\n%v\nlacks %q", err, part)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("error %q", err)
	}
}

// watch is a Watch that runs.
type watch struct {
	testing.TB
	standing chan struct{}
	events   chan subnet.Event
	ended    chan error
	stop     context.CancelFunc
}

func follow(t testing.TB, r *Registry, after uint64) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{t, make(chan struct{}, 1), make(chan subnet.Event, 100), make(chan error, 1), cancel}
	go func() {
		w.ended <- r.Watch(ctx, after, func(events []subnet.Event) {
			if len(events) == 0 {
				w.standing <- struct{}{}
			}
			for _, e := range events {
				w.events <- e
			}
		})
	}()
	return w
}

// stands waits until the watch stands.
func (w *watch) stands() *watch {
	w.Helper()
	select {
	case <-w.standing:
	case err := <-w.ended:
		w.Fatalf("Watch ended with %v", err)
	case <-time.After(patience):
		w.Fatal("the watch does not stand")
	}
	return w
}

// next waits for an event with this value.
func (w *watch) next(value string) subnet.Event {
	w.Helper()
	select {
	case e := <-w.events:
		if e.Value != value {
			w.Fatalf("event %+v, want the value %q", e, value)
		}
		return e
	case err := <-w.ended:
		w.Fatalf("Watch ended with %v", err)
	case <-time.After(patience):
		w.Fatalf("no event with the value %q", value)
	}
	return subnet.Event{}
}

// fails waits for the end of the watch and returns its error.
func (w *watch) fails() error {
	w.Helper()
	select {
	case err := <-w.ended:
		return err
	case e := <-w.events:
		w.Fatalf("event %+v", e)
	case <-time.After(patience):
		w.Fatal("Watch does not end")
	}
	return nil
}

// end ends the watch.
func (w *watch) end() {
	w.Helper()
	w.stop()
	if err := w.fails(); !errors.Is(err, context.Canceled) {
		w.Errorf("Watch ended with %v", err)
	}
}

func list(t testing.TB, r *Registry) subnet.Snapshot {
	t.Helper()
	s, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, r *Registry, e subnet.Entry) subnet.Entry {
	t.Helper()
	stored, err := r.Put(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// releases are the kinds of etcd that there are, the keys of which the lab reads
// by the v3 API.
func releases() map[string]lab.EtcdOptions {
	return map[string]lab.EtcdOptions{"3.5": {API: 3}, "newest": {Newest: true}}
}
