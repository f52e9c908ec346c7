// Package e2e runs the daemon as its users do: on hosts in network namespaces,
// with a real etcd, against the real kernel, under real traffic.
package e2e

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

func TestMain(m *testing.M) {
	if port := os.Getenv(holdEnv); port != "" {
		holdPort(port)
		return
	}
	if file := os.Getenv(wireguardEnv); file != "" {
		fmt.Fprintln(os.Stderr, wireguardByHand(file, os.Getenv(peerEnv)))
		os.Exit(1)
	}
	if name := os.Getenv(wgEnv); name != "" {
		wgProgram(name)
		return
	}
	lab.NeedEtcd()
	lab.NeedNewestEtcd()
	lab.NeedEtcdctl()
	lab.NeedCNI()
	lab.NeedFlannel()
	lab.NeedFlanneld()
	lab.NeedReleaseTool()
	testsAtOnce()
	lab.Main(m)
}

// testsAtOnce has more tests run at a time than there are cores, unless a flag says how many:
// most of the time they wait.
func testsAtOnce() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
}

const (
	configKey = "/coreos.com/network/config"
	leases    = "/coreos.com/network/subnets/"

	hostGW = `{"Network": "172.7.0.0/16", "Backend": {"Type": "host-gw"}}`
	vxLAN  = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN"}}`
	direct = `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN","Directrouting": true}}`

	soon = 30 * time.Second // a generous bound for what takes milliseconds
	// stall bounds what asks this system's kernel for network devices, as dockerd does, or for
	// mounts of its own, as systemd does for each program of a unit: where many namespaces come
	// and go, the one has been seen to wait for a minute, the other for 20 seconds.
	stall = 3 * time.Minute
)

// cluster is the tutorial's: etcd on hdss7-12, and flanneld hosts beside it.
type cluster struct {
	*lab.Lab
	t     *testing.T
	stack lab.Stack // of its hosts; nil: IPv4
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
	stack  lab.Stack // of its containers; nil: IPv4
	subnet string    // "172.7.21.0/24"; "fc00:7:0:21::/64" where it has IPv6 alone
}

// number is 21 for both of these.
func (n *node) number() (number int) {
	if _, err := fmt.Sscanf(n.subnet, "172.7.%d.", &number); err != nil {
		_, _ = fmt.Sscanf(n.subnet, "fc00:7:0:%d:", &number)
	}
	return number
}

func (c *cluster) families() lab.Stack { return families(c.stack) }

func (n *node) families() lab.Stack { return families(n.stack) }

func families(s lab.Stack) lab.Stack {
	if s == nil {
		return lab.Stacks[0]
	}
	return s
}

// of is an IPv4 config for other families.
func of(s lab.Stack, config string) string {
	_, backend, _ := strings.Cut(config, `"Backend": `)
	return families(s).Config(strings.TrimSuffix(backend, "}"))
}

// way is how a peer's subnets are reached: by its number, plain or by the tunnel.
type way struct {
	peer   int
	tunnel bool
}

// routesOf are the routes that flanneld writes, by each family.
func routesOf(s lab.Stack, ways ...way) string {
	var all []string
	for _, f := range s {
		for _, w := range ways {
			subnet := netip.MustParsePrefix(lab.Subnet(f, w.peer))
			public, _, _ := strings.Cut(lab.Stack{f}.Addrs(7, w.peer), "/")
			route := fmt.Sprintf("%v via %s dev ens33 proto 77", subnet, public)
			if w.tunnel {
				route = fmt.Sprintf("%v via %v dev %s proto 77", subnet, subnet.Addr(), handfuls[f].device)
			}
			if f == inet.IPv6 {
				route += " metric 1024"
			}
			if w.tunnel {
				route += " onlink"
			}
			all = append(all, route)
		}
	}
	return strings.Join(all, "\n")
}

// eachStack runs a scenario with IPv4, with IPv6 and with both.
func eachStack(t *testing.T, scenario func(t *testing.T, s lab.Stack)) {
	t.Parallel()
	for _, s := range lab.Stacks {
		t.Run(s.String(), func(t *testing.T) { scenario(t, s) })
	}
}

// start brings up a cluster with hosts such as "hdss7-21", whose last number is
// also that of its address and of its subnet.
func start(t *testing.T, config string, names ...string) *cluster {
	t.Helper()
	return startWith(t, nil, config, names...)
}

// startWith is start for hosts of other families.
func startWith(t *testing.T, s lab.Stack, config string, names ...string) *cluster {
	t.Helper()
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t, stack: s}
	store := c.Host("hdss7-12", c.families().Addrs(7, 12))
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
	h := c.newNode(name, 7, n)
	h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) { change(h.Host, o) })
	c.hosts = append(c.hosts, h)
	return h
}

// newNode is a host of the cluster's families on a segment, with its subnet.env.
func (c *cluster) newNode(name string, segment, n int) *node {
	c.t.Helper()
	s := c.families()
	h := &node{Host: c.Host(name, s.Addrs(segment, n)), stack: c.stack, subnet: lab.Subnet(s[0], n)}
	h.SubnetEnv(s.Bridges(n)...)
	return h
}

// connected waits until every container reaches every other.
func (c *cluster) connected(within time.Duration) {
	c.t.Helper()
	c.pairs(func(a, b *node) {
		for _, f := range a.families() {
			a.box.Reach(b.box.In(f), within)
		}
	})
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
// way by each family, and counts those that are lost.
func (c *cluster) losesNothing(moment string, what func()) {
	c.t.Helper()
	for _, who := range losers(c.underPings(what)) {
		c.t.Errorf("%s: %s", moment, who)
	}
}

func (c *cluster) underPings(what func()) map[string]lab.Stats {
	c.t.Helper()
	pingers := map[string]*lab.Pinger{}
	c.pairs(func(a, b *node) {
		for _, f := range a.families() {
			pingers[a.Name+" to "+b.Name+" by "+f.String()] = a.box.PingEvery(50*time.Millisecond, b.box.In(f))
		}
	})
	time.Sleep(200 * time.Millisecond)
	what()
	time.Sleep(500 * time.Millisecond)
	return stopped(pingers)
}

// stopped is what each of the pingers has seen.
func stopped(pingers map[string]*lab.Pinger) map[string]lab.Stats {
	stats := map[string]lab.Stats{}
	for pair, p := range pingers {
		stats[pair] = p.Stop()
	}
	return stats
}

// routes are the host's routes to other hosts' subnets, one a line.
func (n *node) routes() string {
	var out []string
	for _, f := range n.families() {
		flag, network := "-4", "172.7."
		if f == inet.IPv6 {
			flag, network = "-6", "fc00:7:"
		}
		for line := range strings.Lines(n.Run("ip", flag, "route", "show", "table", "main")) {
			own := strings.Contains(line, "docker0") || f == inet.IPv6 && strings.Contains(line, "proto kernel")
			if strings.HasPrefix(line, network) && !own {
				out = append(out, strings.TrimSuffix(strings.Join(strings.Fields(line), " "), " pref medium"))
			}
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
