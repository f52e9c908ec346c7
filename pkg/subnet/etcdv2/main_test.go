package etcdv2

import (
	"testing"
	"time"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
)

func TestMain(m *testing.M) {
	lab.NeedEtcd()
	lab.Main(m)
}

const (
	prefix   = etcdtest.Prefix
	lease    = etcdtest.Lease
	patience = etcdtest.Patience
)

// open makes a Registry that ends with t.
func open(t testing.TB, c Config, change ...func(*limits)) *Registry {
	t.Helper()
	l := productLimits()
	for _, f := range change {
		f(&l)
	}
	return etcdtest.Open(t, c, func(c Config) (*Registry, error) { return newRegistry(c, l) })
}

// TestClient holds this client to what it has in common with the other one.
func TestClient(t *testing.T) {
	impatient := productLimits()
	impatient.connect, impatient.header, impatient.silence, impatient.watch = 500*time.Millisecond, time.Second, time.Second, time.Second
	impatient.probe = time.Second
	etcdtest.Suite{
		Kinds:      []etcdtest.Kind{{Name: "3.5"}},
		New:        func(c Config) (etcdtest.Registry, error) { return New(c) },
		Impatient:  func(c Config) (etcdtest.Registry, error) { return newRegistry(c, impatient) },
		Lossy:      lossy,
		EnableAuth: enableAuth, SetPassword: setPassword,
		Unlisted: []string{"/_hidden"},
	}.Run(t)
}
