package etcdauto

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

// web is a Registry over a web server that knows nothing of gRPC.
func web(t *testing.T, handler http.Handler) *Registry {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	c := etcdconn.Config{Endpoints: []string{server.URL}}
	return etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) })
}

func TestNeitherAPI(t *testing.T) {
	r := web(t, http.NotFoundHandler())
	_, err := r.List(t.Context())
	etcdtest.WantError(t, err, "neither of etcd's APIs can be used: v2 is not served; v3: list "+prefix+": ")
	if r.Chosen() != Auto || r.Member() != "" {
		t.Errorf("chose %v at %q", r.Chosen(), r.Member())
	}
	const unknown = "write to etcd: it was not listed before" // into who knows what
	_, err = r.Refresh(t.Context(), subnet.Entry{})
	etcdtest.WantError(t, err, unknown)
	etcdtest.WantError(t, r.Delete(t.Context(), subnet.Entry{}), unknown)
}

// TestOnlyV2GetsThrough has a proxy of old in front of etcd.
func TestOnlyV2GetsThrough(t *testing.T) {
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	to, err := url.Parse(etcd.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	carrier := &http.Transport{}
	t.Cleanup(carrier.CloseIdleConnections)
	r := web(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: carrier, ErrorLog: log.New(io.Discard, "", 0)})
	etcd.Set(prefix+"/subnets/172.7.21.0-24", "{}")
	if s := etcdtest.List(t, r); len(s.Entries) != 1 || s.Index != 0 || r.Chosen() != Auto {
		t.Errorf("chose %v with %+v", r.Chosen(), s)
	}
	etcd.Set(config, "{}")
	if s := etcdtest.List(t, r); len(s.Entries) != 2 || s.Index == 0 || r.Chosen() != V2 {
		t.Errorf("chose %v with %+v", r.Chosen(), s)
	}
	etcdtest.Put(t, r, subnet.Entry{Key: "subnets/172.7.22.0-24", Value: "x", TTL: time.Hour})
	if etcd.Get(prefix+"/subnets/172.7.22.0-24") == nil {
		t.Error("not written")
	}
}
