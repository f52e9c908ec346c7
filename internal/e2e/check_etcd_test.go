package e2e

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestCheckEtcd has etcd away, and what is wrong with what lies in it.
func TestCheckEtcd(t *testing.T) {
	const two = `{"Network": "172.7.0.0/16", "SubnetMin": "172.7.21.0", "SubnetMax": "172.7.22.0", "Backend": {"Type": "host-gw"}}`
	c := start(t, two, "hdss7-21", "hdss7-22")
	h, h22 := c.hosts[0], c.hosts[1]
	const set = `flanneld config set --etcd-endpoints=http://10.4.7.12:2379 --etcd-api=2 '{"Network":"172.7.0.0/16","SubnetLen":24,"SubnetMin":"172.7.21.0","SubnetMax":"172.7.22.0","Backend":{"Type":"host-gw"}}'`
	findAll(t, []trouble{
		{name: "a wrong config key", on: h, do: func() {
			c.etcd.Set(configKey, `{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"},"SubnetLen":99}`)
		}, step: "config", text: "config key is wrong: SubnetLen", fix: set},
		{name: "no config key", on: h, do: func() { c.etcd.Delete(configKey) }, step: "config", text: "there is no config key yet", fix: set},
		{name: "etcd is away", on: h, do: c.etcd.Stop, step: "etcd", text: "etcd cannot be read: ", fix: "systemctl start etcd", repair: c.etcd.Start},
		{name: "a firewall there drops what is for etcd", on: c.store, from: h, how: "iptables -I INPUT -p tcp --dport 2379 -s 10.4.7.21 -j DROP", do: h.daemon.Restart, step: "etcd", text: "a firewall drops or rejects that",
			fix: "iptables -I INPUT -p tcp --dport 2379 -s 10.4.7.21 -j ACCEPT", more: "iptables -F INPUT"},
	})
	for i, tr := range []trouble{
		{name: "no config key, and none before", do: func() {}, step: "config", text: "there is no config key yet: /first/config is in neither of etcd's stores, v2 and v3; a config key lies at /coreos.com/network/config in etcd's v2 store: if that is this cluster's, give flanneld --etcd-prefix=/coreos.com/network",
			fix: "flanneld config set --etcd-endpoints=http://10.4.7.12:2379 --etcd-prefix=/first - < FILE", repair: func() { c.etcd.Set("/first/config", hostGW) }},
		{name: "etcd answers, and has a key where keys should lie", do: func() { c.etcd.Set("/second", "?") }, step: "etcd", text: "etcd cannot be read: ", fix: "journalctl -u flanneld",
			repair: func() { c.etcd.Delete("/second"); c.etcd.Set("/second/config", hostGW) }},
	} {
		t.Run(tr.name, func(t *testing.T) {
			tr.do()
			tr.on, tr.do, tr.notes = &node{Host: c.Host(fmt.Sprintf("hdss7-%d", 31+i), fmt.Sprintf("10.4.7.%d/24", 31+i))}, nil, []string{"docker"}
			tr.on.daemon = tr.on.Flanneld("--etcd-prefix=" + []string{"/first", "/second"}[i])
			tr.find(t)
		})
	}
	t.Run("a lease that cannot be read", func(t *testing.T) { // which is none of this host's faults
		c.etcd.Set(leases+"172.7.98.0-24", "nonsense")
		lab.Eventually(t, soon, "the note", func() error {
			if found, code := checked(t, h, ""); code != 0 || !strings.Contains(shown(found), `note flanneld: ignoring the`) {
				return fmt.Errorf("exit code %d:\n%s", code, shown(found))
			}
			return nil
		})
		c.etcd.Delete(leases + "172.7.98.0-24")
	})
	t.Run("no subnet is free", func(t *testing.T) {
		c.etcd.Set(configKey, two)
		full := c.join("hdss7-23")
		const lease, flags = "flanneld lease ", " --etcd-endpoints=http://10.4.7.12:2379 --etcd-api=2"
		trouble{on: full, step: "lease", text: "this host has no subnet: ", fix: lease + "list" + flags, notes: []string{"docker"}, repair: func() {
			h22.daemon.Stop()
			full.typed(t, lease+"list"+flags)
			full.typed(t, lease+"release --yes --now 172.7.22.0/24"+flags)
			full.daemon.WaitReady()
		}}.find(t)
	})
}

// TestCheckClock has hosts whose clocks disagree. A lab's all have one, so a
// proxy in front of etcd tells another time; and at last it is in the way.
func TestCheckClock(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := l.Host("hdss7-12", "10.4.7.12/24")
	etcd := l.EtcdOn(lab.EtcdOptions{}, store)
	etcd.Set(configKey, hostGW)
	var off [2]atomic.Int64 // of each proxy's clock, in seconds
	var hangs atomic.Bool   // whether watches get no answer
	var endpoints []string
	for i := range off {
		front := l.Host(fmt.Sprintf("hdss7-%d", 13+i), fmt.Sprintf("10.4.7.%d/24", 13+i))
		endpoints = append(endpoints, fmt.Sprintf("http://10.4.7.%d:2379", 13+i))
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "10.4.7.12:2379"})
		proxy.Transport = &http.Transport{DialContext: front.Dial, DisableKeepAlives: true}
		proxy.ModifyResponse = func(r *http.Response) error {
			r.Header.Set("Date", time.Now().Add(time.Duration(off[i].Load())*time.Second).UTC().Format(http.TimeFormat))
			return nil
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for r.URL.Query().Get("wait") == "true" && hangs.Load() && r.Context().Err() == nil {
				time.Sleep(10 * time.Millisecond)
			}
			proxy.ServeHTTP(w, r)
		})}
		listener := front.Listen("tcp4", ":2379")
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
	}
	h := &node{Host: l.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")}
	h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
		ask(o, strings.Join(endpoints, ","))
	})
	h.daemon.WaitReady()
	set := func(a, b time.Duration) func() {
		return func() { off[0].Store(int64(a.Seconds())); off[1].Store(int64(b.Seconds())) }
	}
	troubles := []trouble{
		{name: "late", do: set(3*time.Hour, 3*time.Hour), text: "this host's clock is 3h0m0s behind that of etcd at http://10.4.7.13:2379"},
		{name: "early", do: set(-time.Hour, -time.Hour), text: "this host's clock is 1h0m0s ahead of that of etcd at http://10.4.7.13:2379"},
		{name: "one etcd is late", do: set(0, -time.Hour), text: "the clock of etcd at http://10.4.7.14:2379 is 1h0m0s behind this host's and other members'"},
	}
	for i := range troubles {
		tr := &troubles[i]
		tr.on, tr.step, tr.fix, tr.repair, tr.notes = h, "clock", "timedatectl set-ntp true", set(0, 0), []string{"docker"}
	}
	findAll(t, troubles)
	t.Run("a proxy that holds watches back", func(t *testing.T) {
		hangs.Store(true)
		defer hangs.Store(false)
		h.daemon.Restart()
		lab.Eventually(t, 30*time.Second, "the proxy to be named", func() error {
			if found, code := checked(t, h, ""); code != 0 || !strings.Contains(shown(found), "a proxy in front of etcd") {
				return fmt.Errorf("exit code %d:\n%s", code, shown(found))
			}
			return nil
		})
	})
}
