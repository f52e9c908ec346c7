package etcdauto

import (
	"encoding/pem"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/etcdconn"
)

const password = "s3cret"

// guardV3 turns authentication on in the v3 store, where root may do all.
func guardV3(t *testing.T, etcd *lab.Etcd) {
	t.Helper()
	u, err := url.Parse(etcd.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	auth := pb.NewAuthClient(conn)
	_, add := auth.UserAdd(t.Context(), &pb.AuthUserAddRequest{Name: "root", Password: password})
	_, grant := auth.UserGrantRole(t.Context(), &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	_, enable := auth.AuthEnable(t.Context(), &pb.AuthEnableRequest{})
	if add != nil || grant != nil || enable != nil {
		t.Fatal(add, grant, enable)
	}
}

func guardV2(t *testing.T, etcd *lab.Etcd) {
	t.Helper()
	add := client.NewAuthUserAPI(etcd.Client()).AddUser(t.Context(), "root", password)
	enable := client.NewAuthAPI(etcd.Client()).Enable(t.Context())
	if add != nil || enable != nil {
		t.Fatal(add, enable)
	}
}

// TestNobodyTakesAGuardedClusterOver has an etcd 3.5 with authentication in its v3
// store, and an open v2 store beside it.
func TestNobodyTakesAGuardedClusterOver(t *testing.T) {
	t.Parallel()
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	etcd.API(3).Set(config, "3")
	guardV3(t, etcd)
	as := func(user string) *Registry {
		c := etcdconn.Config{Endpoints: etcd.Endpoints(), Username: user, Password: password}
		return etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) })
	}
	for range 2 { // before and after a key is planted by hand
		stranger := as("")
		_, err := stranger.List(t.Context())
		etcdtest.WantError(t, err, "undecided between etcd's two stores: ", etcd.Endpoints()[0]+" wants a user with other rights or another password")
		if _, err := stranger.Put(t.Context(), subnet.Entry{Key: subnet.ConfigKey, Value: "planted"}); err == nil {
			t.Error("a stranger has written the config")
		}
		if host := as("root"); etcdtest.List(t, host).Find(subnet.ConfigKey).Value != "3" || host.Chosen() != V3 {
			t.Errorf("a host that starts goes by %v", host.Chosen())
		}
		etcd.API(2).Set(config, "planted")
		etcd.API(2).Set(prefix+"/subnets/172.7.21.0-24", "{}")
	}
	for api, want := range map[API]string{V2: "planted", V3: "3"} { // and the flag has the last word
		c := etcdconn.Config{Endpoints: etcd.Endpoints(), Username: "root", Password: password}
		r := etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, api) })
		if got := etcdtest.List(t, r).Find(subnet.ConfigKey).Value; got != want {
			t.Errorf("%v has %q", api, got)
		}
	}
}

// TestBothStoresAreGuarded goes on with v2, as with both open.
func TestBothStoresAreGuarded(t *testing.T) {
	t.Parallel()
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	for api := range map[int]bool{2: true, 3: true} {
		etcd.API(api).Set(config, "x")
	}
	guardV2(t, etcd)
	guardV3(t, etcd)
	c := etcdconn.Config{Endpoints: etcd.Endpoints(), Username: "root", Password: password}
	r := etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) })
	if etcdtest.List(t, r); r.Chosen() != V2 {
		t.Errorf("chose %v", r.Chosen())
	}
}

// TestProtected asks each kind of etcd whether it wants to know its clients.
func TestProtected(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]lab.EtcdOptions{"3.5": {}, "newest": {Newest: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := lab.StartEtcd(t, o)
			apis := []API{V3}
			if !o.Newest {
				apis = append(apis, V2)
			}
			for _, want := range []bool{false, true} {
				for _, api := range apis {
					s, err := Open(etcdconn.Config{Endpoints: etcd.Endpoints()}, api)
					if err != nil {
						t.Fatal(err)
					}
					_, _ = s.List(t.Context())
					if got, err := s.Protected(t.Context()); got != want || err != nil {
						t.Errorf("%v: %v, %v, want %v", api, got, err, want)
					}
					s.Close()
				}
				if !want {
					guardV3(t, etcd)
					if !o.Newest {
						guardV2(t, etcd)
					}
				}
			}
		})
	}
}

// TestProxyOfHTTP2 has a proxy that speaks HTTP/2 and hands on HTTP/1: v2 gets
// through, and gRPC is told that there is no such page.
func TestProxyOfHTTP2(t *testing.T) {
	t.Parallel()
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	etcd.Set(config, "2")
	to, err := url.Parse(etcd.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	c := etcdconn.Config{Endpoints: []string{server.URL}, CAFile: writeCA(t, server)}
	r := etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) })
	if etcdtest.List(t, r); r.Chosen() != V2 {
		t.Errorf("chose %v", r.Chosen())
	}
}

// TestTLSWithoutHTTP2 has a proxy that agrees to no HTTP/2 at all.
func TestTLSWithoutHTTP2(t *testing.T) {
	t.Parallel()
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	etcd.Set(config, "2")
	to, err := url.Parse(etcd.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	t.Cleanup(server.Close)
	c := etcdconn.Config{Endpoints: []string{server.URL}, CAFile: writeCA(t, server)}
	r := etcdtest.Open(t, c, func(c etcdconn.Config) (*Registry, error) { return New(c, Auto) })
	if etcdtest.List(t, r); r.Chosen() != V2 {
		t.Errorf("chose %v", r.Chosen())
	}
}

// writeCA is the file of what a server's certificate is to be trusted by.
func writeCA(t *testing.T, server *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
