package crowd

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdauto"
	"flanneld/pkg/subnet/etcdconn"
)

func TestMain(m *testing.M) {
	lab.NeedEtcd()
	lab.Main(m)
}

const (
	hosts   = 5
	network = `{"Network":"10.0.0.0/8","Backend":{"Type":"host-gw"}}`
	dir     = "/coreos.com/network"
	waits   = "GET wait=true recursive=true"
	newcome = dir + "/subnets/10.99.0.0-24"
)

// side is an etcd with a crowd of its own, and what the etcd was asked.
type side struct {
	*testing.T
	etcd  *lab.Etcd
	crowd *Crowd
	asked func() map[string]int // requests by kind, since etcd's start
	seen  map[string]int        // at the last look
	lists int64
}

func newSide(t *testing.T, api etcdauto.API, whole int) *side {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{API: int(api)})
	etcd.Set(dir+"/config", network)
	config, err := subnet.ParseConfig(network)
	if err != nil {
		t.Fatal(err)
	}
	s := &side{T: t, etcd: etcd, seen: map[string]int{}}
	endpoint := etcd.Endpoints()[0]
	if api == etcdauto.V3 {
		s.asked = func() map[string]int {
			all := map[string]int{}
			for method, n := range etcd.Counters("grpc_server_started_total", "grpc_method") {
				all[method] = int(n)
			}
			return all
		}
	} else {
		endpoint, s.asked = recorded(t, endpoint)
	}
	s.crowd = New(Options{
		Etcd: etcdconn.Config{Endpoints: []string{endpoint}, Prefix: dir}, API: api, Config: config, Hosts: hosts, Whole: whole,
		Previous: func(i int) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf("10.7.%d.0/24", i)) },
	})
	return s
}

// recorded starts a proxy in front of etcd's v2 API, which counts requests by kind. Those
// that only ask whether a member lives come with time, and are left out.
func recorded(t *testing.T, endpoint string) (string, func() map[string]int) {
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	count := map[string]int{}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind := r.Method
		for _, what := range []string{"wait=true", "recursive=true", "quorum=true", "prevExist", "prevIndex"} {
			if strings.Contains(r.URL.RawQuery, what) {
				kind += " " + what
			}
		}
		if !strings.HasSuffix(r.URL.Path, "/config") {
			mu.Lock()
			count[kind]++
			mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(count)
	}
}

// since is what was asked since s.seen.
func (s *side) since() map[string]int {
	since := map[string]int{}
	for kind, n := range s.asked() {
		if n -= s.seen[kind]; n > 0 {
			since[kind] = n
		}
	}
	return since
}

func (s *side) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// listed is how many lists have arrived since the last look.
func (s *side) listed() int64 {
	now := s.crowd.Totals().Lists
	defer func() { s.lists = now }()
	return now - s.lists
}

// settled waits until all hosts know all that is in the store.
func (s *side) settled() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	node := s.etcd.Get(dir + "/config")
	if other := s.etcd.Get(newcome); other != nil {
		node = other
	}
	s.must(s.crowd.Await(ctx, node.ModifiedIndex))
}

// TestAsRealHosts: simulated hosts ask etcd for what real ones do, in kind and number, and
// what all of them were told is what the store holds.
func TestAsRealHosts(t *testing.T) {
	for _, api := range []etcdauto.API{etcdauto.V2, etcdauto.V3} {
		t.Run(api.String(), func(t *testing.T) {
			t.Parallel()
			compare(t, api)
		})
	}
}

func compare(t *testing.T, api etcdauto.API) {
	thin, whole := newSide(t, api, 0), newSide(t, api, hosts)
	both := []*side{thin, whole}
	for _, s := range both {
		t.Cleanup(s.crowd.Close)
	}
	for _, step := range []struct {
		name  string
		do    func(*side)
		kinds bool // alone: how often etcd was asked while it came back is chance
	}{
		{"start", func(s *side) { s.must(s.crowd.Start()) }, false},
		{"a newcomer", func(s *side) {
			s.etcd.SetTTL(newcome, `{"PublicIP":"172.31.0.1","BackendType":"host-gw"}`, time.Hour)
		}, false},
		{"restarts", func(s *side) {
			before := s.crowd.hosts[hosts-2].manager.View().Own.Modified
			s.must(s.crowd.Restart(2))
			for _, h := range s.crowd.hosts[hosts-2:] { // each writes its lease once
				lab.Eventually(s, time.Minute, "a write", func() error {
					if now := h.manager.View().Own.Modified; now <= before {
						return fmt.Errorf("the lease is of index %d", now)
					}
					return nil
				})
			}
		}, false},
		{"etcd comes back", func(s *side) {
			s.etcd.Kill()
			s.etcd.Start()
			if api == etcdauto.V3 {
				s.seen = map[string]int{}
			}
			s.etcd.SetTTL(newcome, `{"PublicIP":"172.31.0.2","BackendType":"host-gw"}`, time.Hour)
		}, true},
	} {
		for _, s := range both {
			step.do(s)
			s.settled()
		}
		var asked []map[string]int
		same := func() error {
			asked = nil
			for _, s := range both {
				since := s.since()
				if since[waits] > 0 { // one for each event after its list that a host hears of
					since[waits] = 1
				}
				for kind := range since {
					if step.kinds {
						since[kind] = 1
					}
				}
				asked = append(asked, since)
			}
			if diff := cmp.Diff(asked[1], asked[0]); diff != "" || len(asked[0]) == 0 {
				return fmt.Errorf("%s: real hosts ask for (-), simulated ones (+):\n%s", step.name, diff)
			}
			return nil
		}
		lab.Eventually(t, 10*time.Second, "the last requests", same) // which need not be waited for
		t.Log(step.name, asked[0])
		for _, s := range both {
			s.seen = s.asked()
		}
		if a, b := thin.listed(), whole.listed(); a != b {
			t.Errorf("%s: simulated hosts have made %d lists, real ones %d", step.name, a, b)
		}
	}
	for _, s := range both {
		s.must(s.crowd.Check(t.Context()))
		s.must(s.crowd.Renew(t.Context()))
	}
	a, b := thin.since(), whole.since()
	delete(a, waits) // of events before
	delete(b, waits)
	if diff := cmp.Diff(b, a); diff != "" || len(a) == 0 {
		t.Errorf("renewals: %s", diff)
	}
}

// TestRenewals: what Renew asks for is what a Manager does when the time has come.
func TestRenewals(t *testing.T) {
	for _, api := range []etcdauto.API{etcdauto.V2, etcdauto.V3} {
		t.Run(api.String(), func(t *testing.T) {
			t.Parallel()
			kinds := func(margin time.Duration, renew func(*side)) map[string]bool {
				s := newSide(t, api, 1)
				s.crowd.options.RenewMargin = margin
				t.Cleanup(s.crowd.Close)
				s.must(s.crowd.Start())
				s.settled()
				s.seen = s.asked()
				renew(s)
				all := map[string]bool{}
				for kind := range s.since() {
					all[kind] = true
				}
				delete(all, waits) // of events before
				return all
			}
			want := kinds(time.Hour, func(s *side) { s.must(s.crowd.Renew(t.Context())) })
			have := kinds(subnet.LeaseTTL-time.Second, func(s *side) {
				ends := s.crowd.hosts[0].manager.View().Own.Expires
				lab.Eventually(s, time.Minute, "a renewal", func() error {
					if now := s.crowd.hosts[0].manager.View().Own.Expires; now.Equal(ends) {
						return fmt.Errorf("the lease still ends at %v", now)
					}
					return nil
				})
			})
			if diff := cmp.Diff(want, have); diff != "" || len(want) == 0 {
				t.Errorf("Renew asks for (-), a Manager for (+): %s", diff)
			}
		})
	}
}

// TestRaces: hosts that start at once and know no subnet lose races to each other, and
// come to different ones.
func TestRaces(t *testing.T) {
	s := newSide(t, etcdauto.V3, 2)
	s.crowd.options.Hosts = 60
	s.crowd = New(s.crowd.options)
	for _, h := range s.crowd.hosts {
		h.previous = netip.Prefix{}
	}
	t.Cleanup(s.crowd.Close)
	s.must(s.crowd.Start())
	s.settled()
	s.must(s.crowd.Check(t.Context()))
}

// TestWhatIsToldIsChecked: each kind of lie is found out.
func TestWhatIsToldIsChecked(t *testing.T) {
	entry := func(n uint64, value string) subnet.Entry {
		return subnet.Entry{Key: fmt.Sprintf("subnets/10.7.%d.0-24", n), Value: value, Created: n, Modified: n}
	}
	one, two, three := entry(1, "a"), entry(2, "b"), entry(3, "c")
	listed := func(all ...subnet.Entry) (sum uint64) {
		for _, e := range all {
			sum += digest(e, false)
		}
		return sum
	}
	right := []account{{0, 1, listed(one), listed(two, three)}, {1, 2, listed(one, two), listed(three)}}
	for name, tt := range map[string]struct {
		change func(*History, []account)
		stored []subnet.Entry
		says   string
	}{
		"nothing":             {func(*History, []account) {}, nil, ""},
		"an event is lost":    {func(_ *History, a []account) { a[0].since -= listed(two) }, nil, "host 0 was told"},
		"an event came twice": {func(_ *History, a []account) { a[1].since += listed(three) }, nil, "host 1 was told"},
		"a list is short":     {func(_ *History, a []account) { a[1].listed -= listed(one) }, nil, "host 1 was told"},
		"another value":       {func(h *History, _ []account) { h.note(entry(2, "x"), false) }, nil, "1 entries and events were told"},
		"the store has more": {
			func(*History, []account) {}, []subnet.Entry{one, two, three, entry(4, "d")}, "the store holds 4 entries",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, accounts := newHistory(), slices.Clone(right)
			for _, e := range []subnet.Entry{one, two, three} {
				h.note(e, false)
			}
			tt.change(h, accounts)
			if tt.stored == nil {
				tt.stored = []subnet.Entry{one, two, three}
			}
			err := h.check(accounts, subnet.Snapshot{Entries: tt.stored})
			if got := fmt.Sprint(err); tt.says == "" && err != nil || !strings.Contains(got, tt.says) {
				t.Errorf("error %v", err)
			}
		})
	}
}
