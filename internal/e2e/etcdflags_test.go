package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestPrefixWithoutSlash has hosts that write one prefix with a slash in front and
// without. To etcd's v3 API these are two directories, and the config key is in one.
func TestPrefixWithoutSlash(t *testing.T) {
	const bare = "test-cluster/network"
	for _, tt := range []struct {
		name string
		etcd lab.EtcdOptions
		dir  string // of the config key
	}{
		{"v3, no slash", lab.EtcdOptions{Newest: true}, bare},
		{"v3 beside an empty v2, no slash", lab.EtcdOptions{API: 3}, bare},
		{"v3, a slash", lab.EtcdOptions{Newest: true}, "/" + bare},
		{"v2", lab.EtcdOptions{}, "/" + bare},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, config late %v", tt.name, late), func(t *testing.T) {
				t.Parallel()
				c := &cluster{Lab: lab.New(t), t: t}
				c.etcd = c.EtcdOn(tt.etcd, c.Host("hdss7-12", "10.4.7.12/24"))
				if !late {
					c.etcd.Set(tt.dir+"/config", hostGW)
				}
				c.join("hdss7-21", "--etcd-prefix="+bare)
				c.join("hdss7-22", "--etcd-prefix=/"+bare+"/")
				if late {
					for _, n := range c.hosts {
						n.daemon.WaitLog("looking ")
					}
					c.etcd.Set(tt.dir+"/config", hostGW)
				}
				for _, n := range c.hosts {
					n.box = n.Container("c1")
				}
				c.connected(soon)
				for _, n := range c.hosts {
					key := tt.dir + "/subnets/" + strings.Replace(n.subnet, "/", "-", 1)
					if lease := c.etcd.Get(key); lease == nil || lease.TTL < 86000 {
						t.Errorf("%s is %+v", key, lease)
					}
					for _, written := range []string{bare, "/" + bare} { // of one daemon
						if said := n.Run(lab.Binary(t), "status", "--etcd-prefix="+written); !strings.Contains(said, "ready") {
							t.Errorf("%s: %s", written, said)
						}
					}
				}
			})
		}
	}
}

// TestFilesWithoutHTTPS has certificates for endpoints that are not asked by TLS.
func TestFilesWithoutHTTPS(t *testing.T) {
	c := start(t, hostGW)
	cert := lab.NewCA(t, "ca").Client("client", time.Hour)
	n := c.join("hdss7-21", "--etcd-certfile="+cert.CertFile, "--etcd-keyfile="+cert.KeyFile, "--etcd-cafile="+cert.CertFile)
	n.daemon.WaitReady()
	for _, flag := range []string{"certfile", "keyfile", "cafile"} {
		want := `"Ignoring an option" name="--etcd-` + flag + `" remark="no endpoint of etcd is https`
		if strings.Count(n.daemon.Log(), want) != 1 {
			t.Errorf("not once in the log: %s\n%s", want, n.daemon.Log())
		}
	}
	line := docs.Containing(t, "docs/configuration.md", "Ignoring an option").Text
	if !docs.Shows("...\n…"+line+"...\n", n.daemon.Log()) {
		t.Errorf("%s is not in the log\n%s", line, n.daemon.Log())
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"/nowhere/ca.pem", empty} {
		wrong := c.join(fmt.Sprintf("hdss7-%d", 22+len(c.hosts)), "--etcd-cafile="+file)
		if code := wrong.daemon.Wait(soon); code != 1 || !strings.Contains(wrong.daemon.Log(), file) || !strings.Contains(wrong.daemon.Log(), "; no endpoint of etcd is https") {
			t.Errorf("%s: exit code %d\n%s", file, code, wrong.daemon.Log())
		}
	}
}

// TestEndpointWithoutPort has etcd at its own port, and flanneld asked for another one,
// at which nobody listens, or a web server.
func TestEndpointWithoutPort(t *testing.T) {
	c := start(t, hostGW)
	const hint = "http://10.4.7.12 names no port, so 80 was tried: etcd's is 2379"
	n := c.join("hdss7-21", "--etcd-endpoints=http://10.4.7.12,http://10.4.7.12:2378", "--healthz-port=2401")
	said := func(what, why string, get func() string) {
		t.Helper()
		lab.Eventually(t, soon, what, func() error {
			if text := get(); !strings.Contains(text, hint) || !strings.Contains(text, why) {
				return fmt.Errorf("it says %s", text)
			}
			return nil
		})
	}
	all := func(why string) {
		t.Helper()
		said("the log", why, n.daemon.Log)
		said("/readyz", why, func() string { return n.Shell("curl -s http://127.0.0.1:2401/readyz; true") })
		said("status", why, func() string { return n.Shell(lab.Binary(t) + " status 2>&1; true") })
		said("config get", why, func() string {
			return n.Shell(lab.Binary(t) + " config get --etcd-endpoints=http://10.4.7.12 2>&1; true")
		})
		found, _ := checked(t, n, "")
		for _, want := range []string{hint, "restart flanneld with --etcd-endpoints=http://10.4.7.12:2379,http://10.4.7.12:2378"} {
			if !strings.Contains(shown(found), want) {
				t.Errorf("check does not say %q:\n%s", want, shown(found))
			}
		}
	}
	all("connection refused")
	c.store.HTTPServer()
	all("is not etcd")
}
