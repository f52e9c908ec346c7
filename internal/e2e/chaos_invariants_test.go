package e2e

import (
	"fmt"
	"strings"
	"time"

	"flanneld/internal/lab"
)

// everybodyHasTheirs holds the invariants: each host runs, holds its own lease
// and no other, and routes to every other host's subnet and to nothing else.
func (c *cluster) everybodyHasTheirs(after string) {
	c.t.Helper()
	lab.Eventually(c.t, 30*time.Second, "everybody to have theirs after "+after, func() error {
		held := c.etcd.Keys(leases)
		if len(held) != len(c.hosts) {
			return fmt.Errorf("%d leases for %d hosts: %v", len(held), len(c.hosts), held)
		}
		for _, n := range c.hosts {
			if !n.daemon.Running() {
				return fmt.Errorf("the daemon of %s has ended", n)
			}
			if v := held[n.leaseKey()]; !strings.HasPrefix(v, `{"PublicIP":"`+n.IP.String()+`"`) {
				return fmt.Errorf("%s is %q", n.leaseKey(), v)
			}
			if err := c.rightRoutes(n); err != nil {
				return err
			}
		}
		return nil
	})
	c.connected(soon)
}

// rightRoutes says what is wrong with a host's routes. That of a hostile lease
// which looks like a peer's may be held for a while after its end.
func (c *cluster) rightRoutes(n *node) error {
	have := map[string]bool{}
	for route := range strings.Lines(n.routes()) {
		have[strings.Fields(route)[0]] = true
	}
	delete(have, "172.7.250.0/24")
	delete(have, "172.7.249.0/24")
	for _, peer := range c.hosts {
		if peer != n && !have[peer.subnet] {
			return fmt.Errorf("%s has no route to %s:\n%s", n, peer, n.routes())
		}
		delete(have, peer.subnet)
	}
	if len(have) > 0 {
		return fmt.Errorf("%s has routes to %v", n, have)
	}
	return nil
}

// everybodyRests holds that no fault has left a daemon at work without end: it
// uses next to no CPU time when nothing happens.
func (c *cluster) everybodyRests() {
	c.t.Helper()
	const look = 3 * time.Second
	before := map[*node]time.Duration{}
	for _, n := range c.hosts {
		before[n] = n.daemon.CPUTime()
	}
	time.Sleep(look)
	for _, n := range c.hosts {
		if used := n.daemon.CPUTime() - before[n]; used > look/20 {
			c.t.Errorf("the daemon of %s used %v of CPU time in %v in which nothing went wrong", n, used, look)
		}
	}
}

func (n *node) leaseKey() string { return leases + strings.Replace(n.subnet, "/", "-", 1) }
