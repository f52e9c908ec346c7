package etcdv3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"k8s.io/klog/v2"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

const bare = "coreos.com/network"

// TestSpelling has keys in the two directories that a prefix may mean. Whichever of
// them a host writes, it comes to the same one.
func TestSpelling(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{Newest: true})
	const host, reserved = lease + " for a day", lease
	const other, early = "/subnets/172.7.99.0-24 for a day", "/subnets/172.7.1.0-24"
	both := []string{bare + "/config", prefix + "/config"}
	for _, tt := range []struct {
		name string
		keys []string // of which those of hosts have a lifetime
		want string   // the directory; "": the one that is written
	}{
		{"nothing", nil, ""},
		{"a slash", []string{prefix + "/config"}, prefix},
		{"no slash", []string{bare + "/config"}, bare},
		{"a config by mistake beside a cluster without a slash", append(both, bare+"/"+host), bare},
		{"a config by mistake beside a cluster with one", append(both, prefix+"/"+host), prefix},
		{"a config by mistake while the cluster has none", []string{bare + "/config", prefix + "/" + host}, prefix},
		{"leases in both, one config", []string{bare + "/config", bare + "/" + host, prefix + "/" + host}, bare},
		{"leases alone", []string{bare + "/" + host}, bare},
		{"leases in both", []string{bare + "/" + host, prefix + "/" + host}, ""},
		{"a forgotten key beside the only config", []string{prefix + "/config", bare + "/" + reserved}, prefix},
		{"the same the other way round", []string{bare + "/config", prefix + "/" + reserved}, bare},
		{"a forgotten key beside a cluster", []string{prefix + "/config", prefix + "/" + host, bare + "/" + reserved}, prefix},
		{"a forgotten key beside a config that is away", []string{prefix + "/" + host, bare + "/" + reserved}, prefix},
		{"a forgotten trial beside a cluster with a slash", append(both, prefix+"/"+host, bare+"/"+reserved), prefix},
		{"a forgotten trial beside a cluster without", append(both, bare+"/"+host, prefix+"/"+reserved), bare},
		{"a host behind a reservation", append(both, bare+early, bare+other, prefix+"/"+reserved), bare},
		{"reservations alone", []string{bare + "/" + reserved}, ""},
		{"two configs with hosts", append(both, bare+"/"+host, prefix+"/"+host), prefix},
		{"two configs with reservations", append(both, bare+"/"+reserved, prefix+"/"+reserved), prefix},
		{"two configs, all hosts off", append(both, bare+"/"+reserved), prefix},
		{"two configs alone", both, prefix},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer etcd.Delete(prefix)
			defer etcd.Delete(bare)
			for _, key := range tt.keys {
				key, living := strings.CutSuffix(key, " for a day")
				dir, _, _ := strings.Cut(strings.TrimSuffix(key, "/config"), "/subnets")
				etcd.SetTTL(key, "in "+dir, map[bool]time.Duration{true: 24 * time.Hour}[living])
			}
			for _, written := range []string{prefix, bare, bare + "/", "/" + prefix} {
				r := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: written}, New)
				var s subnet.Snapshot
				var err error
				log := logged(t, func() {
					s, err = r.List(t.Context())
					_, _ = r.List(t.Context())
				})
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
				told, wrong := 0, map[string]string{bare: prefix, prefix: bare}[want]
				if len(tt.keys) > 1 && tt.keys[0] == both[0] && tt.keys[1] == both[1] {
					told = 1
				}
				line := fmt.Sprintf("used=%q ignored=%q", want+"/config", wrong+"/config")
				if strings.Count(log, line) != told || strings.Count(log, "ignored=") != told {
					t.Errorf("%s: want %d lines with %s:\n%s", written, told, line, log)
				}
			}
		})
	}
}

// logged is what do logs.
func logged(t *testing.T, do func()) string {
	t.Helper()
	var log bytes.Buffer
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	klog.SetOutputBySeverity("INFO", &log) // which gets the graver lines too
	defer func() { klog.SetOutput(io.Discard); klog.LogToStderr(true) }()
	do()
	klog.Flush()
	return log.String()
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
	etcd.SetTTL(prefix+"/"+lease, "a", 24*time.Hour)
	etcd.Set(bare+"/config", "a mistake")
	etcd.Set(bare+"/"+lease, "forgotten")
	r := etcdtest.Open(t, Config{Endpoints: etcd.Endpoints(), Prefix: bare}, New)
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	etcd.SetTTL(prefix+"/"+lease, "b", 24*time.Hour)
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
