package etcdv2

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

func keysOf(s subnet.Snapshot) []string {
	var keys []string
	for _, e := range s.Entries {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	return keys
}

func TestWhatIsListed(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	for _, key := range []string{
		"/config", "/other", "/subnets/172.7.21.0-24", "/subnets/garbage", "/subnets/below/a", "/elsewhere/a", "/elsewhere/subnets/a", "2/config", "/_hidden",
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
	r := open(t, Config{Endpoints: etcd.Endpoints(), Prefix: "/coreos.com"})
	if s := list(t, r); len(s.Entries) != 0 || s.Index == 0 {
		t.Errorf("%+v", s)
	}
	// What is not listed raises no event either.
	r = open(t, Config{Endpoints: etcd.Endpoints()})
	w := follow(t, r, list(t, r).Index).stands()
	etcd.Set(prefix+"/subnets/below/a", "b")
	etcd.Set(prefix+"/elsewhere/a", "b")
	etcd.Set(prefix+"2/config", "b")
	etcd.Set(prefix+"/config", "c")
	w.next("c")
	w.end()

	r = open(t, Config{Endpoints: etcd.Endpoints(), Prefix: "/odd %41?x=1&+#é"})
	w = follow(t, r, list(t, r).Index).stands()
	put(t, r, subnet.Entry{Key: lease, Value: "odd"})
	w.next("odd")
	w.end()
	if s := list(t, r); len(s.Entries) != 1 || s.Entries[0].Key != lease {
		t.Errorf("%+v", s)
	}

	etcd.Set("/file", "{}")
	_, err := open(t, Config{Endpoints: etcd.Endpoints(), Prefix: "/file"}).List(t.Context())
	saysWhat(t, err, "list /file: this is a key, and must be a directory", "put the config in /file/config")
}

func TestLifetimes(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	for given, want := range map[time.Duration]time.Duration{
		time.Millisecond: time.Second, 59_001 * time.Millisecond: time.Minute, time.Hour: time.Hour, 24 * time.Hour: 24 * time.Hour,
	} {
		key := fmt.Sprintf("subnets/%v", given)
		put(t, r, subnet.Entry{Key: key, TTL: given})
		if node := etcd.Get(prefix + "/" + key); node == nil || time.Duration(node.TTL)*time.Second > want || time.Duration(node.TTL)*time.Second < want-10*time.Second {
			t.Errorf("with a lifetime of %v etcd has %+v", given, node)
		}
	}
}

// TestWholeDirectories deletes what etcd announces as one event.
func TestWholeDirectories(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	for _, dir := range []string{"/coreos.com", prefix, prefix + "/subnets"} {
		etcd.Set(prefix+"/"+lease, "a")
		before := list(t, r)
		w := follow(t, r, before.Index).stands()
		etcd.Delete(dir)
		if err := w.fails(); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("after %s was deleted the watch ended with %v", dir, err)
		}
		if err := follow(t, r, before.Index).fails(); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("from before %s was deleted the watch ended with %v", dir, err)
		}
		if s := list(t, r); len(s.Entries) != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestOthersMoveTheIndex lets other users of etcd fill its history.
func TestOthersMoveTheIndex(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()}, func(l *limits) { l.watch = 50 * time.Millisecond })
	etcd.Set(prefix+"/config", "a")
	start := list(t, r).Index
	others := func() {
		t.Helper()
		for range 4 {
			for i := range 400 {
				etcd.Set("/other", fmt.Sprint(i))
			}
			now, err := r.ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			lab.Eventually(t, patience, "the watch to know of it", func() error {
				if known := r.skipQuiet(start); known < now {
					return fmt.Errorf("it knows that nothing happened until %d, of %d", known, now)
				}
				return nil
			})
		}
	}
	w := follow(t, r, start).stands()
	others()
	etcd.Set(prefix+"/config", "b")
	start = w.next("b").Modified
	others()
	w.end()

	w = follow(t, r, start).stands() // a new watch knows it too
	etcd.Set(prefix+"/config", "c")
	w.next("c")
	w.end()
}

func TestFarBehind(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	start := list(t, r).Index
	for i := range catchUp + 5 {
		etcd.Set(prefix+"/config", fmt.Sprint(i))
	}
	if err := follow(t, r, start).fails(); !errors.Is(err, subnet.ErrHistoryLost) {
		t.Errorf("the watch ended with %v", err)
	}
	w := follow(t, r, start+10)
	for i := 10; i < catchUp+5; i++ {
		w.next(fmt.Sprint(i))
	}
	w.end()
}

func TestRestart(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	start := list(t, r).Index
	w := follow(t, r, start).stands()
	etcd.Set(prefix+"/config", "a")
	seen := w.next("a").Modified
	etcd.Stop()
	saysWhat(t, w.fails(), "watch "+prefix, etcd.Endpoints()[0])
	_, err := r.List(t.Context())
	saysWhat(t, err, "list "+prefix+": "+etcd.Endpoints()[0]+": connect: connection refused")
	saysWhat(t, follow(t, r, seen).fails(), etcd.Endpoints()[0]+": connect: connection refused")
	etcd.Start()
	etcd.Set(prefix+"/config", "b")
	w = follow(t, r, seen)
	w.next("b")
	etcd.Set(prefix+"/config", "c")
	seen = w.next("c").Modified

	etcd.Wipe()
	if err := w.fails(); err == nil || errors.Is(err, subnet.ErrHistoryLost) {
		t.Errorf("the watch ended with %v", err)
	}
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
	ca := lab.NewCA(t, "ca")
	cert := ca.Client("client", time.Hour)
	etcd := startEtcd(t, lab.EtcdOptions{TLS: ca, Members: []lab.EtcdMember{{IP: "127.0.1.1"}, {IP: "127.0.1.2"}, {IP: "127.0.1.3"}}})
	r := open(t, Config{Endpoints: etcd.Endpoints(), CAFile: ca.File, CertFile: cert.CertFile, KeyFile: cert.KeyFile},
		func(l *limits) { l.header = time.Second })
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
		m.Signal(syscall.SIGSTOP)
		write(fmt.Sprintf("while %d hangs", i))
		m.Signal(syscall.SIGCONT)
	}
}

func TestWithoutV2(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{NoV2: true})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	_, err := r.List(t.Context())
	saysWhat(t, err, etcd.Endpoints()[0]+`: does not serve etcd's v2 API (HTTP 404 "404 page not found"): start etcd with --enable-v2, which 3.4 and 3.5 have`)
	_, err = r.Put(t.Context(), subnet.Entry{Key: lease})
	saysWhat(t, err, "write "+prefix+"/"+lease, "--enable-v2")
	saysWhat(t, follow(t, r, 1).fails(), "--enable-v2")
}

// TestNoCondition writes as if there were no such key what must not be written
// then.
func TestNoCondition(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
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
}
