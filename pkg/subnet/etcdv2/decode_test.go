package etcdv2

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"flanneld/internal/etcdtest"
)

// TestLifetimeLeft reads nodes as etcd writes them.
func TestLifetimeLeft(t *testing.T) {
	const due = `"expiration":"2026-01-02T03:04:05.678Z"`
	for _, tt := range []struct {
		fields string
		want   time.Duration
	}{
		{``, 0},
		{`,` + due + `,"ttl":86400`, 24 * time.Hour},
		{`,` + due + `,"ttl":1`, time.Second},
		{`,` + due, time.Second}, // due now, and etcd leaves a ttl of 0 out
		{`,` + due + `,"ttl":-300`, time.Second},
		{`,` + due + `,"ttl":9223372036854775807`, (1 << 33) * time.Second},
	} {
		r := open(t, Config{Endpoints: []string{"http://127.0.0.1:2379"}})
		r.members.wire = fixed(func() *http.Response {
			reply := fmt.Sprintf(`{"node":{"key":"/coreos.com/network","dir":true,"nodes":[{"key":"/coreos.com/network/config","value":"a"%s}]}}`, tt.fields)
			header := http.Header{clusterHeader: {"a"}, indexHeader: {"9"}}
			return &http.Response{StatusCode: http.StatusOK, Header: header, Body: io.NopCloser(strings.NewReader(reply))}
		})
		if e := etcdtest.List(t, r).Entries[0]; e.TTL != tt.want {
			t.Errorf("%s is read as %v, want %v", tt.fields, e.TTL, tt.want)
		}
	}
}
