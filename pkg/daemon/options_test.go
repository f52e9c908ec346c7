package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"flanneld/pkg/subnet/etcdauto"
)

// TestCommand: a command line for a shell of another folder, with what the daemon was told of etcd, and no password.
func TestCommand(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		etcd Etcd
		want string
	}{
		{Etcd{Endpoints: []string{"http://10.4.7.12:2379"}, Prefix: "/coreos.com/network"}, "flanneld lease list --etcd-endpoints=http://10.4.7.12:2379"},
		{Etcd{
			Endpoints: []string{"https://a:2379", "https://b:2379"}, Prefix: "/my net", API: etcdauto.V3, KeyFile: "/k.pem", CertFile: "c.pem",
			CAFile: "/it's/ca.pem", Username: "root", Password: "secret", PasswordFile: "/run/pw",
		}, `flanneld lease list --etcd-endpoints=https://a:2379,https://b:2379 '--etcd-prefix=/my net' --etcd-api=3 --etcd-keyfile=/k.pem --etcd-certfile=` +
			filepath.Join(here, "c.pem") + ` '--etcd-cafile=/it'\''s/ca.pem' --etcd-username=root --etcd-password-file=/run/pw`},
	} {
		if got := tt.etcd.Command("lease", "list"); got != tt.want {
			t.Errorf("%s\nwant %s", got, tt.want)
		}
	}
}
