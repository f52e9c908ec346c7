package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestFloodLeavesFilesForTheCore: 1,200 idle connections to the health port of a daemon that may have 1,024 files open
// keep it neither from etcd, nor from repairs, nor from an answer.
func TestFloodLeavesFilesForTheCore(t *testing.T) {
	c := start(t, hostGW, "hdss7-21")
	n := c.joinAs("hdss7-22", func(h *lab.Host, o *lab.FlanneldOptions) {
		wrapper := filepath.Join(h.Dir(), "flanneld")
		script := fmt.Sprintf("#!/bin/sh\nulimit -n 1024\nexec %s \"$@\"\n", lab.Binary(t))
		if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		o.Binary, o.Args = wrapper, append(o.Args, "--healthz-port=2401")
	})
	n.daemon.WaitReady()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 1200 {
		conn, err := n.Dial(ctx, "tcp", "127.0.0.1:2401")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
	}

	c.etcd.Set(c.newcomer(), `{"PublicIP":"10.4.7.12","BackendType":"host-gw"}`)
	n.hasRoute(t, "172.7.249.0/24 via 10.4.7.12")
	n.Run("ip", "route", "del", "172.7.249.0/24")
	n.hasRoute(t, "172.7.249.0/24 via 10.4.7.12")
	n.Run("iptables", "-F", "FORWARD")
	lab.Eventually(t, soon, "the rules to come back", func() error {
		if rules := n.Run("iptables", "-S"); !strings.Contains(rules, "172.7.0.0/16") {
			return fmt.Errorf("they are\n%s", rules)
		}
		return nil
	})
	if reply := n.Get("http://127.0.0.1:2401/readyz"); reply != "ready\n" {
		t.Errorf("/readyz answers %q", reply)
	}
}

// hasRoute waits for a route.
func (n *node) hasRoute(t *testing.T, route string) {
	t.Helper()
	lab.Eventually(t, soon, n.Name+" to have the route "+route, func() error {
		if all := n.Run("ip", "-4", "route"); !strings.Contains(all, route) {
			return fmt.Errorf("it has\n%s", all)
		}
		return nil
	})
}

// TestVNIStorm: a config key whose VNI changes ten times a second leaves few devices behind, and the last one is at
// work in the end.
func TestVNIStorm(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	most := 0
	for i := range 100 {
		c.etcd.Set(configKey, fmt.Sprintf(`{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","VNI":%d}}`, 100+i))
		time.Sleep(100 * time.Millisecond)
		for _, n := range c.hosts {
			most = max(most, strings.Count(n.Run("ip", "-o", "link", "show", "type", "vxlan"), "\n"))
		}
	}
	t.Logf("%d devices at most", most)
	if most > 6 { // the one at work, the next one, and four that were left
		t.Errorf("%d devices at once", most)
	}
	for _, n := range c.hosts {
		lab.Eventually(t, 30*time.Second, "the last VNI alone on "+n.Name, func() error {
			if all := n.Run("ip", "-o", "link", "show", "type", "vxlan"); strings.Count(all, "\n") != 1 ||
				!strings.Contains(all, "flannel.199:") {
				return fmt.Errorf("there are\n%s", all)
			}
			return nil
		})
	}
	c.connected(soon)
}

// TestContestedRoute: where somebody deletes one route again and again, every other is repaired at once.
func TestContestedRoute(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22", "hdss7-23")
	n := c.hosts[0]
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_, _ = n.Try("ip", "route", "del", "172.7.22.0/24")
			time.Sleep(20 * time.Millisecond)
		}
	}()
	defer func() { stop(); <-ended }()
	n.daemon.WaitLog("KernelContention")
	for range 5 {
		n.Run("ip", "route", "del", "172.7.23.0/24")
		n.hasRoute(t, "172.7.23.0/24 via 10.4.7.23")
		time.Sleep(time.Second)
	}
}
