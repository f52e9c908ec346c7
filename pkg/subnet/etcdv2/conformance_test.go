package etcdv2

import (
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
	"flanneld/pkg/subnet/subnettest"
)

func TestConformance(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	subnettest.Conformance(t, func(t *testing.T) subnet.Registry {
		return open(t, Config{Endpoints: etcd.Endpoints(), Prefix: "/" + strings.ReplaceAll(t.Name(), "/", "-")})
	})
}
