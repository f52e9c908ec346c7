package etcdauto

import (
	"context"
	"errors"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

func TestMain(m *testing.M) {
	lab.NeedEtcd()
	lab.NeedNewestEtcd()
	lab.Main(m)
}

const (
	prefix = etcdtest.Prefix
	config = prefix + "/" + subnet.ConfigKey
	marker = prefix + "/" + APIKey
)

func open(t *testing.T, etcd *lab.Etcd, api API) *Registry {
	t.Helper()
	c := etcdconn.Config{Endpoints: etcd.Endpoints()}
	return etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, api) })
}

// TestChoice has keys in both stores, and says which one counts.
func TestChoice(t *testing.T) {
	both := lab.StartEtcd(t, lab.EtcdOptions{})
	without, newest := lab.StartEtcd(t, lab.EtcdOptions{NoV2: true}), lab.StartEtcd(t, lab.EtcdOptions{Newest: true})
	for _, tt := range []struct {
		name   string
		etcd   *lab.Etcd
		v2, v3 map[string]string
		flag   API
		want   API
	}{
		{name: "nothing anywhere", etcd: both},
		{name: "config in v2", etcd: both, v2: map[string]string{config: "2"}, want: V2},
		{name: "config in v3", etcd: both, v3: map[string]string{config: "3"}, want: V3},
		{name: "config in both", etcd: both, v2: map[string]string{config: "2"}, v3: map[string]string{config: "3"}, want: V2},
		{name: "moved to v3", etcd: both, v2: map[string]string{config: "2", marker: "3"}, v3: map[string]string{config: "3"}, want: V3},
		{name: "moved to v3, the old keys deleted", etcd: both, v2: map[string]string{marker: "3"}, v3: map[string]string{config: "3"}, want: V3},
		{name: "moved to v3, the config key deleted for a moment", etcd: both, v2: map[string]string{config: "2", marker: "3"}, want: V3},
		{name: "moved back", etcd: both, v2: map[string]string{config: "2", marker: "2"}, v3: map[string]string{config: "3"}, want: V2},
		{name: "moved back, the config key deleted for a moment", etcd: both, v2: map[string]string{marker: "2"}, v3: map[string]string{config: "3"}, want: V2},
		{name: "leases without config", etcd: both, v2: map[string]string{prefix + "/subnets/172.7.21.0-24": "2"}},
		{name: "the flag says v3", etcd: both, v2: map[string]string{config: "2"}, flag: V3, want: V3},
		{name: "the flag says v2", etcd: both, v3: map[string]string{config: "3"}, flag: V2, want: V2},
		{name: "v2 off, nothing there", etcd: without},
		{name: "v2 off, config", etcd: without, v3: map[string]string{config: "3"}, want: V3},
		{name: "no v2, nothing there", etcd: newest},
		{name: "no v2, config", etcd: newest, v3: map[string]string{config: "3"}, want: V3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for api, keys := range map[int]map[string]string{2: tt.v2, 3: tt.v3} {
				if api == 3 || tt.etcd == both {
					tt.etcd.API(api).Delete(prefix)
				}
				for key, value := range keys {
					tt.etcd.API(api).Set(key, value)
				}
			}
			r := open(t, tt.etcd, tt.flag)
			s := etcdtest.List(t, r)
			if got := r.Chosen(); got != tt.want {
				t.Fatalf("chose %v, want %v", got, tt.want)
			}
			want := map[API]map[string]string{Auto: tt.v2, V2: tt.v2, V3: tt.v3}[tt.want]
			if s.Cluster == "" || len(s.Entries) != len(want) || (s.Index == 0) != (tt.want == Auto) {
				t.Errorf("%+v", s)
			}
			for _, e := range s.Entries {
				if e.Value != want[prefix+"/"+e.Key] {
					t.Errorf("%+v", e)
				}
			}
			if again := etcdtest.List(t, r); again.Index != s.Index {
				t.Errorf("listed again as %+v", again)
			}
		})
	}
}

// TestConfigAppears waits without a config, as the Manager does.
func TestConfigAppears(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    lab.EtcdOptions
		api  int
	}{
		{"in v2", lab.EtcdOptions{}, 2}, {"in v3", lab.EtcdOptions{}, 3}, {"in v3 alone", lab.EtcdOptions{Newest: true}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			etcd := lab.StartEtcd(t, tt.o)
			r := open(t, etcd, Auto)
			s := etcdtest.List(t, r)
			w := etcdtest.Follow(t, r, s.Index).Stands()
			etcd.API(tt.api).Set(prefix+"/subnets/172.7.21.0-24", "{}")
			etcd.API(tt.api).Set(config, "{}")
			if err := w.Fails(); err != nil { // and tells no event of a store that is not chosen
				t.Errorf("the watch ended with %v", err)
			}
			if s = etcdtest.List(t, r); len(s.Entries) != 2 || r.Chosen() != API(tt.api) {
				t.Errorf("chose %v with %+v", r.Chosen(), s)
			}
			// From here on it is that store's Registry.
			put, err := r.Put(t.Context(), subnet.Entry{Key: "subnets/172.7.22.0-24", Value: "x", TTL: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			if put, err = r.Refresh(t.Context(), put); err != nil {
				t.Fatal(err)
			}
			w = etcdtest.Follow(t, r, s.Index)
			w.Next("x")
			w.End()
			if exact, err := r.ListExact(t.Context()); err != nil || len(exact.Entries) != 3 || r.Member() != etcd.Endpoints()[0] {
				t.Errorf("%+v, %v at %s", exact, err, r.Member())
			}
			if err := r.Delete(t.Context(), put); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFirstWriter writes the first config key of a cluster.
func TestFirstWriter(t *testing.T) {
	for api, o := range map[int]lab.EtcdOptions{2: {}, 3: {NoV2: true}} {
		etcd := lab.StartEtcd(t, o)
		r := open(t, etcd, Auto)
		if _, err := r.Put(t.Context(), subnet.Entry{Key: subnet.ConfigKey, Value: "{}"}); err == nil {
			t.Error("written into who knows what")
		}
		etcdtest.List(t, r)
		if _, err := r.Put(t.Context(), subnet.Entry{Key: subnet.ConfigKey, Value: "{}"}); err != nil || etcd.API(api).Get(config) == nil {
			t.Errorf("%v: %s", err, etcd.API(api).Dump(prefix))
		}
	}
}

// TestNobodyAnswers decides nothing before somebody does.
func TestNobodyAnswers(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	etcd.API(3).Set(config, "{}")
	etcd.Stop()
	r := open(t, etcd, Auto)
	if s, err := r.List(t.Context()); err == nil || r.Chosen() != Auto {
		t.Errorf("%+v, %v", s, err)
	}
	etcd.Start()
	lab.Eventually(t, etcdtest.Patience, "a list", func() error { _, err := r.List(t.Context()); return err })
	if r.Chosen() != V3 {
		t.Errorf("chose %v", r.Chosen())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, etcd, Auto).Watch(ctx, 0, func([]subnet.Event) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}
