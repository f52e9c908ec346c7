package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// migrate runs `flanneld migrate` on a host.
func (c *cluster) migrate(n *node, flags ...string) string {
	c.t.Helper()
	return n.Run(lab.Binary(c.t), append([]string{"migrate", "--etcd-endpoints=" + strings.Join(c.etcd.Endpoints(), ",")}, flags...)...)
}

// TestMigrate moves a running cluster from etcd's v2 API to v3, and back.
func TestMigrate(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22", "hdss7-23")
	const reserved = leases + "172.7.99.0-24"
	c.etcd.Set(reserved, `{"PublicIP":"10.4.7.99","BackendType":"host-gw"}`)
	for _, m := range []struct{ from, to int }{{2, 3}, {3, 2}} {
		name := fmt.Sprintf("from v%d to v%d", m.from, m.to)
		flags := []string{fmt.Sprintf("--from=%d", m.from), fmt.Sprintf("--to=%d", m.to)}
		before, after := c.etcd.API(m.from), c.etcd.API(m.to)

		if said := c.migrate(c.hosts[0], flags...); !strings.Contains(said, "Nothing was written") {
			t.Errorf("%s, as a trial:\n%s", name, said)
		}
		if m.from == 2 && after.Get(configKey) != nil {
			t.Error("a trial has written")
		}
		c.losesNothing(name, func() {
			for i, n := range c.hosts {
				said := c.migrate(n, append(flags, "--yes")...) // as often as one likes
				if i == 0 {
					t.Logf("%s:\n%s", name, said)
				}
				if i == 0 && m.to == 3 {
					n.daemon.WaitLog("restart flanneld, so that it follows")
				}
				n.daemon.Stop()
				n.daemon.Restart()
				n.daemon.WaitReady()
				if want := fmt.Sprintf(`"Chose an API of etcd" api="v%d"`, m.to); !strings.Contains(n.daemon.Log(), want) {
					t.Errorf("the log of %s lacks %q", n.Name, want)
				}
				time.Sleep(time.Second)
			}
		})
		for _, h := range []string{"21", "22", "23"} {
			key := leases + "172.7." + h + ".0-24"
			if old, now := before.Get(key), after.Get(key); old == nil || now == nil || old.Value != now.Value || now.TTL < 86000 {
				t.Errorf("%s: %s is %+v and %+v", name, key, old, now)
			}
		}
		if now := after.Get(reserved); now == nil || now.TTL != 0 {
			t.Errorf("%s: the reservation is %+v", name, now)
		}
		// The old store has no part in it any more.
		c.losesNothing("without the old store, "+name, func() {
			before.Delete("/coreos.com/network/subnets")
			before.Delete(configKey)
			time.Sleep(time.Second)
		})
		after.Set(configKey, direct)
		for _, n := range c.hosts {
			eventually(t, "routes of "+n.Name, func() string { return fmt.Sprint(strings.Count(n.routes(), "dev ens33")) }, "3") // the reservation, too
		}
	}
}

// TestWhichAPI starts flanneld without --etcd-api against whatever etcd there is.
func TestWhichAPI(t *testing.T) {
	const chose = `"Chose an API of etcd" api=`
	for _, tt := range []struct {
		name string
		etcd lab.EtcdOptions
		says string
	}{
		{"3.5 with v2", lab.EtcdOptions{}, chose + `"v2" reason="` + configKey + " lies there, and not in the v3 store"},
		{"3.5 with v2, and the keys in v3", lab.EtcdOptions{API: 3}, chose + `"v3" reason="` + configKey + " lies there, and not in the v2 store"},
		{"3.5 without v2", lab.EtcdOptions{NoV2: true}, chose + `"v3" reason="` + configKey + " lies there, and the v2 API is not served"},
		{"the newest", lab.EtcdOptions{Newest: true}, chose + `"v3" reason="` + configKey + " lies there, and the v2 API is not served"},
		{"the newest, by gRPC alone", lab.EtcdOptions{Newest: true, OnlyGRPC: true}, chose + `"v3" reason="` + configKey + " lies there, and the v2 API is not served"},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, config late %v", tt.name, late), func(t *testing.T) {
				t.Parallel()
				c := &cluster{Lab: lab.New(t), t: t}
				c.etcd = c.EtcdOn(tt.etcd, c.Host("hdss7-12", "10.4.7.12/24"))
				if !late {
					c.etcd.Set(configKey, hostGW)
				}
				for _, name := range []string{"hdss7-21", "hdss7-22"} {
					c.join(name)
				}
				if late {
					for _, n := range c.hosts {
						n.daemon.WaitLog("looking ") // at both, or for it
					}
					c.etcd.Set(configKey, hostGW)
				}
				for _, n := range c.hosts {
					n.box = n.Container("c1")
				}
				c.connected(soon)
				for _, n := range c.hosts {
					if log := n.daemon.Log(); !strings.Contains(log, tt.says) && !late || late && !strings.Contains(log, chose) {
						t.Errorf("the log lacks %q:\n%s", tt.says, log)
					}
					key := leases + strings.Replace(n.subnet, "/", "-", 1)
					if lease := c.etcd.Get(key); lease == nil || lease.TTL < 86000 {
						t.Errorf("%s is %+v", key, lease)
					}
				}
			})
		}
	}
}
