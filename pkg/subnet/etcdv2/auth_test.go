package etcdv2

import (
	"testing"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

func TestBasicAuth(t *testing.T) {
	etcd := startEtcd(t, lab.EtcdOptions{})
	etcd.Set("/elsewhere/config", "{}")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	users, roles := client.NewAuthUserAPI(etcd.Client()), client.NewAuthRoleAPI(etcd.Client())
	must(users.AddUser(t.Context(), "root", "root"))
	must(users.AddUser(t.Context(), "flannel", "s3cret"))
	must(roles.AddRole(t.Context(), "network"))
	// As its users grant it: to what lies below the prefix.
	_, err := roles.GrantRoleKV(t.Context(), "network", []string{prefix + "/*"}, client.ReadWritePermission)
	must(err)
	_, err = users.GrantUser(t.Context(), "flannel", []string{"network"})
	must(err)
	must(roles.AddRole(t.Context(), "guest")) // who may do nothing
	must(client.NewAuthAPI(etcd.Client()).Enable(t.Context()))

	r := open(t, Config{Endpoints: etcd.Endpoints(), Username: "flannel", Password: "s3cret"})
	start := list(t, r).Index
	w := follow(t, r, start).stands()
	a := put(t, r, subnet.Entry{Key: lease, Value: "a", TTL: time.Hour})
	w.next("a")
	a, err = r.Refresh(t.Context(), a)
	must(err)
	must(r.Delete(t.Context(), a))
	w.next("")
	w.end()
	_, err = r.ask(t.Context())
	must(err)

	for _, c := range []Config{
		{Username: "flannel", Password: "s3cret2"},
		{Username: "nobody", Password: "s3cret"},
		{},
		{Username: "flannel", Password: "s3cret", Prefix: "/elsewhere"},
	} {
		c.Endpoints = etcd.Endpoints()
		r := open(t, c)
		const says = "wants a user with other rights or another password: The request requires user authentication (Insufficient credentials)"
		_, err := r.List(t.Context())
		saysWhat(t, err, "list ", etcd.Endpoints()[0], says)
		_, err = r.Put(t.Context(), subnet.Entry{Key: lease})
		saysWhat(t, err, "write ", says)
		saysWhat(t, r.Delete(t.Context(), subnet.Entry{Key: lease, Modified: 1}), "delete ", says)
		saysWhat(t, follow(t, r, start).fails(), says)
	}
}
