package etcdconn_test

import (
	"path"
	"strings"
	"testing"

	"flanneld/internal/etcdtest"
	"flanneld/pkg/subnet/etcdconn"
)

func TestBadEndpoints(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:2379", "http://", "ftp://127.0.0.1", "http://u:s3cret@127.0.0.1:2379", "http://u:s3cret", "http://u:%s3cret@h", ""} {
		err := etcdconn.Config{Endpoints: []string{"http://127.0.0.1:2379", endpoint}}.Check()
		etcdtest.WantError(t, err, "etcd endpoint 2 of 2 is not of the form https://10.4.7.12:2379")
	}
	etcdtest.WantError(t, etcdconn.Config{}.Check(), "use the etcd endpoints: there are none")
	if err := (etcdconn.Config{Endpoints: []string{"http://127.0.0.1", "https://[::1]:2379", "https://etcd.example/"}}).Check(); err != nil {
		t.Error(err)
	}
}

func TestDir(t *testing.T) {
	for given, want := range map[string]string{
		"/coreos.com/network": "/coreos.com/network", "coreos.com/network/": "/coreos.com/network", "//a//b": "/a/b", "/": "", "": "",
	} {
		if got := (etcdconn.Config{Prefix: given}).Dir(); got != want {
			t.Errorf("%q is the directory %q, want %q", given, got, want)
		}
	}
}

func TestLeaseDir(t *testing.T) {
	key := etcdconn.LeaseDir(etcdconn.Config{Prefix: "coreos.com/network/"}.Dir()) + "/172.7.21.0-24"
	if got, ok := etcdconn.Key("/coreos.com/network", key); key != "/coreos.com/network/subnets/172.7.21.0-24" || got != "subnets/172.7.21.0-24" || !ok {
		t.Errorf("%s is the entry %q, %v", key, got, ok)
	}
}

// FuzzKey reads keys as the store may have them.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"/p/config", "/p/subnets/172.7.21.0-24", "/p/subnets/", "/p/", "/p", "/p2/config", "/p/subnets/a/b", "/p/../config", "/p//x", "\xff"} {
		f.Add("/p", key)
	}
	f.Fuzz(func(t *testing.T, prefix, absolute string) {
		key, ok := etcdconn.Key(prefix, absolute)
		if !ok {
			return
		}
		if dir := path.Dir(key); prefix+"/"+key != absolute || key == "" || strings.HasSuffix(key, "/") || dir != "." && dir != "subnets" {
			t.Errorf("%q below %q is %q", absolute, prefix, key)
		}
	})
}

func TestAdviseOnPorts(t *testing.T) {
	for _, tt := range []struct{ endpoints, answered, want string }{
		{"http://10.4.7.12:2379", "", ""},
		{"http://10.4.7.12", "", "; http://10.4.7.12 names no port, so 80 was tried: etcd's is 2379"},
		{"https://etcd.example/", "", "; https://etcd.example/ names no port, so 443 was tried: etcd's is 2379"},
		{"http://a http://b:2379 http://[fd00::1] http://a", "", "; http://a, http://[fd00::1] name no port, so 80 was tried: etcd's is 2379"},
		{"http://a https://b", "", "; http://a names no port, so 80 was tried: etcd's is 2379; https://b names no port, so 443 was tried: etcd's is 2379"},
		{"http://a https://b", "http://a", "; https://b names no port, so 443 was tried: etcd's is 2379"}, // a proxy
	} {
		if got := etcdconn.AdviseOnPorts(strings.Fields(tt.endpoints), tt.answered); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.endpoints, got, tt.want)
		}
	}
}

func TestSpellings(t *testing.T) {
	for given, want := range map[string][2]string{
		"/coreos.com/network": {"/coreos.com/network", "coreos.com/network"}, "coreos.com/network/": {"coreos.com/network", "/coreos.com/network"},
		"//a//b": {"/a/b", "a/b"}, "a": {"a", "/a"}, "/": {}, "": {},
	} {
		if got := (etcdconn.Config{Prefix: given}).Spellings(); got != want {
			t.Errorf("%q may mean %q, want %q", given, got, want)
		}
	}
}
