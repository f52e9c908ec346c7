package etcdv3

import (
	"errors"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// TestNoKeyBesideADualStackOne: a subnet that flannel has leased for both families is
// not leased by a key of its own, though the writer does not know of it yet.
func TestNoKeyBesideADualStackOne(t *testing.T) {
	etcdtest.OnEach(t, kinds(), func(t *testing.T, etcd *lab.Etcd) {
		r := open(t, Config{Endpoints: etcd.Endpoints()})
		const dual = "subnets/172.7.40.0-24&fc00:7:0:40::-64"
		e := etcdtest.Put(t, r, subnet.Entry{Key: dual, Value: "flannel", TTL: time.Hour})
		if _, err := r.Put(t.Context(), subnet.Entry{Key: "subnets/172.7.40.0-24", Value: "ours", TTL: time.Hour}); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("beside it: %v", err)
		}
		for _, key := range []string{"subnets/172.7.40.0-25", "subnets/172.7.41.0-24", "subnets/172.7.4.0-24"} {
			etcdtest.Put(t, r, subnet.Entry{Key: key, Value: "ours", TTL: time.Hour})
		}
		e.Value, e.TTL = "taken over", time.Hour
		e = etcdtest.Put(t, r, e)
		if e, err := r.Refresh(t.Context(), e); err != nil || e.Value != "taken over" {
			t.Errorf("%+v, %v", e, err)
		}
		if err := r.Delete(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		etcdtest.Put(t, r, subnet.Entry{Key: "subnets/172.7.40.0-24", Value: "ours", TTL: time.Hour})
	})
}
