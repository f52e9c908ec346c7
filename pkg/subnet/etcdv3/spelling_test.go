package etcdv3

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

const bare = "coreos.com/network"

// TestSpelling has keys in the two directories that a prefix may mean. Whichever of
// them a host writes, it comes to the same one.
func TestSpelling(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Newest: true})
	const undecided = "undecided"
	for _, tt := range []struct {
		name string
		keys []string
		want string // the directory; "": the one that is written
	}{
		{"nothing", nil, ""},
		{"a slash", []string{prefix + "/config"}, prefix},
		{"no slash", []string{bare + "/config"}, bare},
		{"a config by mistake beside a cluster without a slash", []string{bare + "/config", prefix + "/config", bare + "/" + lease}, bare},
		{"a config by mistake beside a cluster with one", []string{bare + "/config", prefix + "/config", prefix + "/" + lease}, prefix},
		{"a config by mistake while the cluster has none", []string{bare + "/config", prefix + "/" + lease}, prefix},
		{"leases in both, one config", []string{bare + "/config", bare + "/" + lease, prefix + "/" + lease}, bare},
		{"leases alone", []string{bare + "/" + lease}, bare},
		{"two clusters", []string{bare + "/config", prefix + "/config", bare + "/" + lease, prefix + "/" + lease}, undecided},
		{"two configs, no cluster", []string{bare + "/config", prefix + "/config"}, undecided},
		{"leases in both", []string{bare + "/" + lease, prefix + "/" + lease}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer etcd.Delete(prefix)
			defer etcd.Delete(bare)
			for _, key := range tt.keys {
				etcd.Set(key, "in "+strings.TrimSuffix(strings.TrimSuffix(key, "/config"), "/"+lease))
			}
			for _, written := range []string{prefix, bare, bare + "/", "/" + prefix} {
				r := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: written}, New)
				s, err := r.List(t.Context())
				if tt.want == undecided {
					if !errors.Is(err, ErrTwoConfigs) {
						t.Errorf("%s: %v", written, err)
					}
					etcdtest.WantError(t, err, "etcdctl --endpoints="+etcd.Endpoints()[0]+" del "+bare+"/config", " del "+prefix+"/config")
					continue
				}
				want := tt.want
				if want == "" {
					want = "/" + bare
					if !strings.HasPrefix(written, "/") {
						want = bare
					}
				}
				if err != nil || r.Dir() != want {
					t.Errorf("%s leads to %q, %v, want %q", written, r.Dir(), err, want)
				}
				for _, e := range s.Entries {
					if e.Value != "in "+want {
						t.Errorf("%s lists %+v, want what is in %s", written, e, want)
					}
				}
			}
		})
	}
}

// TestSpellingByEvents has the first config key come while hosts wait for it.
func TestSpellingByEvents(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Newest: true})
	for _, dir := range []string{"/first", "second"} {
		t.Run(dir, func(t *testing.T) {
			defer etcd.Delete(dir)
			for _, written := range []string{dir, map[bool]string{true: dir[1:], false: "/" + dir}[dir[0] == '/']} {
				r := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: written}, New)
				w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
				etcd.Set(dir+"/config", "a")
				if written == dir {
					w.Next("a")
				} else if err := w.Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
					t.Errorf("%s: %v", written, err)
				}
				if got := etcdtest.List(t, r); got.Find(subnet.ConfigKey).Value != "a" || r.Dir() != dir {
					t.Errorf("%s leads to %s, %+v", written, r.Dir(), got)
				}
				etcd.Delete(dir)
			}
		})
	}
}

// TestSpellingWhileConfigIsAway has the cluster's config key away for a moment, and one
// in the other directory: who starts meanwhile waits where the leases are.
func TestSpellingWhileConfigIsAway(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Newest: true})
	etcd.Set(prefix+"/"+lease, "a")
	etcd.Set(bare+"/config", "a mistake")
	r := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: bare}, New)
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	etcd.Set(prefix+"/"+lease, "b")
	w.Next("b")
	etcd.Set(prefix+"/config", "c")
	if err := w.Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
		t.Error(err)
	}
	if s := etcdtest.List(t, r); s.Find(subnet.ConfigKey).Value != "c" || r.Dir() != prefix {
		t.Errorf("%s: %+v", r.Dir(), s)
	}
	w = etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	etcd.Delete(prefix + "/config")
	etcd.Set(bare+"/config", "once more")
	etcd.Set(prefix+"/config", "d")
	w.Next("") // deleted
	w.Next("d")
	if s := etcdtest.List(t, r); s.Find(subnet.ConfigKey).Value != "d" {
		t.Errorf("%+v", s)
	}
}

// TestFirstConfigKey has two people write it at the same moment, each in a spelling of
// his own: one of them is late.
func TestFirstConfigKey(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Newest: true})
	var all []*Registry
	for _, written := range []string{prefix, bare} {
		r := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: written}, New)
		etcdtest.List(t, r)
		all = append(all, r)
	}
	e := subnet.Entry{Key: subnet.ConfigKey, Value: "{}"}
	etcdtest.Put(t, all[0], e)
	if _, err := all[1].Put(t.Context(), e); !errors.Is(err, subnet.ErrConflict) {
		t.Error(err)
	}
	for _, r := range all {
		if s := etcdtest.List(t, r); s.Find(subnet.ConfigKey).Value != "{}" || r.Dir() != prefix {
			t.Errorf("%s: %+v", r.Dir(), s)
		}
	}
}

// TestSpellingWithoutRights has a role for one directory: the other one is as none.
func TestSpellingWithoutRights(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Newest: true})
	etcd.Set(bare+"/config", "not to be read")
	enableAuth(t, etcdtest.Open(t, Config{Endpoints: etcd.Endpoints()}, New), "s3cret")
	for _, written := range []string{prefix, bare} {
		c := Config{Endpoints: etcd.Endpoints(), Prefix: written, Username: "flannel", Password: "s3cret"}
		r := etcdtest.Open(t, c, New)
		w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
		stored := etcdtest.Put(t, r, subnet.Entry{Key: subnet.ConfigKey, Value: written})
		w.Next(written)
		if r.Dir() != prefix {
			t.Errorf("%s leads to %s", written, r.Dir())
		}
		if err := r.Delete(t.Context(), stored); err != nil {
			t.Error(err)
		}
	}
	_, err := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: bare}, New).List(t.Context())
	etcdtest.WantError(t, err, fmt.Sprintf("list %s: ", bare), "wants a user with other rights")
}
