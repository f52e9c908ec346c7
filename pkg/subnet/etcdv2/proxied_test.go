package etcdv2

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
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

// lossy is a proxy that loses the reply to the next write on demand.
func lossy(t *testing.T, etcd *lab.Etcd, lose *atomic.Bool) string {
	t.Helper()
	return through(t, etcd, func(forward http.Handler, w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && lose.Swap(false) {
			forward.ServeHTTP(nowhere{}, r)
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}).URL
}

// nowhere takes a reply that is lost.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}

// TestHeadersHeldBack watches through a proxy that passes nothing on before a
// reply is complete.
func TestHeadersHeldBack(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
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
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index)
	for i := range 3 {
		value := fmt.Sprint(i)
		etcd.Set(prefix+"/config", value)
		w.Next(value)
	}
	w.End()
}

// TestIdleWatchCostsNothing counts requests, within a time in which no probe is due.
func TestIdleWatchCostsNothing(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	proxy := through(t, etcd, func(forward http.Handler, w http.ResponseWriter, r *http.Request) { forward.ServeHTTP(w, r) })
	r := open(t, Config{Endpoints: []string{proxy.URL}})
	w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
	for i := range 10 {
		value := fmt.Sprint(i)
		etcd.Set(prefix+"/config", value)
		w.Next(value)
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
	w.End()
}

// TestProbes counts what asks a waiting member whether it lives: the cluster's
// log is spared where the member hears of the others anyhow.
func TestProbes(t *testing.T) {
	t.Parallel()
	for _, ttl := range []time.Duration{0, time.Hour} {
		etcd := lab.StartEtcd(t, lab.EtcdOptions{})
		var quorum, plain atomic.Int32
		proxy := through(t, etcd, func(forward http.Handler, w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/v2/keys"+prefix+"/config":
			case r.URL.Query().Get("quorum") == "true":
				quorum.Add(1)
			default:
				plain.Add(1)
			}
			forward.ServeHTTP(w, r)
		})
		r := open(t, Config{Endpoints: []string{proxy.URL}}, func(l *limits) { l.probe = 2 * time.Second })
		etcd.Set(prefix+"/config", "{}")
		etcdtest.Put(t, r, subnet.Entry{Key: lease, Value: "a", TTL: ttl})
		w := etcdtest.Follow(t, r, etcdtest.List(t, r).Index).Stands()
		lab.Eventually(t, patience, "four probes", func() error {
			if n := plain.Load(); n < 4 {
				return fmt.Errorf("%d so far", n)
			}
			return nil
		})
		w.End()
		if n := quorum.Load(); ttl > 0 && n > 2 || ttl == 0 && n < 3 {
			t.Errorf("with a lifetime of %v: %d reads through the log, and %d from memory", ttl, n, plain.Load())
		}
		if age := time.Since(r.Proven()); age > 10*time.Second {
			t.Errorf("the last proof is %v old", age)
		}
	}
}

// TestNextEndpoint has endpoints in front of etcd that are no use.
func TestNextEndpoint(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	for name, useless := range map[string]http.HandlerFunc{
		"another web server":        http.NotFound,
		"a member that hangs":       hangUp,
		"a member without a leader": etcdReplies(503, "9", `{"errorCode":301,"message":"During Leader Election"}`),
	} {
		server := serve(t, useless)
		r := open(t, Config{Endpoints: []string{server.URL, "http://127.0.0.1:1", server.URL, etcd.Endpoints()[0]}}, func(l *limits) { l.header = time.Second })
		s := etcdtest.List(t, r)
		asked := server.requests.Load()
		w := etcdtest.Follow(t, r, s.Index).Stands()
		etcd.Set(prefix+"/config", name)
		w.Next(name)
		w.End()
		etcdtest.Put(t, r, subnet.Entry{Key: "subnets/" + name})
		if now := server.requests.Load(); asked > 2 || now != asked {
			t.Errorf("%s: asked %d times before it was left, and %d times afterwards", name, asked, now-asked)
		}
	}
}
