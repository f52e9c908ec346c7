package etcdtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// hears has an operator write leases, of which the watch tells.
func (w *Watch) hears(etcd *lab.Etcd, names ...string) (last uint64) {
	w.t.Helper()
	for _, name := range names {
		etcd.SetTTL(Prefix+"/subnets/"+name, name, time.Hour)
		last = w.Next(name).Modified
	}
	return last
}

// mark writes a lease, by which a watch can go on, and waits for the watch to tell it.
func (w *Watch) mark(r subnet.Registry) (at uint64) {
	w.t.Helper()
	key := fmt.Sprintf("subnets/mark-%d", time.Now().UnixNano())
	e := Put(w.t, r, subnet.Entry{Key: key, Value: key, TTL: time.Hour})
	w.Next(key)
	return e.Modified
}

// resumes waits for a watch that goes on.
func resumes(t *testing.T, r subnet.Registry, after uint64) *Watch {
	t.Helper()
	lab.Eventually(t, promptly, "etcd to answer", func() error { return r.Resume(t.Context(), after) })
	return Follow(t, r, after)
}

// listSoon lists once etcd answers.
func listSoon(t *testing.T, r subnet.Registry) (s subnet.Snapshot) {
	t.Helper()
	lab.Eventually(t, promptly, "a list", func() (err error) { s, err = r.List(t.Context()); return err })
	return s
}

// goOn kills etcd, and has a watch go on.
func (s Suite) goOn(t *testing.T, etcd *lab.Etcd) {
	etcd.Set(Prefix+"/config", "{}")
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	seen := w.hears(etcd, "a", "b", "c", "d", "e", "f")
	for n := range 3 {
		etcd.Kill()
		if err := w.Fails(); err == nil || errors.Is(err, subnet.ErrHistoryLost) {
			t.Fatalf("the watch ended with %v", err)
		}
		etcd.Start()
		missed := fmt.Sprintf("while nobody watched %d", n)
		etcd.Set(Prefix+"/config", missed)
		etcd.Delete(Prefix + "/subnets/a")
		w = resumes(t, r, seen).Stands()
		began := time.Now()
		seen = w.Next(missed).Modified
		if n == 0 {
			seen = w.Next("").Modified
		}
		lab.Eventually(t, promptly, "the watch to be proven", func() error {
			if !r.Proven().After(began) {
				return errors.New("it is not")
			}
			return nil
		})
		seen = max(seen, w.hears(etcd, fmt.Sprint("again ", n)))
	}
	w.End()
}

// restored puts stores in etcd's place that are at an earlier state, and have gone on as far, or farther, or not as far.
// Whatever they say of themselves, no watch goes on in them.
func (s Suite) restored(t *testing.T, etcd *lab.Etcd) {
	backups := map[string]func() func(){"its folder": etcd.Backup}
	if s.Snapshots {
		backups["a snapshot"] = etcd.Snapshot
	}
	etcd.Set(Prefix+"/config", "{}")
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	for name, backup := range backups {
		for writes, lost := range map[int]bool{0: true, 1: true, 2: true, 3: true} {
			etcd.Delete(Prefix + "/subnets")
			etcd.SetTTL(Prefix+"/subnets/a", "a", time.Hour)
			restore := backup()
			before := listSoon(t, r)
			w := Follow(t, r, before.Index).Stands()
			seen := w.hears(etcd, "b", "c")
			etcd.Kill()
			if err := w.Fails(); err == nil {
				t.Error("no error")
			}
			restore()
			for _, other := range []string{"d", "c", "e"}[:writes] { // the second one is as it was
				etcd.SetTTL(Prefix+"/subnets/"+other, other, time.Hour)
			}
			var err error
			lab.Eventually(t, promptly, "etcd to answer", func() error {
				if err = r.Resume(t.Context(), seen); errors.Is(err, subnet.ErrHistoryLost) {
					return nil
				}
				return err
			})
			early := err != nil
			if err == nil {
				err = Follow(t, r, seen).Fails()
			}
			after := listSoon(t, r)
			t.Logf("%s, and %d writes of others: cluster %s after %s, index %d after %d: before the watch %t: %v",
				name, writes, after.Cluster, before.Cluster, after.Index, seen, early, err)
			if errors.Is(err, subnet.ErrHistoryLost) != lost || after.Cluster != before.Cluster {
				t.Errorf("error %v in cluster %s after %s", err, after.Cluster, before.Cluster)
			}
		}
	}
}

// otherMembers has each of three members fail under a watch, which goes on at another one.
func (s Suite) otherMembers(t *testing.T) {
	etcd := s.newest(t, func(o *lab.EtcdOptions) {
		o.Members = []lab.EtcdMember{{IP: "127.0.1.7"}, {IP: "127.0.1.8"}, {IP: "127.0.1.9"}}
	})
	etcd.Set(Prefix+"/config", "{}")
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	for range 3 {
		watched := r.Member()
		seen := w.mark(r)
		for _, m := range etcd.Members {
			if m.Endpoint != watched {
				continue
			}
			m.Kill()
			if err := w.Fails(); err == nil {
				t.Error("no error")
			}
			w = resumes(t, r, seen).Stands()
			m.Start()
			break
		}
	}
	w.End()
}
