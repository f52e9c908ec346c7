package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestDualStackKeys: a cluster that it shares with flannel's dual-stack hosts, of which one
// is just swapped. Their IPv4 halves are routed and never leased again; what flannel
// needs to go back is there.
func TestDualStackKeys(t *testing.T) {
	for name, options := range map[string]lab.EtcdOptions{"v2": {}, "v3": {Newest: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{Lab: lab.New(t), t: t}
			c.store = &node{Host: c.Host("hdss7-12", "10.4.7.12/24")}
			c.etcd = c.EtcdOn(options, c.store.Host)
			c.etcd.Set(configKey, `{"Network": "172.7.0.0/16", "SubnetMin": "172.7.40.0", "SubnetMax": "172.7.43.0", "Backend": {"Type": "host-gw"}}`)
			const (
				swapped = leases + "172.7.42.0-24&fc00:7:0:42::-64"
				away    = leases + "172.7.40.0-24&fc00:7:0:40::-64"
				six     = leases + "0.0.0.0-0&fc00:7:0:1d::-64"
			)
			c.etcd.Set(away, `{"PublicIP":"10.4.7.40","PublicIPv6":"fd00:4::40","BackendType":"host-gw"}`)
			c.etcd.Set(six, `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}`)
			c.etcd.SetTTL(swapped, `{"PublicIP":"10.4.7.42","PublicIPv6":"fd00:4::42","BackendType":"host-gw"}`, time.Hour)
			c.etcd.Set(leases+"172.7.64.0-25", `{"PublicIP":"10.4.7.64","BackendType":"host-gw"}`)
			for _, name := range []string{"hdss7-42", "hdss7-41", "hdss7-43"} { // the last two have no subnet of their own to choose
				c.join(name).daemon.WaitReady()
			}
			h42, h41 := c.hosts[0], c.hosts[1]
			for _, n := range c.hosts {
				n.box = n.Container("c1")
			}
			c.connected(soon)
			lease := c.etcd.Get(swapped)
			if want := `{"PublicIP":"10.4.7.42","PublicIPv6":"fd00:4::42","BackendType":"host-gw"}`; lease == nil || lease.Value != want || lease.TTL < 86000 {
				t.Errorf("%+v, want %s", lease, want)
			}
			if keys := c.etcd.Keys(leases); len(keys) != 6 {
				t.Errorf("keys %v", keys)
			}
			if !strings.Contains(read(t, h42.SubnetFile()), "FLANNEL_SUBNET=172.7.42.1/24\n") {
				t.Error(read(t, h42.SubnetFile()))
			}
			eventually(t, "the routes on hdss7-41", h41.routes, "172.7.40.0/24 via 10.4.7.40 dev ens33 proto 77\n172.7.42.0/24 via 10.4.7.42 dev ens33 proto 77\n"+
				"172.7.43.0/24 via 10.4.7.43 dev ens33 proto 77\n172.7.64.0/25 via 10.4.7.64 dev ens33 proto 77")
			flags := "--etcd-endpoints=" + strings.Join(c.etcd.Endpoints(), ",")
			for _, tt := range []struct {
				code  int
				args  []string
				parts []string
			}{
				{1, []string{"lease", "reserve", "172.7.40.0/24", "10.4.7.50"}, []string{"172.7.40.0/24 is leased to 10.4.7.40"}},
				{0, []string{"lease", "reserve", "172.7.42.0/24", "10.4.7.42"}, []string{"is reserved for 10.4.7.42"}},
				{0, []string{"lease", "list"}, []string{"172.7.40.0/24     10.4.7.40   host-gw  reserved", "fc00:7:0:40::/64  fd00:4::40  host-gw  reserved"}},
				{0, []string{"status"}, []string{"172.7.40.0/24"}},
				{0, []string{"lease", "release", "--now", "--yes", "172.7.40.0-24&fc00:7:0:40::-64"}, []string{"is removed"}},
			} {
				args := tt.args
				if args[0] != "status" {
					args = append(args, flags)
				}
				out, code := input(t, h41.Host, "", args...)
				expect(t, fmt.Sprint(tt.args), out, code, tt.code, tt.parts...)
				if strings.Contains(out, "0.0.0.0-0") {
					t.Errorf("%v: %s", tt.args, out)
				}
			}
			if keys := c.etcd.Keys(leases); len(keys) != 5 || c.etcd.Get(swapped).TTL != 0 {
				t.Errorf("keys %v", keys)
			}
		})
	}
}

// TestSubnetFileIsShared: docker's options live in the file that flanneld writes, as
// CentOS's packages have it; what is deleted or edited is back at once.
func TestSubnetFileIsShared(t *testing.T) {
	c := start(t, hostGW, "hdss7-21")
	h := c.hosts[0]
	h.daemon.WaitReady()
	ours := read(t, h.SubnetFile())
	back := func(what, want string) {
		t.Helper()
		began := time.Now()
		eventually(t, "the file, "+what, func() string { content, _ := os.ReadFile(h.SubnetFile()); return string(content) }, want)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: back after %v", what, took)
		}
	}
	script, err := filepath.Abs("../../dist/mk-docker-opts.sh")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", script, "-c", "-k", "DOCKER_NETWORK_OPTIONS", "-f", h.SubnetFile(), "-d", h.SubnetFile()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const options = "DOCKER_NETWORK_OPTIONS=\" --bip=172.7.21.1/24 --ip-masq=true --mtu=1500\"\n"
	back("with docker's options", ours+options)

	// Neither a newcomer nor a restart touches it.
	c.join("hdss7-22").daemon.WaitReady()
	eventually(t, "the route on hdss7-21", h.routes, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
	h.daemon.Restart()
	h.daemon.WaitReady()
	back("after a restart", ours+options)

	for what, do := range map[string]func() error{
		"edited":   func() error { return os.WriteFile(h.SubnetFile(), []byte("FLANNEL_MTU=9000\n"+options), 0o600) },
		"replaced": func() error { return os.WriteFile(h.SubnetFile(), []byte(options), 0o600) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		want := ours + options
		if what == "replaced" {
			want = options + ours
		}
		back(what, want)
	}
	if err := os.Remove(h.SubnetFile()); err != nil {
		t.Fatal(err)
	}
	back("deleted", ours)
	if strings.Contains(h.daemon.Log(), "SubnetFileContested") {
		t.Error("a few edits are told of as a fight")
	}
}
