package etcdconn

import (
	"path"
	"strings"
	"testing"
)

func TestDir(t *testing.T) {
	for given, want := range map[string]string{
		"/coreos.com/network": "/coreos.com/network", "coreos.com/network/": "/coreos.com/network", "//a//b": "/a/b", "/": "", "": "",
	} {
		if got := (Config{Prefix: given}).Dir(); got != want {
			t.Errorf("%q is the directory %q, want %q", given, got, want)
		}
	}
}

// FuzzKey reads keys as the store may have them.
func FuzzKey(f *testing.F) {
	for _, key := range []string{"/p/config", "/p/subnets/172.7.21.0-24", "/p/subnets/", "/p/", "/p", "/p2/config", "/p/subnets/a/b", "/p/../config", "/p//x", "\xff"} {
		f.Add("/p", key)
	}
	f.Fuzz(func(t *testing.T, prefix, absolute string) {
		key, ok := Key(prefix, absolute)
		if !ok {
			return
		}
		if dir := path.Dir(key); prefix+"/"+key != absolute || key == "" || strings.HasSuffix(key, "/") || dir != "." && dir != leaseDir {
			t.Errorf("%q below %q is %q", absolute, prefix, key)
		}
	})
}
