package etcdtest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

func keysOf(s subnet.Snapshot) (keys []string) {
	for _, e := range s.Entries {
		keys = append(keys, e.Key)
	}
	slices.Sort(keys)
	return keys
}

func (s Suite) whatIsListed(t *testing.T, etcd *lab.Etcd) {
	for _, key := range slices.Concat([]string{
		"/config", "/other", "/subnets/172.7.21.0-24", "/subnets/garbage", "/subnets/below/a",
		"/elsewhere/a", "/elsewhere/subnets/a", "2/config",
	}, s.Unlisted) {
		etcd.Set(Prefix+key, "value of "+key)
	}
	etcd.Set("/deep/er/still", "")
	all := []string{"config", "other", "subnets/172.7.21.0-24", "subnets/garbage"}
	for prefix, want := range map[string][]string{
		"/coreos.com/network": all, "coreos.com/network/": all, "//coreos.com//network": all, "/deep": nil, "/nothing": nil,
	} {
		listed := List(t, Open(t, etcdconn.Config{Endpoints: etcd.Endpoints(), Prefix: prefix}, s.New))
		if diff := cmp.Diff(want, keysOf(listed)); diff != "" || listed.Index == 0 {
			t.Errorf("prefix %q at index %d: -want +got\n%s", prefix, listed.Index, diff)
		}
	}
	// What is not listed raises no event either.
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	w := Follow(t, r, List(t, r).Index).Stands()
	for _, key := range []string{"/subnets/below/a", "/elsewhere/a", "2/config"} {
		etcd.Set(Prefix+key, "b")
	}
	etcd.Set(Prefix+"/config", "c")
	w.Next("c")
	w.End()

	r = Open(t, etcdconn.Config{Endpoints: etcd.Endpoints(), Prefix: "/odd %41?x=1&+#é"}, s.New)
	w = Follow(t, r, List(t, r).Index).Stands()
	Put(t, r, subnet.Entry{Key: Lease, Value: "odd"})
	w.Next("odd")
	w.End()
	if got := keysOf(List(t, r)); !slices.Equal(got, []string{Lease}) {
		t.Errorf("below an odd prefix there is %q", got)
	}
}

// lifetimes writes for several of them, and looks how etcd has them.
func (s Suite) lifetimes(t *testing.T, etcd *lab.Etcd) {
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	for given, want := range map[time.Duration]time.Duration{
		59_001 * time.Millisecond: time.Minute, time.Hour: time.Hour, 24 * time.Hour: 24 * time.Hour, 0: 0,
	} {
		key := fmt.Sprintf("subnets/%v", given)
		Put(t, r, subnet.Entry{Key: key, TTL: given})
		node := etcd.Get(Prefix + "/" + key)
		if left := time.Duration(node.TTL) * time.Second; left > want || left < want-Patience {
			t.Errorf("with a lifetime of %v etcd has %+v", given, node)
		}
	}
	// etcd counts in seconds, and none of them would be for ever.
	Put(t, r, subnet.Entry{Key: Lease, TTL: time.Millisecond})
	lab.Eventually(t, Patience, "the end of a short lifetime", func() error {
		if node := etcd.Get(Prefix + "/" + Lease); node != nil {
			return fmt.Errorf("there is %+v", node)
		}
		return nil
	})
}

// noCondition writes as if there were no such key what must not be written then.
func (s Suite) noCondition(t *testing.T, etcd *lab.Etcd) {
	r := Open(t, etcdconn.Config{Endpoints: etcd.Endpoints()}, s.New)
	etcd.Set(Prefix+"/"+Lease, "a")
	e := subnet.Entry{Key: Lease, Value: "a", TTL: time.Hour}
	if _, err := r.Refresh(t.Context(), e); !errors.Is(err, subnet.ErrConflict) {
		t.Errorf("Refresh: %v", err)
	}
	if err := r.Delete(t.Context(), e); !errors.Is(err, subnet.ErrConflict) {
		t.Errorf("Delete: %v", err)
	}
	if node := etcd.Get(Prefix + "/" + Lease); node == nil || node.TTL != 0 || node.ModifiedIndex != node.CreatedIndex {
		t.Errorf("%+v", node)
	}
}
