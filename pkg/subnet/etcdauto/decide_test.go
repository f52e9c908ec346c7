package etcdauto

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
	"flanneld/pkg/subnet/etcdv2"
	"flanneld/pkg/subnet/etcdv3"
)

// fake is a store that answers as it is told.
type fake struct {
	list      error
	keys      []string // below the prefix; a value after "="
	guarded   bool
	noAnswer  error // to whether it is guarded
	found     map[string]etcdconn.Found
	asked     int // whether it is guarded
	written   []string
	peeks     int
	forbidden error // for Peek
}

func (f *fake) List(context.Context) (subnet.Snapshot, error) {
	s := subnet.Snapshot{Index: 1, Cluster: "c"}
	for i, k := range f.keys {
		key, value, _ := strings.Cut(k, "=")
		s.Entries = append(s.Entries, subnet.Entry{Key: key, Value: value, Modified: uint64(i + 1)})
	}
	if f.list != nil {
		s = subnet.Snapshot{}
	}
	return s, f.list
}

func (f *fake) Proven() time.Time { return time.Time{} }

func (f *fake) Resume(context.Context, uint64) error { return nil }

func (f *fake) ListExact(ctx context.Context) (subnet.Snapshot, error) { return f.List(ctx) }
func (f *fake) Member() string                                         { return "" }
func (f *fake) Renew(context.Context, string) error                    { return nil }
func (f *fake) Close()                                                 {}
func (f *fake) Dir() string                                            { return prefix }
func (f *fake) Protected(context.Context) (bool, error)                { f.asked++; return f.guarded, f.noAnswer }
func (f *fake) Refresh(_ context.Context, e subnet.Entry) (subnet.Entry, error) {
	return e, nil
}
func (f *fake) Delete(context.Context, subnet.Entry) error { return nil }
func (f *fake) Put(_ context.Context, e subnet.Entry) (subnet.Entry, error) {
	f.written = append(f.written, e.Key)
	return e, nil
}

func (f *fake) Replace(ctx context.Context, _, e subnet.Entry) (subnet.Entry, error) {
	return f.Put(ctx, e)
}

func (f *fake) Watch(ctx context.Context, _ uint64, emit func([]subnet.Event)) error {
	emit(nil)
	<-ctx.Done()
	return ctx.Err()
}

func (f *fake) Peek(_ context.Context, keys []string) (map[string]etcdconn.Found, error) {
	f.peeks++
	found := map[string]etcdconn.Found{}
	for _, k := range keys {
		if v, there := f.found[k]; there {
			found[k] = v
		}
	}
	return found, f.forbidden
}

func registry(two, three *fake) *Registry {
	return &Registry{stores: map[API]Store{V2: two, V3: three}}
}

// partly says that not all endpoints have said so.
func partly(err error) error { return fmt.Errorf("%w (%w)", err, etcdconn.ErrPartly) }

// TestUndecided has stores in every state beside each other: which one is read,
// and into which one the first write goes. Nothing is chosen where a store that
// could have the word says nothing of itself.
func TestUndecided(t *testing.T) {
	denied := etcdconn.Denied("http://10.4.7.12:2379 wants a user with other rights or another password: user name is empty")
	large := errors.New("list: received message larger than max (67108865 vs. 67108864)")
	no2, no3 := etcdv2.ErrNotServed, etcdv3.ErrNotServed
	const cfg, lease = "config={}", "subnets/172.7.21.0-24={}"
	type keys = []string
	for _, tt := range []struct {
		name       string
		two, three fake
		want       API    // by the list
		first      API    // by the first write, where the list has decided nothing
		err        string // of the list
		refused    string // of the first write
	}{
		{name: "nothing anywhere, both open", first: V2},
		{name: "v3 refuses", three: fake{list: denied, guarded: true}, err: "/config is not in the v2 store, and the v3 store cannot be read: http://10.4.7.12:2379 wants a user"},
		{name: "v3 is too large", three: fake{list: large}, err: "the v3 store cannot be read: list: received message larger"},
		{name: "v3 is silent", three: fake{list: context.DeadlineExceeded}, err: "undecided between etcd's two stores"},
		{name: "v3 is not there", three: fake{list: no3}, first: V2},
		{name: "v2 is not there", two: fake{list: no2}, first: V3},
		{name: "v2 is not there, v3 refuses", two: fake{list: no2}, three: fake{list: denied}, err: "v2 is not served; v3: http://10.4.7.12:2379 wants a user"},
		{name: "v2 is not there at one endpoint, and another is silent", two: fake{list: partly(no2)}, err: "is not in the v3 store, and not all endpoints"},
		{name: "v3 is not there at one endpoint, and another is silent", three: fake{list: partly(no3)}, err: "is not in the v2 store, and not all endpoints"},
		{name: "the same, with a config in v3", two: fake{list: partly(no2)}, three: fake{keys: keys{cfg}}, want: V3},
		{name: "neither is there", two: fake{list: no2}, three: fake{list: no3}, err: "neither of etcd's APIs can be used"},
		{name: "v2 refuses", two: fake{list: denied, guarded: true}, three: fake{keys: keys{cfg}}, err: "wants a user"},
		{name: "v2 is silent", two: fake{list: context.DeadlineExceeded}, three: fake{keys: keys{cfg}}, err: "deadline"},
		{name: "v3 wants a password, v2 none", three: fake{guarded: true}, first: V3},
		{name: "v2 wants a password, v3 none", two: fake{guarded: true}, three: fake{keys: keys{lease}}, first: V2},
		{name: "both want one", two: fake{guarded: true}, three: fake{guarded: true}, first: V2},
		{name: "nobody knows who wants one", three: fake{noAnswer: large}, refused: "cannot be told: list: received message larger"},
		{name: "leases in v3", three: fake{keys: keys{lease}}, first: V3},
		{name: "leases in v2", two: fake{keys: keys{lease}}, first: V2},
		{name: "leases in both", two: fake{keys: keys{lease}}, three: fake{keys: keys{lease}}, refused: "say with --etcd-api which of them the hosts use"},

		{name: "a config in v2, v3 open", two: fake{keys: keys{cfg}}, want: V2},
		{name: "a config in both, both open", two: fake{keys: keys{cfg}}, three: fake{keys: keys{cfg}}, want: V2},
		{name: "a config in both, both want a password", two: fake{keys: keys{cfg}, guarded: true}, three: fake{keys: keys{cfg}, guarded: true}, want: V2},
		{name: "a config in v2, v3 not there", two: fake{keys: keys{cfg}}, three: fake{list: no3, noAnswer: no3}, want: V2},
		{name: "a config in v2, v3 too large and open", two: fake{keys: keys{cfg}}, three: fake{list: large}, want: V2},
		{name: "a config in v2, v3 too large and guarded", two: fake{keys: keys{cfg}}, three: fake{list: large, guarded: true}, err: "that one cannot be read: list: received message larger"},
		{name: "planted in v2, v3 refuses", two: fake{keys: keys{cfg}}, three: fake{list: denied}, err: "lies in the v2 store, which needs no password while the v3 store does, and that one cannot be read: http://10.4.7.12:2379 wants a user"},
		{name: "planted in v2, with leases", two: fake{keys: keys{cfg, lease}}, three: fake{keys: keys{cfg}, guarded: true}, want: V3},
		{name: "planted in v2, with a marker", two: fake{keys: keys{"api=2", cfg}}, three: fake{keys: keys{cfg}, guarded: true}, want: V3},
		{name: "planted in v2 before there is a config", two: fake{keys: keys{cfg, lease}}, three: fake{guarded: true}, first: V3},
		{name: "planted in v2, v3 silent", two: fake{keys: keys{cfg}}, three: fake{list: context.DeadlineExceeded, noAnswer: context.DeadlineExceeded}, err: "which does not count if it needs no password while the v3 store does, and that cannot be told"},
		{name: "a guarded v2 beside a v3 that refuses", two: fake{keys: keys{cfg}, guarded: true}, three: fake{list: denied}, want: V2},
		{name: "a guarded v2 beside a silent v3", two: fake{keys: keys{cfg}, guarded: true}, three: fake{list: context.DeadlineExceeded, noAnswer: context.DeadlineExceeded}, want: V2},
		{name: "a v2 of which that is not known", two: fake{keys: keys{cfg}, noAnswer: large}, three: fake{keys: keys{cfg}, guarded: true}, err: "cannot be told: list: received"},
		{name: "moved to v3", two: fake{keys: keys{"api=3", cfg}}, three: fake{keys: keys{cfg}, guarded: true}, want: V3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := registry(&tt.two, &tt.three)
			s, err := r.List(t.Context())
			if r.Chosen() != tt.want {
				t.Errorf("chose %v, want %v", r.Chosen(), tt.want)
			}
			if tt.err != "" {
				etcdtest.WantError(t, err, tt.err)
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("more than a line: %v", err)
				}
				if _, err := r.Put(t.Context(), subnet.Entry{Key: subnet.ConfigKey}); err == nil {
					t.Error("written into who knows what")
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if tt.want != Auto {
				return
			}
			if s.Has(subnet.ConfigKey) {
				t.Errorf("shows a config of a store that does not count: %+v", s)
			}
			if tt.err != "" {
				return
			}
			_, err = r.Put(t.Context(), subnet.Entry{Key: subnet.ConfigKey})
			written := map[API][]string{}
			for api, f := range map[API]*fake{V2: &tt.two, V3: &tt.three} {
				if len(f.written) > 0 {
					written[api] = f.written
				}
			}
			switch {
			case tt.refused != "":
				etcdtest.WantError(t, err, tt.refused)
				if len(written) > 0 || r.Chosen() != Auto {
					t.Errorf("written: %v", written)
				}
			case err != nil || !slices.Equal(slices.Collect(maps.Keys(written)), []API{tt.first}):
				t.Errorf("%v, written: %v, want into %v", err, written, tt.first)
			}
		})
	}
}
