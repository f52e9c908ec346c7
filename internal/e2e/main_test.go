// Package e2e runs the daemon as its users do: on hosts in network namespaces,
// with a real etcd, against the real kernel, under real traffic.
package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

func TestMain(m *testing.M) {
	if port := os.Getenv(holdEnv); port != "" {
		holdPort(port)
		return
	}
	lab.NeedEtcd()
	lab.NeedNewestEtcd()
	lab.NeedEtcdctl()
	lab.NeedCNI()
	lab.NeedFlanneld()
	lab.Main(m)
}

const (
	configKey = "/coreos.com/network/config"
	leases    = "/coreos.com/network/subnets/"

	hostGW = `{"Network": "172.7.0.0/16", "Backend": {"Type": "host-gw"}}`
	vxLAN  = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN"}}`
	direct = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN","Directrouting": true}}`

	soon = 30 * time.Second // a generous bound for what takes milliseconds
	// stall bounds what asks this system's kernel for network devices, as dockerd does:
	// where many namespaces come and go, it has been seen to wait for a minute.
	stall = 3 * time.Minute
)

// cluster is the tutorial's: etcd on hdss7-12, and flanneld hosts beside it.
type cluster struct {
	*lab.Lab
	t     *testing.T
	etcd  *lab.Etcd
	store *node // etcd's host
	hosts []*node

	stores []*lab.Host // of etcd's members; nil with one
}

// node is a host with its flanneld and one container.
type node struct {
	*lab.Host
	daemon *lab.Daemon
	box    *lab.Container
	subnet string // "172.7.21.0/24"
}

// start brings up a cluster with hosts such as "hdss7-21", whose last number is
// also that of its address and of its subnet.
func start(t *testing.T, config string, names ...string) *cluster {
	t.Helper()
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	store := c.Host("hdss7-12", "10.4.7.12/24")
	c.etcd, c.store = c.EtcdOn(lab.EtcdOptions{}, store), &node{Host: store}
	if config != "" {
		c.etcd.Set(configKey, config)
	}
	for _, name := range names {
		c.join(name)
	}
	for _, n := range c.hosts {
		n.box = n.Container("c1")
	}
	c.connected(soon)
	return c
}

// join adds a host with a running daemon; without waiting for it.
func (c *cluster) join(name string, flags ...string) *node {
	c.t.Helper()
	return c.joinAs(name, func(_ *lab.Host, o *lab.FlanneldOptions) { o.Args = append(o.Args, flags...) })
}

// joinAs is join with other options.
func (c *cluster) joinAs(name string, change func(*lab.Host, *lab.FlanneldOptions)) *node {
	c.t.Helper()
	var n int
	if _, err := fmt.Sscanf(name, "hdss7-%d", &n); err != nil {
		c.t.Fatal(err)
	}
	h := &node{Host: c.Host(name, fmt.Sprintf("10.4.7.%d/24", n)), subnet: fmt.Sprintf("172.7.%d.0/24", n)}
	h.SubnetEnv(fmt.Sprintf("172.7.%d.1/24", n))
	h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) { change(h.Host, o) })
	c.hosts = append(c.hosts, h)
	return h
}

// connected waits until every container reaches every other.
func (c *cluster) connected(within time.Duration) {
	c.t.Helper()
	c.pairs(func(a, b *node) { a.box.Reach(b.box, within) })
}

func (c *cluster) pairs(f func(a, b *node)) {
	c.t.Helper()
	for _, a := range c.hosts {
		for _, b := range c.hosts {
			if a != b && a.box != nil && b.box != nil {
				f(a, b)
			}
		}
	}
}

// losesNothing runs what under pings between all containers, 20 a second each
// way, and counts those that are lost.
func (c *cluster) losesNothing(moment string, what func()) {
	c.t.Helper()
	for pair, s := range c.underPings(what) {
		if s.Lost > 0 {
			c.t.Errorf("%s: %s: %v", moment, pair, s)
		}
	}
}

func (c *cluster) underPings(what func()) map[string]lab.Stats {
	c.t.Helper()
	pingers := map[string]*lab.Pinger{}
	c.pairs(func(a, b *node) { pingers[a.Name+" to "+b.Name] = a.box.PingEvery(50*time.Millisecond, b.box) })
	time.Sleep(200 * time.Millisecond)
	what()
	time.Sleep(500 * time.Millisecond)
	stats := map[string]lab.Stats{}
	for pair, p := range pingers {
		stats[pair] = p.Stop()
	}
	return stats
}

// routes are the host's routes to other hosts' subnets, one a line.
func (n *node) routes() string {
	var out []string
	for line := range strings.Lines(n.Run("ip", "-4", "route", "show", "table", "main")) {
		if strings.HasPrefix(line, "172.7.") && !strings.Contains(line, "docker0") {
			out = append(out, strings.Join(strings.Fields(line), " "))
		}
	}
	return strings.Join(out, "\n")
}

// eventually waits for a text.
func eventually(t *testing.T, what string, get func() string, want string) {
	t.Helper()
	lab.Eventually(t, soon, what, func() error {
		if got := get(); got != want {
			return fmt.Errorf("it is\n%s\nand not\n%s", got, want)
		}
		return nil
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
