package etcdv2

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// TestPrefixIsAKey has a key where there should be a directory.
func TestPrefixIsAKey(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	etcd.Set("/file", "{}")
	_, err := open(t, Config{Endpoints: etcd.Endpoints(), Prefix: "/file"}).List(t.Context())
	etcdtest.WantError(t, err, "list /file: /file is a key, and must be a directory: delete it, by: curl -X DELETE ")
}

// TestWholeDirectories deletes what etcd announces as one event.
func TestWholeDirectories(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	for _, dir := range []string{"/coreos.com", prefix, prefix + "/subnets"} {
		etcd.Set(prefix+"/"+lease, "a")
		before := etcdtest.List(t, r)
		w := etcdtest.Follow(t, r, before.Index).Stands()
		etcd.Delete(dir)
		if err := w.Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("after %s was deleted the watch ended with %v", dir, err)
		}
		if err := etcdtest.Follow(t, r, before.Index).Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("from before %s was deleted the watch ended with %v", dir, err)
		}
		if s := etcdtest.List(t, r); len(s.Entries) != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestOthersMoveTheIndex lets other users of etcd fill its history.
func TestOthersMoveTheIndex(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()}, func(l *limits) { l.watch = 50 * time.Millisecond })
	etcd.Set(prefix+"/config", "a")
	start := etcdtest.List(t, r).Index
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
				r.mu.Lock()
				defer r.mu.Unlock()
				if r.index < now {
					return fmt.Errorf("it knows that nothing happened until %d, of %d", r.index, now)
				}
				return nil
			})
		}
	}
	w := etcdtest.Follow(t, r, start).Stands()
	others()
	etcd.Set(prefix+"/config", "b")
	w.Next("b")
	others()
	etcd.Set(prefix+"/config", "c")
	w.Next("c")
	w.End()
}

func TestFarBehind(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	start := etcdtest.List(t, r).Index
	for i := range catchUp + 5 {
		etcd.Set(prefix+"/config", fmt.Sprint(i))
	}
	if err := etcdtest.Follow(t, r, start).Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
		t.Errorf("the watch ended with %v", err)
	}
	etcdtest.List(t, r)
	w := etcdtest.Follow(t, r, start+10)
	for i := 10; i < catchUp+5; i++ {
		w.Next(fmt.Sprint(i))
	}
	w.End()
}

func TestWithoutV2(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{NoV2: true})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	_, err := r.List(t.Context())
	etcdtest.WantError(t, err, etcd.Endpoints()[0]+`: does not serve etcd's v2 API (HTTP 404 "404 page not found"): start etcd with --enable-v2, which 3.4 and 3.5 have`)
	_, err = r.Put(t.Context(), subnet.Entry{Key: lease})
	etcdtest.WantError(t, err, "write "+prefix+"/"+lease, "--enable-v2")
	etcdtest.WantError(t, etcdtest.Follow(t, r, 1).Fails(), "--enable-v2")
}

// TestRenewalIsTold where the store soon has nothing any more by which watches could go on, and in
// silence otherwise.
func TestRenewalIsTold(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	r := open(t, Config{Endpoints: etcd.Endpoints()}, func(l *limits) { l.probe = 50 * time.Millisecond })
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	e := etcdtest.Put(t, r, subnet.Entry{Key: lease, Value: "a", TTL: time.Hour})
	w.Next("a")
	others := func(n int) {
		t.Helper()
		for i := range n {
			etcd.Set("/other", fmt.Sprint(i))
		}
		now, err := r.ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, patience, "a probe to see it", func() error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.index < now {
				return fmt.Errorf("the index is said to be %d, of %d", r.index, now)
			}
			return nil
		})
	}
	refresh := func() {
		t.Helper()
		var err error
		if e, err = r.Refresh(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	others(rememberAt / 2)
	refresh()
	etcd.Set(prefix+"/config", "in silence")
	w.Next("in silence")
	others(rememberAt / 2)
	refresh()
	if told := w.Next("a"); told.Modified != e.Modified || told.TTL < time.Hour-time.Minute {
		t.Errorf("told %+v of %+v", told, e)
	}
	refresh()
	etcd.Set(prefix+"/config", "in silence again")
	w.Next("in silence again")
	w.End()
}

// TestGoesOnFromASnapshot of etcd's own: what it remembers of changes is a part of that.
func TestGoesOnFromASnapshot(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Args: []string{"--snapshot-count=10"}})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	e := etcdtest.Put(t, r, subnet.Entry{Key: lease, Value: "a", TTL: time.Hour})
	w.Next("a")
	for i := range 200 {
		etcd.Set("/other", fmt.Sprint(i))
	}
	etcd.Kill()
	if err := w.Fails(); err == nil {
		t.Error("no error")
	}
	etcd.Start()
	lab.Eventually(t, patience, "etcd to answer", func() error { return r.Resume(t.Context(), e.Modified) })
	w = etcdtest.Follow(t, r, e.Modified).Stands()
	etcd.Set(prefix+"/config", "b")
	w.Next("b")
	w.End()
}
