package main

import (
	"bytes"
	"context"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"flanneld/internal/lab"
)

// TestGuardedV3 has an etcd with authentication in v3 and an open v2 store beside
// it. No command writes into that one by itself, with or without a password.
func TestGuardedV3(t *testing.T) {
	t.Parallel()
	const dir = "/coreos.com/network"
	const config = `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}`
	etcd := lab.StartEtcd(t, lab.EtcdOptions{})
	etcd.API(3).Set(dir+"/config", config)
	guard(t, etcd)
	run := func(args ...string) (string, error) { return runOn(t, etcd, args...) }
	root := []string{"--etcd-username=root", "--etcd-password=s3cret"}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"config", "set", config}, "undecided between etcd's two stores: " + dir + "/config is not in the v2 store, and the v3 store cannot be read: "},
		{[]string{"config", "get"}, "undecided between etcd's two stores"},
		{[]string{"lease", "reserve", "172.7.21.0/24", "10.4.7.21"}, "undecided between etcd's two stores"},
		{append([]string{"migrate", "--from=3", "--to=2", "--yes"}, root...), "nothing was written: etcd's v2 store needs no password while the v3 store does"},
	} {
		out, err := run(tt.args...)
		if err == nil || !strings.Contains(out, tt.says) {
			t.Errorf("%s: %v\n%s\nwant %s", tt.args, err, out, tt.says)
		}
	}
	if keys := etcd.API(2).Keys("/"); len(keys) > 0 {
		t.Errorf("written into the open store: %v", keys)
	}
	if out, err := run(append([]string{"lease", "reserve", "172.7.21.0/24", "10.4.7.21"}, root...)...); err != nil {
		t.Errorf("with the password: %v\n%s", err, out)
	}
	if keys := etcd.API(2).Keys("/"); len(keys) > 0 {
		t.Errorf("written into the open store: %v", keys)
	}
	if out, err := run("config", "set", "--etcd-api=2", config); err == nil || !strings.Contains(out, "Etcd's v3 store, which hosts may use, cannot be read: ") {
		t.Errorf("asked for by the flag: %v\n%s", err, out)
	}
}

// runOn runs a command on an etcd.
func runOn(t *testing.T, etcd *lab.Etcd, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, lab.Binary(t), append(args, "--etcd-endpoints="+etcd.Endpoints()[0])...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// guard turns authentication on in the v3 store, where root may do all.
func guard(t *testing.T, etcd *lab.Etcd) {
	t.Helper()
	u, err := url.Parse(etcd.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(u.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	auth := pb.NewAuthClient(conn)
	_, add := auth.UserAdd(t.Context(), &pb.AuthUserAddRequest{Name: "root", Password: "s3cret"})
	_, grant := auth.UserGrantRole(t.Context(), &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	_, enable := auth.AuthEnable(t.Context(), &pb.AuthEnableRequest{})
	if add != nil || grant != nil || enable != nil {
		t.Fatal(add, grant, enable)
	}
}
