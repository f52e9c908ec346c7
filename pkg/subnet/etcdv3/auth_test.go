package etcdv3

import (
	"context"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/v3"

	"flanneld/internal/etcdtest"
	"flanneld/internal/lab"
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
	conn, _, err := r.connection(t.Context())
	must(nil, err)
	auth := pb.NewAuthClient(conn)
	ctx := clientv3.WithRequireLeader(context.Background())
	must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "root"}))
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"}))
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"}))
	options := &authpb.UserAddOptions{NoPassword: password == ""}
	must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "flannel", Password: password, Options: options}))
	must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "network"}))
	first, end := below(r.Dir())
	must(auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "network", Perm: &authpb.Permission{
		PermType: authpb.Permission_READWRITE, Key: first, RangeEnd: end,
	}}))
	must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "flannel", Role: "network"}))
	must(auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
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
	etcdtest.CanAll(t, as("flannel"))
	_, err := as("nobody").List(t.Context())
	etcdtest.WantError(t, err, etcd.Endpoints()[0]+" wants a user with other rights or another password: ")
}

// setPassword is what root does.
func setPassword(t *testing.T, etcd *lab.Etcd, password string) {
	t.Helper()
	root := open(t, Config{Endpoints: etcd.Endpoints(), Username: "root", Password: "root"})
	conn, _, err := root.connection(t.Context())
	if err == nil {
		request := &pb.AuthUserChangePasswordRequest{Name: "flannel", Password: password}
		_, err = pb.NewAuthClient(conn).UserChangePassword(clientv3.WithRequireLeader(t.Context()), request)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestRenewWhileConnecting: a connection that was being made with the former password does not
// take the place of the new one.
func TestRenewWhileConnecting(t *testing.T) {
	t.Parallel()
	etcd := lab.StartEtcd(t, lab.EtcdOptions{API: 3})
	r := open(t, Config{Endpoints: etcd.Endpoints()})
	r.opening <- struct{}{}
	former, err := r.newClient(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	renewed := make(chan error, 1)
	go func() { renewed <- r.Renew(t.Context(), "") }()
	time.Sleep(time.Second) // for one that does not wait to end
	r.mu.Lock()
	r.client = former
	r.mu.Unlock()
	<-r.opening
	err = <-renewed
	r.mu.Lock()
	now := r.client
	r.mu.Unlock()
	if err != nil || now == former || now == nil {
		t.Errorf("%v; client %p, former %p", err, now, former)
	}
	etcdtest.CanAll(t, r)
}
