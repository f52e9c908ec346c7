package etcdv2

import (
	"testing"

	"go.etcd.io/etcd/client/v2"

	"flanneld/internal/lab"
)

// enableAuth grants rights as users do: to what lies below the prefix. Who has
// no name may do nothing.
func enableAuth(t *testing.T, etcd *lab.Etcd, password string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	users, roles := client.NewAuthUserAPI(etcd.Client()), client.NewAuthRoleAPI(etcd.Client())
	must(users.AddUser(t.Context(), "root", "root"))
	must(users.AddUser(t.Context(), "flannel", password))
	must(roles.AddRole(t.Context(), "network"))
	_, err := roles.GrantRoleKV(t.Context(), "network", []string{prefix + "/*"}, client.ReadWritePermission)
	must(err)
	_, err = users.GrantUser(t.Context(), "flannel", []string{"network"})
	must(err)
	must(roles.AddRole(t.Context(), "guest"))
	must(client.NewAuthAPI(etcd.Client()).Enable(t.Context()))
}

// setPassword is what root does.
func setPassword(t *testing.T, etcd *lab.Etcd, password string) {
	t.Helper()
	root, err := client.New(client.Config{Endpoints: etcd.Endpoints(), Username: "root", Password: "root"})
	if err == nil {
		_, err = client.NewAuthUserAPI(root).ChangePassword(t.Context(), "flannel", password)
	}
	if err != nil {
		t.Fatal(err)
	}
}
