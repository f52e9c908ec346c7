package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestPassword has an etcd with the users and roles of docs/security.md: a password from
// a file or the environment gets flanneld in, and shows nowhere.
func TestPassword(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options lab.EtcdOptions
		secure  func(*testing.T, *machine)
		remove  string // what removes a key
		get     string
	}{
		{"v3", lab.EtcdOptions{NoV2: true}, authV3, "etcdctl --user=root:s3cret del ", "etcdctl --user=root:s3cret get "},
		{"v2", lab.EtcdOptions{}, authV2, rootV2 + "rm ", rootV2 + "get "},
		{"both, keys in v2", lab.EtcdOptions{}, func(t *testing.T, m *machine) { authV3(t, m); authV2(t, m) }, rootV2 + "rm ", rootV2 + "get "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			store := l.Host("hdss7-12", "10.4.7.12/24")
			l.EtcdOn(tt.options, store).Set(configKey, hostGW)
			m := newMachine(t, store)
			m.put(lab.Etcdctl(t), "/usr/local/lib/etcdctl", 0o755)
			m.write("/usr/local/sbin/etcdctl", "#!/bin/sh\nexec /usr/local/lib/etcdctl --endpoints=http://10.4.7.12:2379 \"$@\"\n", 0o755)
			early := l.Host("hdss7-20", "10.4.7.20/24").SubnetEnv("172.7.20.1/24").FlanneldAs(func(o *lab.FlanneldOptions) {
				o.Args, o.Env = append(o.Args, "--etcd-username=flannel"), []string{"FLANNELD_ETCD_PASSWORD=s3cret"}
			})
			early.WaitReady() // with a password that nobody asks for yet
			tt.secure(t, m)
			m.sh(tt.remove + leases + "172.7.20.0-24")
			eventually(t, "its lease again", func() string {
				out, _ := m.try(tt.get + leases + "172.7.20.0-24")
				return fmt.Sprint(strings.Contains(out, "10.4.7.20"))
			}, "true")
			m.types(docs.Containing(t, "docs/security.md", "/etc/flanneld.password"))
			if mode := m.sh("stat -c %a /etc/flanneld.password"); mode != "600" {
				t.Errorf("the password's file has mode %s", mode)
			}
			testPassword(t, l, m.path("/etc/flanneld.password"))
		})
	}
}

const rootV2 = "ETCDCTL_API=2 etcdctl --username=root:s3cret "

// etcdctl types commands for etcd, which ask for a password each.
func (m *machine) etcdctl(b docs.Block) {
	m.t.Helper()
	b.Text = "{\n" + b.Text + "} <<end\n" + strings.Repeat("s3cret\n", 10) + "end\n"
	m.types(b)
}

func authV3(t *testing.T, m *machine) {
	t.Helper()
	m.etcdctl(docs.Containing(t, "docs/security.md", "etcdctl role grant-permission network"))
	m.etcdctl(docs.Containing(t, "docs/security.md", "etcdctl auth enable"))
	for _, user := range []string{"", "--user=flannel:s3cret"} {
		if out, err := m.try("etcdctl " + user + " put /elsewhere x"); err == nil {
			t.Errorf("%s may write elsewhere: %s", user, out)
		}
	}
}

func authV2(t *testing.T, m *machine) {
	t.Helper()
	m.etcdctl(docs.Containing(t, "docs/security.md", "export ETCDCTL_API=2"))
	for _, do := range []string{"set /elsewhere x", "get " + configKey, "--username=flannel:s3cret set /elsewhere x"} {
		if out, err := m.try("ETCDCTL_API=2 etcdctl " + do); err == nil {
			t.Errorf("%s: %s", do, out)
		}
	}
}

func testPassword(t *testing.T, l *lab.Lab, file string) {
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
			d.WaitLog(" wants a user with other rights or another password")
		} else {
			d.WaitReady()
		}
		if shown := read(t, fmt.Sprintf("/proc/%d/cmdline", d.PID)) + d.Log(); strings.Contains(shown, "s3cret") {
			t.Errorf("%s%s: the password shows in\n%s", tt.arg, tt.env, shown)
		}
	}
}
