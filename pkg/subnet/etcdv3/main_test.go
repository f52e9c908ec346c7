package etcdv3

import (
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
)

func TestMain(m *testing.M) {
	lab.NeedEtcd()
	lab.NeedNewestEtcd()
	lab.NeedEtcdctl()
	lab.Main(m)
}

const (
	prefix = etcdtest.Prefix
	lease  = etcdtest.Lease
)

// open makes a Registry that ends with t.
func open(t testing.TB, c Config) *Registry {
	t.Helper()
	return etcdtest.Open(t, c, New)
}

// kinds are those of etcd that there are, the keys of which the lab reads by the
// v3 API.
func kinds() []etcdtest.Kind {
	return []etcdtest.Kind{{Name: "3.5", EtcdOptions: lab.EtcdOptions{API: 3}}, {Name: "newest", EtcdOptions: lab.EtcdOptions{Newest: true}}}
}

// TestClient holds this client to what it has in common with the other one.
func TestClient(t *testing.T) {
	impatient := productLimits()
	impatient.connect, impatient.attempt, impatient.silence, impatient.pong = 500*time.Millisecond, 2*time.Second, time.Second, time.Second
	etcdtest.Suite{
		Kinds:     kinds(),
		New:       func(c Config) (etcdtest.Registry, error) { return New(c) },
		Impatient: func(c Config) (etcdtest.Registry, error) { return newRegistry(c, impatient) },
		Lossy:     lossy,
		EnableAuth: func(t *testing.T, etcd *lab.Etcd, password string) {
			enableAuth(t, open(t, Config{Endpoints: etcd.Endpoints()}), password)
		},
		SetPassword: setPassword,
		Unlisted:    []string{"/subnets/", ""},
		NoLeader:    "no leader", Snapshots: true,
	}.Run(t)
}
