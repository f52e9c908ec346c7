package etcdauto

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

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
	prefix   = "/coreos.com/network"
	config   = prefix + "/" + configKey
	marker   = prefix + "/" + APIKey
	patience = 20 * time.Second
)

func startEtcd(t *testing.T, o lab.EtcdOptions) *lab.Etcd {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	return lab.StartEtcd(t, o)
}

func open(t *testing.T, etcd *lab.Etcd, api API) *Registry {
	t.Helper()
	r, err := New(etcdconn.Config{Endpoints: etcd.Endpoints(), Prefix: prefix}, api)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func list(t *testing.T, r *Registry) subnet.Snapshot {
	t.Helper()
	s, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestChoice has keys in both stores, and says which one counts.
func TestChoice(t *testing.T) {
	both := startEtcd(t, lab.EtcdOptions{})
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
			s := list(t, r)
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
			if again := list(t, r); again.Index != s.Index {
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
			etcd := startEtcd(t, tt.o)
			r := open(t, etcd, Auto)
			s := list(t, r)
			standing, ended := make(chan struct{}, 1), make(chan error, 1)
			go func() {
				ended <- r.Watch(t.Context(), s.Index, func(events []subnet.Event) {
					if len(events) > 0 {
						t.Errorf("events %+v of a store that is not chosen", events)
					}
					standing <- struct{}{}
				})
			}()
			<-standing
			etcd.API(tt.api).Set(prefix+"/subnets/172.7.21.0-24", "{}")
			etcd.API(tt.api).Set(config, "{}")
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("the watch ended with %v", err)
				}
			case <-time.After(patience):
				t.Fatal("the watch does not end")
			}
			if s = list(t, r); len(s.Entries) != 2 || r.Chosen() != API(tt.api) {
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
			ctx, cancel := context.WithCancel(t.Context())
			err = r.Watch(ctx, s.Index, func(events []subnet.Event) {
				if len(events) > 0 {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the watch ended with %v", err)
			}
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
		if _, err := r.Put(t.Context(), subnet.Entry{Key: configKey, Value: "{}"}); err == nil {
			t.Error("written into who knows what")
		}
		list(t, r)
		if _, err := r.Put(t.Context(), subnet.Entry{Key: configKey, Value: "{}"}); err != nil || etcd.API(api).Get(config) == nil {
			t.Errorf("%v: %s", err, etcd.API(api).Dump(prefix))
		}
	}
}

// TestNobodyAnswers decides nothing before somebody does.
func TestNobodyAnswers(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	etcd.API(3).Set(config, "{}")
	etcd.Stop()
	r := open(t, etcd, Auto)
	if s, err := r.List(t.Context()); err == nil || r.Chosen() != Auto {
		t.Errorf("%+v, %v", s, err)
	}
	etcd.Start()
	lab.Eventually(t, patience, "a list", func() error { _, err := r.List(t.Context()); return err })
	if r.Chosen() != V3 {
		t.Errorf("chose %v", r.Chosen())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, etcd, Auto).Watch(ctx, 0, func([]subnet.Event) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended with %v", err)
	}
}
