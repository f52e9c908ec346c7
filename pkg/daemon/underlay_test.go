package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flanneld/pkg/subnet/etcdconn"
)

func TestNameServers(t *testing.T) {
	dir := t.TempDir()
	path, behind := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "behind.conf")
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ path, want string }{
		{"", ""},
		{"nameserver 10.4.7.11\n", "10.4.7.11"},
		{"nameserver 127.0.0.53\n", "127.0.0.53 10.4.8.11"},
	} {
		if tt.path != "" {
			write(path, tt.path)
			write(behind, "nameserver 10.4.8.11\n")
		}
		var got []string
		for _, a := range nameServers(path, behind) {
			got = append(got, a.String())
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%q: %q, want %q", tt.path, s, tt.want)
		}
	}
}

// TestUnderlayOfACommand: where etcd is, by its endpoints.
func TestUnderlayOfACommand(t *testing.T) {
	for endpoint, local := range map[string]bool{"http://10.4.8.12:2379": false, "http://localhost:2379": true, "http://127.0.0.1:2379": true} {
		u := Etcd{Endpoints: []string{endpoint}}.Underlay(t.Context())()
		if u.Local != local || len(u.Etcd) == 0 {
			t.Errorf("%s: %+v", endpoint, u)
		}
	}
	got := EtcdNeeds(etcdconn.NewAddresses([]string{"http://10.4.8.12:2379"}))
	if len(got) != 1 || got[0].Prefix != netip.MustParsePrefix("10.4.8.12/32") || got[0].What != "etcd" {
		t.Errorf("%+v", got)
	}
}
