package etcdtest

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// noticed is how soon a silent member is found out, by the contract of
// [subnet.Registry], with some time for a busy machine.
const noticed = 15*time.Second + 5*time.Second

// aMemberHangs stops the process of the member at which a watch stands: its
// kernel goes on taking connections and data.
func (s Suite) aMemberHangs(t *testing.T) {
	etcd := s.newest(t, func(o *lab.EtcdOptions) {
		o.Members = []lab.EtcdMember{{IP: "127.0.1.4"}, {IP: "127.0.1.5"}, {IP: "127.0.1.6"}}
	})
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New) // with the daemon's own patience
	start := List(t, r).Index
	w := Follow(t, r, start).Stands()
	hung := r.Member()
	for _, m := range etcd.Members {
		if m.Endpoint == hung {
			m.Signal(syscall.SIGSTOP)
			defer m.Signal(syscall.SIGCONT)
		}
	}
	s.goesOn(t, r, w, start, hung)
}

// goesOn holds a client to what it owes its caller when the member at which it
// watches has just become useless.
func (s Suite) goesOn(t *testing.T, r Registry, w *Watch, start uint64, useless string) {
	t.Helper()
	since := time.Now()
	err := w.Fails()
	took := time.Since(since)
	t.Logf("found out after %v: %v", took.Round(100*time.Millisecond), err)
	WantError(t, err, "watch "+Prefix, useless)
	if took > noticed {
		t.Errorf("it took %v", took)
	}
	if proven := r.Proven(); proven.After(since.Add(noticed / 2)) {
		t.Errorf("the watch is said to have told everything until %v later", proven.Sub(since))
	}
	again := time.Now()
	var snapshot subnet.Snapshot
	lab.Eventually(t, Patience, "a list", func() (err error) { // there may be an election
		snapshot, err = r.List(t.Context())
		return err
	})
	w = KeepFollowing(t, r, snapshot.Index)
	lab.Eventually(t, Patience, "a write", func() error {
		_, err := r.Put(t.Context(), subnet.Entry{Key: "subnets/useless", Value: "news"})
		return err
	})
	w.Next("news")
	if took := time.Since(again); took > noticed/2 || r.Member() == useless {
		t.Errorf("after %v it watches at %s", took, r.Member())
	}
	lab.Eventually(t, Patience, "a proof", func() error {
		if !r.Proven().After(again.Add(time.Second)) {
			return errors.New("none")
		}
		return nil
	})
}

// idle holds a client to it that a watch without news stays proven, and stands.
func (s Suite) idle(t *testing.T, etcd *lab.Etcd) {
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	for began := time.Now(); time.Since(began) < 13*time.Second; time.Sleep(time.Second) {
		if age := time.Since(r.Proven()); time.Since(began) > 11*time.Second && age > 12*time.Second {
			t.Fatalf("the last proof is %v old", age)
		}
	}
	etcd.Set(Prefix+"/config", "a")
	w.Next("a")
	w.End()
}
