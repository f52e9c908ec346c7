package etcdv2

import (
	"testing"

	"flanneld/internal/etcdtest"
	"flanneld/pkg/subnet"
)

func TestRenewedBeforeAWatchBegins(t *testing.T) {
	etcdtest.RenewedBeforeItBegins(t, func(endpoint string) (subnet.Registry, func()) {
		r := open(t, Config{Endpoints: []string{endpoint}})
		return r, r.watches.Renew
	})
}
