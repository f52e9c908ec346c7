package etcdv3

import (
	"context"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3"

	"flanneld/internal/lab"
	"flanneld/pkg/subnet"
)

// enableAuth has two users: root, and flannel who may do all below the prefix.
func enableAuth(t *testing.T, r *Registry, password string) {
	t.Helper()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	conn, err := r.connection(t.Context())
	must(nil, err)
	auth := pb.NewAuthClient(conn)
	ctx := clientv3.WithRequireLeader(context.Background())
	must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "root"}))
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"}))
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	options := &authpb.UserAddOptions{NoPassword: password == ""}
	must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "flannel", Password: password, Options: options}))
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "network"}))
	first, end := r.below()
	must(auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "network", Perm: &authpb.Permission{
		PermType: authpb.Permission_READWRITE, Key: first, RangeEnd: end,
	}}))
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "flannel", Role: "network"}))
	must(auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
}

// canAll goes through all that a daemon does.
func canAll(t *testing.T, r *Registry) {
	t.Helper()
	w := follow(t, r, list(t, r).Index).stands()
	a := put(t, r, subnet.Entry{Key: lease, Value: "a", TTL: time.Hour})
	w.next("a")
	for _, ttl := range []time.Duration{time.Hour, 2 * time.Hour} {
		a.TTL = ttl
		var err error
		if a, err = r.Refresh(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	w.next("a")
	if _, err := r.ListExact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	w.next("")
	w.end()
}

func TestPasswords(t *testing.T) {
	onEach(t, func(t *testing.T, etcd *lab.Etcd) {
		enableAuth(t, open(t, Config{Endpoints: etcd.Endpoints()}), "s3cret")
		r := open(t, Config{Endpoints: etcd.Endpoints(), Username: "flannel", Password: "s3cret"})
		canAll(t, r)
		for _, tt := range []struct {
			config Config
			says   string
		}{
			{Config{Username: "flannel", Password: "s3cret2"}, "authentication failed, invalid user ID or password"},
			{Config{Username: "nobody", Password: "s3cret"}, "authentication failed, invalid user ID or password"},
			{Config{}, "user name is empty"},
			{Config{Username: "flannel", Password: "s3cret", Prefix: "/elsewhere"}, "permission denied"},
		} {
			tt.config.Endpoints = etcd.Endpoints()
			r := open(t, tt.config)
			says := "wants a user with other rights or another password: " + tt.says
			_, err := r.List(t.Context())
			saysWhat(t, err, "list ", says)
			_, err = r.Put(t.Context(), subnet.Entry{Key: lease, TTL: time.Hour})
			saysWhat(t, err, "write ", says)
			saysWhat(t, r.Delete(t.Context(), subnet.Entry{Key: lease, Modified: 1}), "delete ", says)
			saysWhat(t, follow(t, r, 1).fails(), "watch ", says)
		}
		// etcd forgets tokens when it starts anew.
		w := follow(t, r, list(t, r).Index).stands()
		etcd.Kill()
		if err := w.fails(); err == nil {
			t.Error("no error")
		}
		etcd.Start()
		lab.Eventually(t, patience, "a new token", func() error { _, err := r.List(t.Context()); return err })
		canAll(t, r)
	})
}

// TestCertificateIsAUser takes the user's name from the client certificate.
func TestCertificateIsAUser(t *testing.T) {
	t.Parallel()
	ca := lab.NewCA(t, "ca")
	etcd := lab.StartEtcd(t, lab.EtcdOptions{API: 3, TLS: ca})
	as := func(name string) *Registry {
		cert := ca.Client(name, time.Hour)
		return open(t, Config{Endpoints: etcd.Endpoints(), CAFile: ca.File, CertFile: cert.CertFile, KeyFile: cert.KeyFile})
	}
	enableAuth(t, as("root"), "")
	canAll(t, as("flannel"))
	_, err := as("nobody").List(t.Context())
	saysWhat(t, err, etcd.Endpoints()[0]+" wants a user with other rights or another password: ")
}
