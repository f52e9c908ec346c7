package etcdtest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// close finds nothing left of a client, though etcd would keep the connections.
func (s Suite) close(t *testing.T) {
	etcd := s.newest(t, nil)
	before := goleak.IgnoreCurrent()
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	Put(t, r, subnet.Entry{Key: Lease, Value: "a", TTL: time.Hour})
	w.Next("a")
	w.End()
	r.Close()
	goleak.VerifyNone(t, before)
}

func (s Suite) restart(t *testing.T, etcd *lab.Etcd) {
	endpoint := etcd.Endpoints()[0]
	r := Open(t, etcdconn.Config{Endpoints: []string{endpoint}}, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	etcd.SetTTL(Prefix+"/config", "a", time.Hour)
	seen := w.Next("a").Modified
	etcd.Kill()
	WantError(t, w.Fails(), "watch "+Prefix, endpoint)
	lab.Eventually(t, promptly, "a refused connection", func() error {
		if _, err := r.List(t.Context()); err == nil || !strings.Contains(err.Error(), "refused") {
			return fmt.Errorf("it is: %w", err)
		}
		return nil
	})
	refused := ": " + endpoint + ": connect: connection refused"
	_, err := r.List(t.Context())
	WantError(t, err, "list "+Prefix+refused)
	WantError(t, Follow(t, r, seen).Fails(), refused)
	_, err = r.Put(t.Context(), subnet.Entry{Key: Lease, TTL: time.Hour})
	WantError(t, err, "write "+Prefix+"/"+Lease+refused)

	etcd.Start()
	lab.Eventually(t, promptly, "a list", func() error { _, err := r.List(t.Context()); return err })
	etcd.Set(Prefix+"/config", "b")
	w = Follow(t, r, seen)
	w.Next("b")
	etcd.SetTTL(Prefix+"/config", "c", time.Hour)
	seen = w.Next("c").Modified

	etcd.Wipe()
	if err := w.Fails(); err == nil || errors.Is(err, subnet.ErrHistoryLost) {
		t.Errorf("the watch ended with %v", err)
	}
	lab.Eventually(t, promptly, "a watch to find that the store began anew", func() error {
		if err := Follow(t, r, seen).Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
			return fmt.Errorf("it ends with: %w", err)
		}
		return nil
	})
	now := List(t, r)
	if len(now.Entries) != 0 || now.Index >= seen {
		t.Errorf("%+v", now)
	}
	w = Follow(t, r, now.Index)
	etcd.Set(Prefix+"/config", "d")
	w.Next("d")
	w.End()
}

// anyMemberMayFail has a cluster as the tutorial's: three members, TLS.
func (s Suite) anyMemberMayFail(t *testing.T) {
	ca := lab.NewCA(t, "ca")
	cert := ca.Client("client", time.Hour)
	etcd := s.newest(t, func(o *lab.EtcdOptions) {
		o.TLS, o.Members = ca, []lab.EtcdMember{{IP: "127.0.1.1"}, {IP: "127.0.1.2"}, {IP: "127.0.1.3"}}
	})
	etcd.Set(Prefix+"/config", "{}")
	r := Open(t, etcdconn.Config{
		Endpoints: etcd.Endpoints(), CAFile: ca.File, CertFile: cert.CertFile, KeyFile: cert.KeyFile,
	}, s.Impatient)
	w := KeepFollowing(t, r, List(t, r).Index)
	e := subnet.Entry{Key: Lease, TTL: time.Hour}
	write := func(value string) {
		t.Helper()
		e.Value = value
		lab.Eventually(t, Patience, "a write", func() error {
			stored, err := r.Put(t.Context(), e)
			if err == nil {
				e = stored
			}
			return err
		})
		w.Next(value)
	}
	write("all three")
	for i, m := range etcd.Members {
		m.Kill()
		write(fmt.Sprintf("without %d", i))
		m.Start()
		write(fmt.Sprintf("again with %d", i))
	}
	for i, m := range etcd.Members {
		if m.Endpoint == r.Member() {
			m.Signal(syscall.SIGSTOP)
			write(fmt.Sprintf("while %d hangs", i))
			m.Signal(syscall.SIGCONT)
			return
		}
	}
	t.Errorf("%s is no member", r.Member())
}

// lostReplies lets etcd carry writes out whose replies are lost.
func (s Suite) lostReplies(t *testing.T, etcd *lab.Etcd) {
	var lose atomic.Bool
	a, b := s.Lossy(t, etcd, &lose), s.Lossy(t, etcd, &lose)
	for _, endpoints := range [][]string{{a}, {a, b}} {
		etcd.Delete(Prefix)
		r := Open(t, etcdconn.Config{Endpoints: endpoints}, s.New)
		// try calls until there is a result, as the Manager does.
		try := func(call func() (subnet.Entry, error)) (e subnet.Entry) {
			t.Helper()
			lose.Store(true)
			lab.Eventually(t, Patience, "a write", func() (err error) {
				e, err = call()
				if errors.Is(err, subnet.ErrConflict) {
					t.Fatal(err)
				}
				return err
			})
			node := etcd.Get(Prefix + "/" + Lease)
			if node == nil || node.ModifiedIndex != e.Modified || node.Value != e.Value || e.TTL == subnet.UnknownTTL {
				t.Fatalf("stored %+v, but etcd has %+v", e, node)
			}
			return e
		}
		e := try(func() (subnet.Entry, error) {
			return r.Put(t.Context(), subnet.Entry{Key: Lease, Value: "a", TTL: time.Hour})
		})
		if e.Created != e.Modified {
			t.Errorf("written twice: %+v", e)
		}
		before := e
		e.Value = "b"
		e = try(func() (subnet.Entry, error) { return r.Put(t.Context(), e) })
		for _, ttl := range []time.Duration{time.Hour, 2 * time.Hour} {
			e.TTL = ttl
			e = try(func() (subnet.Entry, error) { return r.Refresh(t.Context(), e) })
		}
		if e.TTL < 2*time.Hour-time.Minute {
			t.Errorf("%+v", e)
		}

		// What somebody else wrote is a conflict also after a lost reply, where
		// there is another member to ask.
		lose.Store(true)
		if _, err := r.Put(t.Context(), before); err == nil || len(endpoints) > 1 && !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("error %v", err)
		}
		lose.Store(false)
		if _, err := r.Put(t.Context(), before); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("error %v", err)
		}

		// A client that tries again itself finds nothing there.
		lose.Store(true)
		if err := r.Delete(t.Context(), e); !errors.Is(err, subnet.ErrConflict) {
			WantError(t, err, "delete "+Prefix+"/"+Lease)
		}
		lose.Store(false)
		if etcd.Get(Prefix+"/"+Lease) != nil {
			t.Error("the key is still there")
		}
		if err := r.Delete(t.Context(), e); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("error %v", err)
		}
		// The v3 grants that were replaced in the three writes of which nobody
		// heard end by themselves: no reply told of them.
		if left := etcd.Grants(); len(left) > 3*len(endpoints) {
			t.Errorf("grants are left: %v", left)
		}
	}
}
