package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// nexthops are the host's next hop objects of flanneld's protocol, one a line.
func (n *node) nexthops() (out []string) {
	for line := range strings.Lines(n.Run("ip", "nexthop", "show", "proto", "77")) {
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

// table is all that leads packets to peers.
func (n *node) table() string { return n.routes() + "\n" + strings.Join(n.nexthops(), "\n") }

// nexthopTo is the id of the object by which a host routes to a peer.
func (n *node) nexthopTo(peer *node) string {
	for line := range strings.Lines(n.routes()) {
		if w := strings.Fields(line); w[0] == peer.subnet && w[1] == "nhid" {
			return w[2]
		}
	}
	return ""
}

// startByNexthops is start with routes by next hop objects from so many on.
func startByNexthops(t *testing.T, config string, from int, names ...string) *cluster {
	c := start(t, config)
	binary := lab.BinaryFrom(t, from)
	for _, name := range names {
		c.joinAs(name, func(_ *lab.Host, o *lab.FlanneldOptions) { o.Binary = binary })
	}
	for _, n := range c.hosts {
		n.daemon.WaitReady()
		n.box = n.Container("c1")
	}
	c.connected(soon)
	return c
}

func TestNexthops(t *testing.T) {
	for name, config := range map[string]string{"host-gw": hostGW, "vxlan": vxLAN} {
		t.Run(name, func(t *testing.T) {
			c := startByNexthops(t, config, 0, "hdss7-21", "hdss7-22", "hdss7-23")
			h, peer := c.hosts[0], c.hosts[1]
			as := h.table()
			if len(h.nexthops()) != 2 || strings.Count(as, " nhid ") != 2 {
				t.Fatalf("routes and objects:\n%s", as)
			}
			h.readsWell(t)

			id := h.nexthopTo(peer)
			for _, hand := range []string{
				"ip nexthop del id " + id,
				"ip nexthop replace id " + id + " via 10.4.7.99 dev ens33",
				"ip nexthop replace id " + id + " blackhole",
				"ip nexthop flush proto 77",
				"ip route del " + peer.subnet,
				"ip link set ens33 down; ip link set ens33 up",
			} {
				h.Shell(hand)
				eventually(t, "all is as before "+hand, h.table, as)
			}
			c.connected(soon)
			h.adoptsAll(c, as)
			h.leavesOthersAlone(t, as)
			h.Shell("sysctl -qw net.ipv4.nexthop_compat_mode=0")
			h.adoptsAll(c, h.table())
			h.readsWell(t)
		})
	}
}

// readsWell: who asks how things are sees nothing wrong.
func (n *node) readsWell(t *testing.T) {
	t.Helper()
	lab.Eventually(t, soon, "check to find nothing wrong", func() error {
		found, code := checked(t, n, "")
		if code != 0 || slices.ContainsFunc(found, func(f check.Finding) bool { return f.Level == check.Fault }) {
			return fmt.Errorf("exit code %d: %+v", code, found)
		}
		return nil
	})
	for _, p := range statusOf(t, n.Host).Peers {
		if p.Kernel != "in place" {
			t.Errorf("status says of %v: %s", p.Subnet, p.Kernel)
		}
	}
}

// adoptsAll restarts the daemon: nothing is lost, and nothing written.
func (n *node) adoptsAll(c *cluster, as string) {
	c.t.Helper()
	c.losesNothing("a restart", func() {
		n.daemon.Restart()
		n.daemon.WaitReady()
		eventually(c.t, "all is as before the restart", n.table, as)
	})
	if log := n.daemon.Log(); strings.Contains(log, "Wrote to the kernel") || strings.Contains(log, "Repaired") {
		c.t.Errorf("the restarted daemon wrote:\n%s", log)
	}
}

// leavesOthersAlone: neither a repair nor a restart touches what others have, and what
// nobody uses of what an earlier run left goes.
func (n *node) leavesOthersAlone(t *testing.T, as string) {
	t.Helper()
	const others = `ip nexthop add id 5 via 10.4.7.99 dev ens33 proto 77
		ip nexthop add id 1291845633 via 10.4.7.99 dev ens33 proto static
		ip nexthop add id 1291845634 via 10.4.7.98 dev ens33 proto 77
		ip route add 192.168.98.0/24 nhid 1291845634 proto 77
		ip nexthop add id 6 via 10.4.7.97 dev ens33
		ip route add 192.168.97.0/24 nhid 6`
	n.Shell(others + "\nip nexthop add id 1291845635 via 10.4.7.96 dev ens33 proto 77")
	all := func() string { return n.Run("ip", "nexthop") + n.Run("ip", "route") }
	n.daemon.Stop() // and the routes with it, but no objects
	for route := range strings.Lines(n.routes()) {
		n.Shell("ip route del " + strings.Fields(route)[0])
	}
	n.daemon.Restart()
	n.daemon.WaitReady()
	lab.Eventually(t, soon, "what is left over to go", func() error {
		n.Shell("ip route add 192.168.99.0/24 dev ens33; ip route del 192.168.99.0/24") // lets it look
		if now := all(); strings.Contains(now, "1291845635") {
			return fmt.Errorf("there is\n%s", now)
		}
		return nil
	})
	now := all()
	for _, keeps := range []string{"id 5 ", "id 1291845633 ", "id 1291845634 ", "id 6 ", "192.168.98.0/24 nhid 1291845634 ", "192.168.97.0/24 nhid 6 "} {
		if !strings.Contains(now, keeps) {
			t.Errorf("%q is gone from\n%s", keeps, now)
		}
	}
	n.Shell("ip nexthop del id 5; ip nexthop del id 1291845633; ip nexthop del id 1291845634; ip nexthop del id 6")
	eventually(t, "all is as before others came", n.table, as)
}

// Whether routes are written in the other form from now on, by their number or by
// another release, no packet is lost, and what is there stays.
func TestNexthopFormChanges(t *testing.T) {
	c := startByNexthops(t, hostGW, 2, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	eventually(t, "a plain route", h.table, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77\n")
	var two string
	c.losesNothing("up and down over the threshold", func() {
		binary := lab.BinaryFrom(t, 2)
		c.joinAs("hdss7-23", func(_ *lab.Host, o *lab.FlanneldOptions) { o.Binary = binary }).daemon.WaitReady()
		lab.Eventually(t, soon, "a second route", func() error {
			if id := h.nexthopTo(c.hosts[2]); id == "" || !strings.HasPrefix(h.table(), "172.7.22.0/24 via 10.4.7.22 dev ens33") {
				return fmt.Errorf("there is\n%s", h.table())
			}
			return nil
		})
		two = h.table()
		for _, from := range []int{1000, 0, 1000, 2} { // an upgrade, and a downgrade
			release := lab.BinaryFrom(t, from)
			for _, n := range c.hosts {
				n.daemon.RestartAs(func(o *lab.FlanneldOptions) { o.Binary = release })
				n.daemon.WaitReady()
			}
			eventually(t, "the same routes", h.table, two)
		}
		c.hosts[2].daemon.Stop()
		c.etcd.Delete(c.hosts[2].leaseKey())
		eventually(t, "the one route", h.table, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77\n")
	})
}

// Without a carrier the kernel drops next hop objects: plain routes take their place
// meanwhile, and all is there once the cable is back.
func TestNexthopsOverALostCarrier(t *testing.T) {
	c := startByNexthops(t, hostGW, 0, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	for _, d := range []time.Duration{0, 50 * time.Millisecond, 2 * time.Second} {
		stats := c.underPings(func() {
			h.Unplug()
			time.Sleep(d)
			h.Plug()
			c.connected(soon)
		})
		t.Logf("the cable was out for %v: %v", d, total(stats))
		if !strings.Contains(h.routes(), "172.7.22.0/24") {
			t.Errorf("there is\n%s", h.table())
		}
	}
}
