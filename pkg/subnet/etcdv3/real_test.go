package etcdv3

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// TestOthersLifetimes reads keys that somebody else has written.
func TestOthersLifetimes(t *testing.T) {
	etcdtest.OnEach(t, kinds(), func(t *testing.T, etcd *lab.Etcd) {
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
		e := etcdtest.List(t, open(t, Config{Endpoints: etcd.Endpoints()})).Entries[0]
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
	etcdtest.OnEach(t, kinds(), func(t *testing.T, etcd *lab.Etcd) {
		grants := func(want int) {
			t.Helper()
			if got := etcd.Grants(); len(got) != want {
				t.Fatalf("etcd has %d grants, want %d", len(got), want)
			}
		}
		e := subnet.Entry{Key: lease, TTL: time.Hour}
		for i := range 5 {
			e.Value, e.TTL = fmt.Sprint(i), time.Duration(i/2+1)*time.Hour
			e = etcdtest.Put(t, open(t, Config{Endpoints: etcd.Endpoints()}), e)
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
		e = etcdtest.Put(t, r, e)
		grants(0)
		e.TTL = time.Hour
		e = etcdtest.Put(t, r, e)
		if err := r.Delete(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		grants(0)
	})
}

// TestCompaction compacts ahead of a watch, and beneath one.
func TestCompaction(t *testing.T) {
	etcdtest.OnEach(t, kinds(), func(t *testing.T, etcd *lab.Etcd) {
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		start := etcdtest.List(t, r).Index
		w := etcdtest.Follow(t, r, start).Stands()
		for i := range 20 {
			etcd.Set(prefix+"/config", fmt.Sprint(i))
		}
		for i := range 20 { // a member that is slow to tell them could not any more
			w.Next(fmt.Sprint(i))
		}
		etcd.Compact(etcdtest.List(t, r).Index)
		etcd.Set(prefix+"/config", "on")
		w.Next("on")
		w.End()
		err := etcdtest.Follow(t, r, start).Fails()
		if etcdtest.WantError(t, err, "watch "+prefix, etcd.Endpoints()[0], "was compacted up to revision"); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("the watch ended with %v", err)
		}
	})
}

// TestCompactedTrail cuts what a watch goes on by: later changes do as well, and none do not.
func TestCompactedTrail(t *testing.T) {
	etcdtest.OnEach(t, kinds(), func(t *testing.T, etcd *lab.Etcd) {
		etcd.Set(prefix+"/config", "{}")
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
		var seen uint64
		for i := range 3 {
			etcd.SetTTL(fmt.Sprintf("%s/subnets/%d", prefix, i), fmt.Sprint(i), time.Hour)
			seen = w.Next(fmt.Sprint(i)).Modified
		}
		w.End()
		etcd.Compact(seen)
		if err := etcdtest.Follow(t, r, seen).Fails(); errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("the watch ended with %v", err)
		}
		w = etcdtest.Follow(t, r, seen).Stands()
		etcd.Delete(prefix + "/subnets/0")
		seen = w.Next("").Modified
		w.End()
		etcd.Compact(seen)
		if err := etcdtest.Follow(t, r, seen).Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("the watch ended with %v", err)
		}
		if err := r.Resume(t.Context(), seen); !errors.Is(err, subnet.ErrHistoryLost) {
			t.Errorf("Resume: %v", err)
		}
	})
}
