package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v2"

	"flanneld/internal/lab"
)

// rights is an etcd with a user flannel, whose role network may do nothing yet.
type rights interface {
	grant(access string) // "read" or "readwrite", to all beneath /coreos.com/network/
}

// TestCheckRights has an etcd that denies what flanneld needs.
func TestCheckRights(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options lab.EtcdOptions
		secure  func(*testing.T, *lab.Host, *lab.Etcd) rights
		line    int // of the fix, while flanneld does not know yet by which API
		fix     string
	}{
		{"v2", lab.EtcdOptions{}, secureV2, 1, "ETCDCTL_API=2 etcdctl role grant ROLE --readwrite --path '/coreos.com/network/*'"},
		{"v3", lab.EtcdOptions{NoV2: true}, secureV3, 0, "ETCDCTL_API=3 etcdctl role grant-permission ROLE --prefix=true readwrite /coreos.com/network/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			store := l.Host("hdss7-12", "10.4.7.12/24")
			etcd := l.EtcdOn(tt.options, store)
			etcd.Set(configKey, hostGW)
			r := tt.secure(t, store, etcd)
			h := &node{Host: l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")}
			h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
				o.Args, o.Env = append(o.Args, "--etcd-username=flannel"), []string{"FLANNELD_ETCD_PASSWORD=s3cret"}
			})
			trouble{on: h, step: "etcd", text: "wants a user with other rights or another password", line: tt.line, fix: tt.fix}.expect(t)
			r.grant("read")
			trouble{on: h, step: "etcd", text: "this host's lease cannot be written: ", fix: tt.fix, notes: []string{"docker"}, repair: func() { r.grant("readwrite") }}.find(t)
		})
	}
}

// TestCheckExpiredLease has a lease that runs out as it may not be renewed, and
// then nobody can say who has it.
func TestCheckExpiredLease(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := l.Host("hdss7-12", "10.4.7.12/24")
	etcd := l.EtcdOn(lab.EtcdOptions{}, store)
	etcd.Set(configKey, hostGW)
	const key, lease = leases + "172.7.21.0-24", `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`
	etcd.SetTTL(key, lease, time.Hour)
	r := secureV2(t, store, etcd)
	r.grant("read")
	h := &node{Host: l.Host("hdss7-21", "10.4.7.21/24")}
	h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
		o.Args, o.Env = append(o.Args, "--etcd-username=flannel"), []string{"FLANNELD_ETCD_PASSWORD=s3cret"}
	})
	h.daemon.WaitReady()
	if _, err := client.NewKeysAPI(r.(rightsV2).root).Set(t.Context(), key, lease, &client.SetOptions{TTL: 4 * time.Second}); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, soon, "the lease's end to be known", func() error {
		if s := statusOf(t, h.Host); s.Lease == nil || time.Until(s.Lease.Expires) > time.Minute {
			return fmt.Errorf("%+v", s.Lease)
		}
		return nil
	})
	etcd.Stop()
	trouble{on: h, step: "etcd", text: "etcd cannot be read: ", after: []string{"lease"}, fix: "systemctl start etcd", notes: []string{"docker"}, repair: func() {
		found, _ := checked(t, h, "")
		if said := shown(found); !strings.Contains(said, "FAULT lease: the lease of 172.7.21.0/24 has expired on ") || !strings.Contains(said, "\n    fix what etcd says: then it is renewed at once\n") {
			t.Error(said)
		}
		etcd.Start()
		r.grant("readwrite")
	}}.find(t)
}

type rightsV2 struct {
	t    *testing.T
	root client.Client
}

func secureV2(t *testing.T, store *lab.Host, etcd *lab.Etcd) rights {
	t.Helper()
	users, roles := client.NewAuthUserAPI(etcd.Client()), client.NewAuthRoleAPI(etcd.Client())
	for _, do := range []func() error{
		func() error { return users.AddUser(t.Context(), "root", "root") },
		func() error { return users.AddUser(t.Context(), "flannel", "s3cret") },
		func() error { return roles.AddRole(t.Context(), "network") },
		func() error { _, err := users.GrantUser(t.Context(), "flannel", []string{"network"}); return err },
		func() error { return roles.AddRole(t.Context(), "guest") }, // who may do nothing
		func() error { return client.NewAuthAPI(etcd.Client()).Enable(t.Context()) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	root, err := client.New(client.Config{Endpoints: etcd.Endpoints(), Transport: &http.Transport{DialContext: store.Dial, DisableKeepAlives: true}, Username: "root", Password: "root"})
	if err != nil {
		t.Fatal(err)
	}
	return rightsV2{t, root}
}

func (r rightsV2) grant(access string) {
	r.t.Helper()
	kind := map[string]client.PermissionType{"read": client.ReadPermission, "readwrite": client.ReadWritePermission}[access]
	roles := client.NewAuthRoleAPI(r.root)
	if access == "readwrite" { // no right is granted twice
		if _, err := roles.RevokeRoleKV(r.t.Context(), "network", []string{"/coreos.com/network/*"}, client.ReadPermission); err != nil {
			r.t.Fatal(err)
		}
	}
	if _, err := roles.GrantRoleKV(r.t.Context(), "network", []string{"/coreos.com/network/*"}, kind); err != nil {
		r.t.Fatal(err)
	}
}

// rightsV3 speaks by etcd's JSON gateway.
type rightsV3 struct {
	t     *testing.T
	store *lab.Host
	token string
}

func secureV3(t *testing.T, store *lab.Host, _ *lab.Etcd) rights {
	t.Helper()
	r := &rightsV3{t: t, store: store}
	for _, call := range [][2]string{
		{"user/add", `{"name": "root", "password": "root"}`}, {"role/add", `{"name": "root"}`}, {"user/grant", `{"user": "root", "role": "root"}`},
		{"user/add", `{"name": "flannel", "password": "s3cret"}`}, {"role/add", `{"name": "network"}`}, {"user/grant", `{"user": "flannel", "role": "network"}`},
		{"enable", `{}`},
	} {
		r.call(call[0], call[1])
	}
	r.token = r.call("authenticate", `{"name": "root", "password": "root"}`).Token
	return r
}

func (r *rightsV3) grant(access string) {
	r.t.Helper()
	perm, err := json.Marshal(map[string]any{"name": "network", "perm": map[string]any{
		"permType": strings.ToUpper(access), "key": []byte("/coreos.com/network/"), "range_end": []byte("/coreos.com/network0"),
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.call("role/grant", string(perm))
}

func (r *rightsV3) call(what, body string) (answer struct{ Token string }) {
	r.t.Helper()
	request, err := http.NewRequest(http.MethodPost, "http://10.4.7.12:2379/v3/auth/"+what, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Authorization", r.token)
	reply, err := r.store.Client().Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer reply.Body.Close()
	content, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK || json.Unmarshal(content, &answer) != nil {
		r.t.Fatalf("%s: %v, %s: %s", what, err, reply.Status, content)
	}
	return answer
}
