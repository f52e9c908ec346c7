package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/client/v2"

	"flanneld/internal/lab"
)

// A password from a file or the environment gets flanneld in, and shows nowhere.
func TestPassword(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	etcd := l.EtcdOn(lab.EtcdOptions{}, l.Host("hdss7-12", "10.4.7.12/24"))
	etcd.Set(configKey, hostGW)
	users, roles := client.NewAuthUserAPI(etcd.Client()), client.NewAuthRoleAPI(etcd.Client())
	for _, do := range []func() error{
		func() error { return users.AddUser(t.Context(), "root", "root") },
		func() error { return users.AddUser(t.Context(), "flannel", "s3cret") },
		func() error { return roles.AddRole(t.Context(), "network") },
		func() error {
			_, err := roles.GrantRoleKV(t.Context(), "network", []string{"/coreos.com/network/*"}, client.ReadWritePermission)
			return err
		},
		func() error { _, err := users.GrantUser(t.Context(), "flannel", []string{"network"}); return err },
		func() error { return roles.AddRole(t.Context(), "guest") }, // who may do nothing
		func() error { return client.NewAuthAPI(etcd.Client()).Enable(t.Context()) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "password")
	write(t, file, "s3cret\n")
	wrong := filepath.Join(t.TempDir(), "password")
	write(t, wrong, "not-s3cret\n")
	for i, tt := range []struct {
		arg, env string
		refused  bool
	}{
		{arg: "--etcd-password-file=" + file},
		{env: "FLANNELD_ETCD_PASSWORD_FILE=" + file},
		{env: "FLANNELD_ETCD_PASSWORD=s3cret"},
		{arg: "--etcd-password-file=" + wrong, refused: true},
	} {
		h := l.Host(fmt.Sprintf("hdss7-%d", 21+i), fmt.Sprintf("10.4.7.%d/24", 21+i))
		d := h.FlanneldAs(func(o *lab.FlanneldOptions) {
			o.Args = append(o.Args, "--etcd-username=flannel")
			if o.Env = []string{tt.env}; tt.env == "" {
				o.Args, o.Env = append(o.Args, tt.arg), nil
			}
		})
		if tt.refused {
			d.WaitLog("http://10.4.7.12:2379 wants a user with other rights or another password")
		} else {
			d.WaitReady()
		}
		if shown := read(t, fmt.Sprintf("/proc/%d/cmdline", d.PID)) + d.Log(); strings.Contains(shown, "s3cret") {
			t.Errorf("%s%s: the password shows in\n%s", tt.arg, tt.env, shown)
		}
	}
}
