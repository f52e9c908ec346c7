package etcdv3

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// onEach runs a test on each kind of etcd.
func onEach(t *testing.T, test func(t *testing.T, etcd *lab.Etcd)) {
	for name, o := range releases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, lab.StartEtcd(t, o))
		})
	}
}

func keysOf(s subnet.Snapshot) []string {
	var keys []string
	for _, e := range s.Entries {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	return keys
}

func TestWhatIsListed(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		for _, key := range []string{
			"/config", "/other", "/subnets/172.7.21.0-24", "/subnets/garbage", "/subnets/below/a", "/elsewhere/a", "/elsewhere/subnets/a", "2/config", "/subnets/", "",
		} {
			etcd.Set(prefix+key, "value of "+key)
		}
		for _, given := range []string{"/coreos.com/network", "coreos.com/network/", "//coreos.com//network"} {
			r := open(t, Config{Endpoints: etcd.Endpoints(), Prefix: given})
			s := list(t, r)
			if diff := cmp.Diff([]string{"config", "other", "subnets/172.7.21.0-24", "subnets/garbage"}, keysOf(s)); diff != "" {
				t.Errorf("prefix %q: -want +got\n%s", given, diff)
			}
		}
		// What is not listed raises no event either.
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		w := follow(t, r, list(t, r).Index).stands()
		etcd.Set(prefix+"/subnets/below/a", "b")
		etcd.Set(prefix+"/elsewhere/a", "b")
		etcd.Set(prefix+"2/config", "b")
		etcd.Set(prefix+"/config", "c")
		w.next("c")
		w.end()
	})
}

// TestLifetimes writes for several lifetimes, and looks how etcd has them.
func TestLifetimes(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		for given, want := range map[time.Duration]time.Duration{
			59_001 * time.Millisecond: time.Minute, time.Hour: time.Hour, 24 * time.Hour: 24 * time.Hour, 0: 0,
		} {
			key := fmt.Sprintf("subnets/%v", given)
			put(t, r, subnet.Entry{Key: key, TTL: given})
			node := etcd.Get(prefix + "/" + key)
			if left := time.Duration(node.TTL) * time.Second; left > want || left < want-10*time.Second {
				t.Errorf("with a lifetime of %v etcd has %+v", given, node)
			}
		}
	})
}

// TestOthersLifetimes reads keys that somebody else has written.
func TestOthersLifetimes(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		etcd.SetTTL(prefix+"/"+lease, "a", time.Hour)
		etcd.Set(prefix+"/subnets/172.7.22.0-24", "b")
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		ttls := func(s subnet.Snapshot, err error) (all []time.Duration) {
			t.Helper()
			if err != nil || len(s.Entries) != 2 {
				t.Fatalf("%+v, %v", s, err)
			}
			for _, e := range s.Entries {
				all = append(all, e.TTL)
			}
			return all
		}
		if got := ttls(r.List(t.Context())); !slices.Equal(got, []time.Duration{subnet.UnknownTTL, 0}) {
			t.Errorf("listed with %v", got)
		}
		if got := ttls(r.ListExact(t.Context())); got[0] < time.Hour-time.Minute || got[0] > time.Hour || got[1] != 0 {
			t.Errorf("listed exactly with %v", got)
		}
		// Renewed for the same lifetime it is not written, for another one it is.
		e := list(t, open(t, Config{Endpoints: etcd.Endpoints()})).Entries[0]
		for _, tt := range []struct {
			ttl     time.Duration
			written bool
		}{{time.Hour, false}, {24 * time.Hour, true}, {24 * time.Hour, false}} {
			e.TTL = tt.ttl
			now, err := open(t, Config{Endpoints: etcd.Endpoints()}).Refresh(t.Context(), e) // a daemon started anew
			if err != nil || now.Value != "a" || now.TTL < tt.ttl-time.Minute || now.TTL > tt.ttl || (now.Modified > e.Modified) != tt.written {
				t.Errorf("refreshed for %v: %+v, %v", tt.ttl, now, err)
			}
			e = now
		}
	})
}

// TestGrantsDoNotPileUp counts etcd's leases.
func TestGrantsDoNotPileUp(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		grants := func(want int) {
			t.Helper()
			if got := etcd.Grants(); len(got) != want {
				t.Fatalf("etcd has %d grants, want %d", len(got), want)
			}
		}
		e := subnet.Entry{Key: lease, TTL: time.Hour}
		for i := range 5 {
			e.Value, e.TTL = fmt.Sprint(i), time.Duration(i/2+1)*time.Hour
			e = put(t, open(t, Config{Endpoints: etcd.Endpoints()}), e)
			grants(1)
		}
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		for range 3 {
			var err error
			if e, err = r.Refresh(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			grants(1)
		}
		if _, err := r.Put(t.Context(), subnet.Entry{Key: lease, Value: "other", TTL: time.Hour}); !errors.Is(err, subnet.ErrConflict) {
			t.Fatal(err)
		}
		if _, err := r.Put(t.Context(), subnet.Entry{Key: lease, Value: e.Value, TTL: time.Hour}); err != nil {
			t.Fatal(err) // a former attempt, it seems
		}
		grants(1)
		e.TTL = 0
		e = put(t, r, e)
		grants(0)
		e.TTL = time.Hour
		e = put(t, r, e)
		if err := r.Delete(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		grants(0)
	})
}

func TestRestart(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		start := list(t, r).Index
		w := follow(t, r, start).stands()
		etcd.Set(prefix+"/config", "a")
		seen := w.next("a").Modified
		etcd.Kill()
		saysWhat(t, w.fails(), "watch "+prefix, etcd.Endpoints()[0])
		begun := time.Now()
		lab.Eventually(t, patience, "a refused connection", func() error {
			if _, err := r.List(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
				return fmt.Errorf("it is: %w", err)
			}
			return nil
		})
		_, err := r.List(t.Context())
		saysWhat(t, err, "list "+prefix+": "+etcd.Endpoints()[0]+": connect: connection refused")
		saysWhat(t, follow(t, r, seen).fails(), etcd.Endpoints()[0]+": connect: connection refused")
		_, err = r.Put(t.Context(), subnet.Entry{Key: lease, TTL: time.Hour})
		saysWhat(t, err, "write "+prefix+"/"+lease+": "+etcd.Endpoints()[0]+": connect: connection refused")
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("to find nobody there takes %v", took)
		}
		etcd.Start()
		begun = time.Now()
		lab.Eventually(t, patience, "the next list", func() error { _, err := r.List(t.Context()); return err })
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("to notice its return takes %v", took)
		}
		etcd.Set(prefix+"/config", "b")
		w = follow(t, r, seen)
		w.next("b")
		etcd.Set(prefix+"/config", "c")
		seen = w.next("c").Modified

		etcd.Wipe()
		if err := w.fails(); err == nil || errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("the watch ended with %v", err)
		}
		lab.Eventually(t, patience, "a connection", func() error { _, err := r.revision(t.Context()); return err })
		if err := follow(t, r, seen).fails(); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("after the store began anew, the watch ended with %v", err)
		}
		s := list(t, r)
		if len(s.Entries) != 0 || s.Index >= seen {
			t.Errorf("%+v", s)
		}
		w = follow(t, r, s.Index)
		etcd.Set(prefix+"/config", "d")
		w.next("d")
		w.end()
	})
}

// TestCompaction compacts ahead of a watch, and beneath one.
func TestCompaction(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		start := list(t, r).Index
		w := follow(t, r, start).stands()
		for i := range 20 {
			etcd.Set(prefix+"/config", fmt.Sprint(i))
		}
		etcd.Compact(list(t, r).Index)
		for i := range 20 {
			w.next(fmt.Sprint(i))
		}
		etcd.Set(prefix+"/config", "on")
		w.next("on")
		w.end()
		err := follow(t, r, start).fails()
		if saysWhat(t, err, "watch "+prefix, etcd.Endpoints()[0], "was compacted up to revision"); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("the watch ended with %v", err)
		}
	})
}

// keepFollowing watches again after each error, as the Manager does.
func keepFollowing(t *testing.T, r *Registry, after uint64) <-chan subnet.Event {
	events := make(chan subnet.Event, 100)
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for t.Context().Err() == nil {
			err := r.Watch(t.Context(), after, func(batch []subnet.Event) {
				for _, e := range batch {
					events <- e
					after = e.Modified
				}
			})
			if errors.Is(err, subnet.ErrHistoryLost) {
				t.Error(err)
				return
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-t.Context().Done():
			}
		}
	}()
	return events
}

// TestAnyMemberMayFail has a cluster as the tutorial's: three members, TLS.
func TestAnyMemberMayFail(t *testing.T) {
	t.Parallel()
	ca := lab.NewCA(t, "ca")
	cert := ca.Client("client", time.Hour)
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Newest: true, TLS: ca, Members: []lab.EtcdMember{{IP: "127.0.1.1"}, {IP: "127.0.1.2"}, {IP: "127.0.1.3"}}})
	r := open(t, Config{Endpoints: etcd.Endpoints(), CAFile: ca.File, CertFile: cert.CertFile, KeyFile: cert.KeyFile},
		func(l *limits) { l.attempt, l.pong = time.Second, time.Second })
	events := keepFollowing(t, r, list(t, r).Index)
	e := subnet.Entry{Key: lease, TTL: time.Hour}
	write := func(value string) {
		t.Helper()
		e.Value = value
		lab.Eventually(t, patience, "a write", func() error {
			stored, err := r.Put(t.Context(), e)
			if err == nil {
				e = stored
			}
			return err
		})
		select {
		case got := <-events:
			if got.Value != value {
				t.Errorf("event %+v, want %q", got, value)
			}
		case <-time.After(patience):
			t.Fatalf("no event of %q", value)
		}
	}
	write("all three")
	for i, m := range etcd.Members {
		m.Kill()
		write(fmt.Sprintf("without %d", i))
		m.Start()
		write(fmt.Sprintf("again with %d", i))
	}
	m := etcd.Members[1]
	m.Signal(syscall.SIGSTOP)
	write("while one hangs")
	m.Signal(syscall.SIGCONT)
}

// TestNoCondition writes as if there were no such key what must not be written
// then.
func TestNoCondition(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		etcd.Set(prefix+"/"+lease, "a")
		e := subnet.Entry{Key: lease, Value: "a", TTL: time.Hour}
		if _, err := r.Refresh(t.Context(), e); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("Refresh: %v", err)
		}
		if err := r.Delete(t.Context(), e); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("Delete: %v", err)
		}
		if node := etcd.Get(prefix + "/" + lease); node == nil || node.TTL != 0 || node.ModifiedIndex != node.CreatedIndex {
			t.Errorf("%+v", node)
		}
	})
}
