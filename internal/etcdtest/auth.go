package etcdtest

import (
	"context"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

const (
	password = "s3cret"
	// what a user is told who may not do it
	refused = "wants a user with other rights or another password: "
)

// CanAll goes through all that a daemon does, below an empty prefix.
func CanAll(t *testing.T, r Registry) {
	t.Helper()
	w := Follow(t, r, List(t, r).Index).Stands()
	a := Put(t, r, subnet.Entry{Key: Lease, Value: "a", TTL: time.Hour})
	w.Next("a")
	for _, ttl := range []time.Duration{time.Hour, 2 * time.Hour} {
		a.TTL = ttl
		var err error
		if a, err = r.Refresh(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if exact, ok := r.(interface {
		ListExact(context.Context) (subnet.Snapshot, error)
	}); ok {
		w.Next("a") // for another lifetime, v3 writes
		if _, err := exact.ListExact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Delete(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	w.Next("")
	w.End()
}

func (s Suite) passwords(t *testing.T, etcd *lab.Etcd) {
	s.EnableAuth(t, etcd, password)
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints(), Username: "flannel", Password: password}, s.New)
	CanAll(t, r)
	for _, c := range []etcdconn.Config{
		{Username: "flannel", Password: password + "2"},
		{Username: "nobody", Password: password},
		{},
		{Username: "flannel", Password: password, Prefix: "/elsewhere"},
	} {
		c.Endpoints = etcd.Endpoints()
		r := Open(t, c, s.New)
		_, err := r.List(t.Context())
		WantError(t, err, "list ", refused)
		_, err = r.Put(t.Context(), subnet.Entry{Key: Lease, TTL: time.Hour})
		WantError(t, err, "write ", refused)
		WantError(t, r.Delete(t.Context(), subnet.Entry{Key: Lease, Modified: 1}), "delete ", refused)
		WantError(t, Follow(t, r, 1).Fails(), refused)
	}
	// Whatever stood for the password is forgotten when etcd starts anew.
	w := Follow(t, r, List(t, r).Index).Stands()
	etcd.Kill()
	if err := w.Fails(); err == nil {
		t.Error("no error")
	}
	etcd.Start()
	lab.Eventually(t, Patience, "a list", func() error { _, err := r.List(t.Context()); return err })
	CanAll(t, r)
}
