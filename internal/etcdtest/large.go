package etcdtest

import (
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// largeValues has values in a store that nobody should have to read.
func (s Suite) largeValues(t *testing.T, etcd *lab.Etcd) {
	const large = 1_000_000
	value := `"<ü` + strings.Repeat("x", large-4)
	for _, key := range []string{"/config", "/subnets/garbage", "/subnets/172.8.1.0-24"} {
		etcd.Set(Prefix+key, value)
	}
	etcd.Set(Prefix+"/subnets/172.7.1.0-24", "a lease")
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	listed := List(t, r)
	for _, e := range listed.Entries {
		if e.Value == "a lease" && e.TooLong == 0 {
			continue
		}
		if e.Value != "" || e.TooLong != large {
			t.Errorf("%s has %d bytes, and is too long with %d", e.Key, len(e.Value), e.TooLong)
		}
	}
	if len(listed.Entries) != 4 {
		t.Errorf("%d entries", len(listed.Entries))
	}
	// One event of that size does not hide the next one, and none is in the way of a
	// repair.
	w := Follow(t, r, listed.Index).Stands()
	etcd.Set(Prefix+"/subnets/172.7.1.0-24", value)
	if e := w.Next(""); e.TooLong != large || e.Deleted {
		t.Errorf("event of %s, too long with %d", e.Key, e.TooLong)
	}
	config := listed.Find(subnet.ConfigKey)
	config.Value, config.TooLong = "{}", 0
	Put(t, r, config)
	w.Next("{}")
	if err := r.Delete(t.Context(), listed.Find("subnets/172.8.1.0-24")); err != nil {
		t.Error(err)
	}
	if e := w.Next(""); !e.Deleted {
		t.Errorf("event %+v", e)
	}
	w.End()
}
