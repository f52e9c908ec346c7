package etcdauto

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/etcdv3"
)

func TestNearby(t *testing.T) {
	for prefix, want := range map[string][]string{
		"/coreos.com/network": {"/atomic.io/network/config", "/network/config", "/coreos.com/config", "/coreos.com/network/network/config",
			"coreos.com/network/config", "//coreos.com/network/config", "/coreos.com/network/config/", "/coreos.com/network//config"},
		"/atomic.io/network":         {"/coreos.com/network/config"},
		"/coreos.com/network/config": {"/coreos.com/network/config", "/network/config/config"},
		"/coreos.com":                {"/coreos.com/network/config", "/config"},
		"/network":                   {"/coreos.com/network/config", "/config"},
		"":                           {"/coreos.com/network/config", "/network/config", "config", "//config"},
	} {
		got := nearby(prefix, V3)
		for _, key := range want {
			if !slices.Contains(got, key) {
				t.Errorf("near %q nobody looks at %q", prefix, key)
			}
		}
		if slices.Contains(got, prefix+"/config") || len(got) > 22 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got) {
			t.Errorf("near %q: %q", prefix, got)
		}
	}
}

// TestNoConfigKey has no config key where it is looked for, and something else
// elsewhere.
func TestNoConfigKey(t *testing.T) {
	const c = `{"Network":"172.7.0.0/16"}`
	found := func(keys ...string) map[string]etcdconn.Found {
		all := map[string]etcdconn.Found{}
		for _, k := range keys {
			key, value, _ := strings.Cut(k, "=")
			all[key] = etcdconn.Found{Value: value}
		}
		return all
	}
	const neither, says = "there is no config key yet: /coreos.com/network/config is in neither of etcd's stores, v2 and v3; ", "there is no config key yet: /coreos.com/network/config "
	const atomic = "/atomic.io/network/config=" + c
	const atomicV2 = "a config key lies at /atomic.io/network/config in etcd's v2 store: if that is this cluster's, give flanneld --etcd-prefix=/atomic.io/network"
	for _, tt := range []struct {
		name       string
		chosen     API
		two, three fake
		want       string
	}{
		{name: "nothing", want: neither + "write it by: flanneld config set"},
		{name: "v2 by the flag", chosen: V2, want: says + "is not in etcd's v2 store; write it by: flanneld config set"},
		{name: "another prefix", two: fake{found: found(atomic)}, want: neither + atomicV2},
		{name: "another prefix, in a store that is not asked", chosen: V3, two: fake{found: found(atomic)}, want: says + "is not in etcd's v3 store; " + atomicV2},
		{name: "the other store", chosen: V2, three: fake{found: found(config + "=" + c)},
			want: says + "is not in etcd's v2 store; a config key lies in etcd's v3 store: if that is the one that the hosts use, give them --etcd-api=3"},
		{name: "no slash in front, where no leases are", three: fake{found: found("coreos.com/network/config=" + c)},
			want: neither + "a config key lies at coreos.com/network/config in etcd's v3 store, which is another key than /coreos.com/network/config: write it there"},
		{name: "no slash in front", chosen: V3, three: fake{found: found("coreos.com/network/config=" + c)},
			want: says + "is not in etcd's v3 store; a config key lies at coreos.com/network/config in etcd's v3 store, which is another key than /coreos.com/network/config: write it there"},
		{name: "no slash in front, in the other store", chosen: V2, three: fake{found: found("coreos.com/network/config=" + c)},
			want: says + "is not in etcd's v2 store; a config key lies in etcd's v3 store: if that is the one that the hosts use, give them --etcd-api=3"},
		{name: "another prefix, no slash in front", three: fake{found: found("flannel/network/config=" + c)},
			want: neither + "a config key lies at flannel/network/config in etcd's v3 store: if that is this cluster's, give flanneld --etcd-prefix=flannel/network"},
		{name: "a slash behind, and a BOM", three: fake{found: found("/coreos.com/network/config/=\ufeff" + c)},
			want: neither + "a config key lies at /coreos.com/network/config/ in etcd's v3 store, which is another key than /coreos.com/network/config: write it there"},
		{name: "something else of that name", two: fake{found: found("/atomic.io/network/config=hello")}, want: neither + "write it by: flanneld config set"},
		{name: "a directory", two: fake{found: map[string]etcdconn.Found{config: {Blocked: config + " is a directory: away with it"}}}, want: neither + config + " is a directory: away with it"},
		{name: "who may not look", two: fake{forbidden: errors.New("no")}, want: neither + "write it by: flanneld config set"},
		{name: "v3 absent", three: fake{list: etcdv3.ErrNotServed}, want: says + "is not in etcd's v2 store, and the v3 API is not served; write it by: flanneld config set"},
		{name: "planted in v2", two: fake{keys: []string{"config=" + c}, found: found(config + "=" + c)}, three: fake{guarded: true},
			want: says + "is not in etcd's v3 store, and what lies in the v2 store does not count, as it needs no password while the v3 store does; write it by: flanneld config set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := registry(&tt.two, &tt.three)
				r.chosen = tt.chosen
				for range 5 {
					if got := etcdtest.List(t, r).NoConfig.String(); got != tt.want {
						t.Errorf("%s\nwant %s", got, tt.want)
					}
				}
				if tt.two.peeks != 1 || tt.three.peeks != 1 {
					t.Errorf("looked around %d and %d times", tt.two.peeks, tt.three.peeks)
				}
				time.Sleep(lookAround)
				etcdtest.List(t, r)
				if tt.two.peeks != 2 {
					t.Errorf("looked around %d times after a while", tt.two.peeks)
				}
			})
		})
	}
}

// TestConfigIsDeleted lists again, to tell what is there instead.
func TestConfigIsDeleted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		o     lab.EtcdOptions
		api   int
		leave func(*lab.Etcd)
		says  string
	}{
		"v2, and a directory comes": {lab.EtcdOptions{}, 2, func(e *lab.Etcd) { e.Set(config+"/x", "") }, "is not in etcd's v2 store; /coreos.com/network/config is a directory, and must be a key: delete it with all that lies in it, by: curl -X DELETE '"},
		"v3, and one under another prefix": {lab.EtcdOptions{Newest: true}, 3, func(e *lab.Etcd) { e.API(3).Set("/atomic.io/network/config", `{"Network":"172.7.0.0/16"}`) },
			"is not in etcd's v3 store; a config key lies at /atomic.io/network/config in etcd's v3 store: "},
		"v3 beside v2": {lab.EtcdOptions{}, 3, func(e *lab.Etcd) { e.API(3).Set("coreos.com/network/config", `{"Network":"172.7.0.0/16"}`) },
			"is not in etcd's v3 store; a config key lies at coreos.com/network/config in etcd's v3 store, which is another key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := lab.StartEtcd(t, tt.o)
			etcd.API(tt.api).Set(config, "{}")
			r := open(t, etcd, Auto)
			s := etcdtest.List(t, r)
			w := etcdtest.Follow(t, r, s.Index).Stands()
			etcd.API(tt.api).Set(prefix+"/subnets/172.7.21.0-24", "a")
			w.Next("a")
			etcd.API(tt.api).Delete(config)
			tt.leave(etcd)
			if err := w.Fails(); !errors.Is(err, subnet.ErrHistoryLost) {
				t.Errorf("the watch ended with %v", err)
			}
			if got := etcdtest.List(t, r).NoConfig.String(); !strings.Contains(got, tt.says) {
				t.Errorf("%s\nwant %s", got, tt.says)
			}
		})
	}
}

// TestBeside is what `config set` asks about where --etcd-api is given.
func TestBeside(t *testing.T) {
	const choice = "hosts that are started without --etcd-api=2 choose between the two by themselves"
	for _, tt := range []struct {
		name  string
		given API
		three fake
		says  string
	}{
		{"no flag", Auto, fake{keys: []string{"config={}"}}, ""},
		{"nothing there", V2, fake{}, ""},
		{"not served", V2, fake{list: etcdv3.ErrNotServed}, ""},
		{"a config and a lease", V2, fake{keys: []string{"config={}", "subnets/172.7.21.0-24={}"}}, "Etcd's v3 store has a config key as well: " + choice},
		{"a lease", V2, fake{keys: []string{"subnets/172.7.21.0-24={}"}}, "Etcd's v3 store has leases: " + choice},
		{"denied", V2, fake{list: etcdconn.Denied("user name is empty")}, "Etcd's v3 store, which hosts may use, cannot be read: user name is empty; " + choice},
	} {
		r := registry(&fake{}, &tt.three)
		r.given = tt.given
		if got := r.Beside(t.Context()); tt.says == "" && got != "" || !strings.HasPrefix(got, tt.says) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.says)
		}
	}
}
