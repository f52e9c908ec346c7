package etcdv2

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// through is a server between a Registry and etcd, which may change a request,
// answer it, or spoil the reply.
func through(t *testing.T, etcd *lab.Etcd, change func(forward http.Handler, w http.ResponseWriter, r *http.Request)) *scripted {
	t.Helper()
	to, err := url.Parse(etcd.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	carrier := &http.Transport{}
	t.Cleanup(carrier.CloseIdleConnections)
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:     carrier,
		FlushInterval: -1,
		ErrorLog:      discard,
	}
	return serve(t, func(w http.ResponseWriter, r *http.Request) { change(forward, w, r) })
}

// TestLostReplies lets etcd carry writes out whose replies are lost.
func TestLostReplies(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	var lose atomic.Bool // the reply to the next write
	cut := func(forward http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && lose.Swap(false) {
			forward.ServeHTTP(nowhere{}, r)
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}
	a, b := through(t, etcd, cut), through(t, etcd, cut)
	for _, endpoints := range [][]string{{a.URL}, {a.URL, b.URL}} {
		etcd.Delete(prefix)
		r := open(t, Config{Endpoints: endpoints})
		// try calls until there is a result, as the Manager does.
		try := func(call func() (subnet.Entry, error)) (e subnet.Entry) {
			t.Helper()
			lose.Store(true)
			lab.Eventually(t, patience, "a write", func() (err error) {
				e, err = call()
				if errors.Is(err, subnet.ErrConflict) {
					t.Fatal(err)
				}
				return err
			})
			if node := etcd.Get(prefix + "/" + lease); node == nil || node.ModifiedIndex != e.Modified || node.Value != e.Value {
				t.Fatalf("stored %+v, but etcd has %+v", e, node)
			}
			return e
		}
		e := try(func() (subnet.Entry, error) {
			return r.Put(t.Context(), subnet.Entry{Key: lease, Value: "a", TTL: time.Hour})
		})
		if e.Created != e.Modified {
			t.Errorf("written twice: %+v", e)
		}
		before := e
		e.Value = "b"
		e = try(func() (subnet.Entry, error) { return r.Put(t.Context(), e) })
		e.TTL = 2 * time.Hour
		refreshed := try(func() (subnet.Entry, error) { return r.Refresh(t.Context(), e) })
		if refreshed.TTL < 2*time.Hour-time.Minute {
			t.Errorf("%+v", refreshed)
		}

		// What somebody else wrote is a conflict also after a lost reply.
		lose.Store(true)
		if _, err := r.Put(t.Context(), before); len(endpoints) > 1 && !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("error %v", err)
		}
		lose.Store(false)
		if _, err := r.Put(t.Context(), before); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("error %v", err)
		}

		lose.Store(true)
		err := r.Delete(t.Context(), refreshed)
		saysWhat(t, err, "delete "+prefix+"/"+lease)
		if errors.Is(err, subnet.ErrConflict) || etcd.Get(prefix+"/"+lease) != nil {
			t.Errorf("error %v", err)
		}
		if err := r.Delete(t.Context(), refreshed); !errors.Is(err, subnet.ErrConflict) {
			t.Errorf("error %v", err)
		}
	}
}

// nowhere takes a reply that is lost.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// TestHeadersHeldBack watches through a proxy that passes nothing on before a
// reply is complete.
func TestHeadersHeldBack(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	proxy := through(t, etcd, func(forward http.Handler, w http.ResponseWriter, r *http.Request) {
		held := httptest.NewRecorder()
		forward.ServeHTTP(held, r)
		for name, values := range held.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(held.Code)
		_, _ = w.Write(held.Body.Bytes())
	})
	r := open(t, Config{Endpoints: []string{proxy.URL}}, func(l *limits) { l.watch = 2 * time.Second })
	w := follow(t, r, list(t, r).Index)
	for i := range 3 {
		value := fmt.Sprint(i)
		etcd.Set(prefix+"/config", value)
		w.next(value)
	}
	w.end()
}

// TestIdleWatchCostsNothing counts requests.
func TestIdleWatchCostsNothing(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	proxy := through(t, etcd, func(forward http.Handler, w http.ResponseWriter, r *http.Request) { forward.ServeHTTP(w, r) })
	r := open(t, Config{Endpoints: []string{proxy.URL}})
	w := follow(t, r, list(t, r).Index).stands()
	for i := range 10 {
		value := fmt.Sprint(i)
		etcd.Set(prefix+"/config", value)
		w.next(value)
	}
	lab.Eventually(t, patience, "the watch", func() error {
		if n := proxy.requests.Load(); n != 12 {
			return fmt.Errorf("%d requests for a list, ten events and a wait", n)
		}
		return nil
	})
	time.Sleep(time.Second)
	if n := proxy.requests.Load(); n != 12 {
		t.Errorf("%d requests, and no more than 12 were due", n)
	}
	w.end()
}

// TestNextEndpoint has endpoints in front of etcd that are no use.
func TestNextEndpoint(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	for name, useless := range map[string]http.HandlerFunc{
		"another web server":        http.NotFound,
		"a member that hangs":       hangUp,
		"a member without a leader": etcdSays(503, "9", `{"errorCode":301,"message":"During Leader Election"}`),
	} {
		server := serve(t, useless)
		r := open(t, Config{Endpoints: []string{server.URL, "http://127.0.0.1:1", server.URL, etcd.Endpoints()[0]}}, func(l *limits) { l.header = time.Second })
		s := list(t, r)
		asked := server.requests.Load()
		w := follow(t, r, s.Index).stands()
		etcd.Set(prefix+"/config", name)
		w.next(name)
		w.end()
		put(t, r, subnet.Entry{Key: "subnets/" + name})
		if now := server.requests.Load(); asked > 2 || now != asked {
			t.Errorf("%s: asked %d times before it was left, and %d times afterwards", name, asked, now-asked)
		}
	}
}
