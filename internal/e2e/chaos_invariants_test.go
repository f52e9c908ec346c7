package e2e

import (
	"fmt"
	"strings"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
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
			if v := held[n.leaseKey()]; !strings.HasPrefix(v, strings.TrimSuffix(n.publicIPs(), ",")) {
				return fmt.Errorf("%s is %q", n.leaseKey(), v)
			}
			if err := c.rightRoutes(n); err != nil {
				return err
			}
		}
		if c.mode().name == byWireGuard.name {
			return c.rightPeers()
		}
		return nil
	})
	c.connected(soon)
}

// wholeOf are the clusters' networks.
var wholeOf = map[inet.Family]string{inet.IPv4: "172.7.0.0/16", inet.IPv6: "fc00:7::/48"}

// rightRoutes says what is wrong with a host's routes. That of a hostile lease
// which looks like a peer's may be held for a while after its end.
func (c *cluster) rightRoutes(n *node) error {
	have := map[string]bool{}
	for route := range strings.Lines(n.routes()) {
		have[strings.Fields(route)[0]] = true
	}
	for _, f := range n.families() {
		network := wholeOf[f]
		whole := have[network] // leads to all that the device knows
		delete(have, network)
		for _, hostile := range []int{249, 250, 253, 254} {
			delete(have, lab.Subnet(f, hostile))
		}
		for _, peer := range c.hosts {
			subnet := lab.Subnet(f, peer.number())
			if peer != n && !have[subnet] && !whole {
				return fmt.Errorf("%s has no route to %s's %s:\n%s", n, peer, subnet, n.routes())
			}
			delete(have, subnet)
		}
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

func (n *node) leaseKey() string { return leases + n.families().LeaseKey(n.number()) }

// publicIPs are how the host's lease begins.
func (n *node) publicIPs() string {
	switch s := n.families(); {
	case len(s) > 1:
		return fmt.Sprintf(`{"PublicIP":"%v","PublicIPv6":"%v",`, n.In(inet.IPv4).Address(), n.In(inet.IPv6).Address())
	case s[0] == inet.IPv6:
		return fmt.Sprintf(`{"PublicIP":"0.0.0.0","PublicIPv6":"%v",`, n.IP)
	}
	return fmt.Sprintf(`{"PublicIP":"%v",`, n.IP)
}
