package etcdtest

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// largeValues fills a store with values that nobody should have to read: 75 of 1 MB
// are more than one reply may have.
func (s Suite) largeValues(t *testing.T, etcd *lab.Etcd) {
	const large = 1_000_000
	value := `"<ü` + strings.Repeat("x", large-4)
	const leases = 30
	for i := range 75 {
		key := fmt.Sprintf("/subnets/garbage-%d", i)
		switch {
		case i < leases:
			etcd.Set(fmt.Sprintf("%s/subnets/172.7.%d.0-24", Prefix, i), "a lease")
		case i == 73:
			key = "/config"
		case i == 74:
			key = "/subnets/172.8.1.0-24"
		}
		etcd.Set(Prefix+key, value)
	}
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	listed := List(t, r)
	if len(listed.Entries) != 75+leases {
		t.Errorf("%d entries", len(listed.Entries))
	}
	for _, e := range listed.Entries {
		if e.Value == "a lease" && e.TooLong == 0 {
			continue
		}
		if e.Value != "" || e.TooLong != large {
			t.Errorf("%s has %d bytes, and is too long with %d", e.Key, len(e.Value), e.TooLong)
		}
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
