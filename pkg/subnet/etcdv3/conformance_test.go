package etcdv3

import (
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

// compacting is a Registry whose etcd forgets.
type compacting struct {
	*Registry
	etcd *lab.Etcd
}

func (c compacting) Compact(t *testing.T, index uint64) { c.etcd.Compact(index) }

func TestConformance(t *testing.T) {
	for name, o := range releases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			etcd := lab.StartEtcd(t, o)
			subnettest.Conformance(t, func(t *testing.T) subnet.Registry {
				return compacting{open(t, Config{Endpoints: etcd.Endpoints(), Prefix: "/" + strings.ReplaceAll(t.Name(), "/", "-")}), etcd}
			})
		})
	}
}
