package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// flannelBackends are those that have IPv6, as flannel's documents write them.
var flannelBackends = map[string]string{
	"vxlan":         `{"Type": "vxlan"}`,
	"host-gw":       `{"Type": "host-gw"}`,
	"DirectRouting": `{"Type": "vxlan", "DirectRouting": true}`,
}

// newFlannels is a cluster on etcd's v3 API without any host yet.
func newFlannels(t *testing.T, s lab.Stack, config string) *cluster {
	t.Helper()
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t, stack: s}
	store := c.Host("hdss7-12", c.families().Addrs(7, 12))
	c.etcd, c.store = c.EtcdOn(lab.EtcdOptions{Newest: true}, store), &node{Host: store}
	c.etcd.Set(configKey, config)
	return c
}

// flannel joins a host on which flannel 0.28 runs.
func (c *cluster) flannel(name string, flags ...string) *node {
	c.t.Helper()
	return c.joinAs(name, func(_ *lab.Host, o *lab.FlanneldOptions) {
		o.Binary, o.MayCrash = lab.Flannel(c.t), true
		o.Args = append(o.Args, flags...)
	})
}

// TestFlannelForms holds down what flannel 0.28 writes, byte for byte, into etcd, into
// subnet.env and into the kernel: what flanneld shares a cluster with.
func TestFlannelForms(t *testing.T) {
	for name, backend := range flannelBackends {
		t.Run(name, func(t *testing.T) {
			both := lab.Stacks[2]
			c := newFlannels(t, both, both.Config(backend))
			for _, name := range []string{"hdss7-21", "hdss7-22"} { // in turn, as each writes what it has read before
				c.flannel(name).daemon.WaitReady()
			}
			a, b := c.hosts[0], c.hosts[1]
			tunnel, mtu := name != "host-gw", 1500
			macs := map[inet.Family]string{}
			if tunnel {
				mtu = 1450
				macs[inet.IPv4], macs[inet.IPv6] = b.mac("flannel.1"), b.mac("flannel-v6.1")
			}
			const key = leases + "172.7.22.0-24&fc00:7:0:22::-64"
			value := `{"PublicIP":"10.4.7.22","PublicIPv6":"fd00:4::22","BackendType":"host-gw"}`
			if tunnel {
				value = fmt.Sprintf(`{"PublicIP":"10.4.7.22","PublicIPv6":"fd00:4::22","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"},"BackendV6Data":{"VNI":1,"VtepMAC":"%s"}}`,
					macs[inet.IPv4], macs[inet.IPv6])
			}
			if lease := c.etcd.Get(key); lease == nil || lease.Value != value || lease.TTL < 86000 {
				t.Errorf("%s is %+v, want %s; there are %v", key, lease, value, c.etcd.Keys(leases))
			}
			env := fmt.Sprintf("FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.22.1/24\n"+
				"FLANNEL_IPV6_NETWORK=fc00:7::/48\nFLANNEL_IPV6_SUBNET=fc00:7:0:22::1/64\nFLANNEL_MTU=%d\nFLANNEL_IPMASQ=false\n", mtu)
			if got := read(t, b.SubnetFile()); got != env {
				t.Errorf("subnet.env is\n%s, want\n%s", got, env)
			}
			routes := "172.7.22.0/24 via 10.4.7.22 dev ens33\nfc00:7:0:22::/64 via fd00:4::22 dev ens33 metric 1024"
			if name == "vxlan" {
				routes = "172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink\nfc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1 metric 1024 onlink"
			}
			eventually(t, "the routes", a.routes, routes)
			for _, n := range c.hosts {
				n.box = n.Container("c1")
			}
			c.connected(soon)
			if tunnel {
				a.flannelDevices(t, b, name == "vxlan")
			}
		})
	}
}

// flannelDevices checks the devices, and the entries by which they reach a peer.
func (n *node) flannelDevices(t *testing.T, peer *node, entries bool) {
	t.Helper()
	for device, want := range map[string][5]string{
		"flannel.1":    {"mtu 1450", "vxlan id 1 local 10.4.7.21 dev ens33", "inet 172.7.21.0/32 scope global", "172.7.22.0", "10.4.7.22"},
		"flannel-v6.1": {"mtu 1430", "vxlan id 1 local fd00:4::21 dev ens33", "inet6 fc00:7:0:21::/128 scope global", "fc00:7:0:22::", "fd00:4::22"},
	} {
		text := n.deviceText(device)
		for _, part := range []string{want[0], want[1], "dstport 8472 nolearning"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %q:\n%s", device, part, text)
			}
		}
		if addresses := strings.Join(strings.Fields(n.Run("ip", "-oneline", "addr", "show", "dev", device)), " "); !strings.Contains(addresses, want[2]) {
			t.Errorf("%s has no %q:\n%s", device, want[2], addresses)
		}
		mac := peer.mac(device)
		neighbours := n.Run("ip", "neigh", "show", "dev", device, "nud", "permanent")
		forwarding := n.Run("bridge", "fdb", "show", "dev", device)
		if strings.Contains(neighbours, want[3]+" lladdr "+mac) != entries || strings.Contains(forwarding, mac+" dst "+want[4]+" self permanent") != entries {
			t.Errorf("%s has\n%s\n%s", device, neighbours, forwarding)
		}
	}
}

// TestFlannelNotation: how flannel 0.28 writes an IPv6 subnet in the name of a key,
// and how long it makes one if the config does not say.
func TestFlannelNotation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ network, length, subnet, key string }{
		{"fc00:7::/48", "", "fc00:7:0:23::", "fc00:7:0:23::-64"},
		{"fc00:7::/62", "", "fc00:7:0:2::", "fc00:7:0:2::-64"},
		{"fc00:7::/63", "", "fc00:7:0:1::", "fc00:7:0:1::-65"},
		{"fc00:7::/124", "", "fc00:7::4", "fc00:7::4-126"},
		{"fc00:7::/48", "56", "fc00:7:0:2300::", "fc00:7:0:2300::-56"},
		{"fc00:7::/48", "80", "fc00:7:0:0:1::", "fc00:7:0:0:1::-80"},
		{"fc00:7::/48", "96", "fc00:7:0:0:0:1:0:0", "fc00:7::1:0:0-96"},
		{"fc00:7::/48", "112", "fc00:7:0:1:0:0:1:0", "fc00:7:0:1::1:0-112"},
		{"fc00:7::/48", "112", "fc00:7:0:1:2:3:4:0", "fc00:7:0:1:2:3:4:0-112"},
		{"fc00:7::/48", "126", "fc00:7:0:a:b:c:d:fffc", "fc00:7:0:a:b:c:d:fffc-126"},
		{"2001:db8:A::/48", "64", "2001:DB8:A:B::", "2001:db8:a:b::-64"},
	} {
		t.Run(tt.key, func(t *testing.T) {
			config := map[string]any{
				"Network": "172.7.0.0/16", "SubnetMin": "172.7.21.0", "SubnetMax": "172.7.21.0",
				"EnableIPv6": true, "IPv6Network": tt.network, "IPv6SubnetMin": tt.subnet, "IPv6SubnetMax": tt.subnet,
				"Backend": map[string]string{"Type": "host-gw"},
			}
			if tt.length != "" {
				config["IPv6SubnetLen"] = json.Number(tt.length)
			}
			text, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			c := newFlannels(t, lab.Stacks[2], string(text))
			h := c.Host("hdss7-21", c.stack.Addrs(7, 21))
			h.FlanneldAs(func(o *lab.FlanneldOptions) { o.Binary = lab.Flannel(t) }).WaitReady()
			keys := c.etcd.Keys(leases)
			if _, ok := keys[leases+"172.7.21.0-24&"+tt.key]; !ok || len(keys) != 1 {
				t.Errorf("its keys are %v", keys)
			}
		})
	}
}

// outcome is what became of a flannel.
type outcome string

const (
	worksOn outcome = "works on"
	crashes outcome = "crashes"
	ends    outcome = "ends"
	stuck   outcome = "runs, and takes in nothing more"
	loops   outcome = "uses its processor without end"
)

// reaction is what flannel 0.28 makes of keys that others write.
type reaction struct {
	stack   lab.Stack // of its config
	backend string
	keys    map[string]string // before it starts
	noFile  bool              // it has no subnet.env
	then    func(c *cluster)
	want    outcome
	routes  []string // to these subnets, and to no others
	held    []string // keys at the end, as patterns; nil: not asked
	value   string   // is part of each of them
}

const (
	plain   = leases + "172.7.31.0-24"
	dualKey = leases + "172.7.31.0-24&fc00:7:0:31::-64"
	good    = leases + "172.7.39.0-24&fc00:7:0:39::-64" // for a sign that all before it was taken in
	v4, v6  = "172.7.31.0/24", "fc00:7:0:31::/64"
)

// leaseOf is the value of a lease as flannel writes it, of host n.
func leaseOf(s lab.Stack, backend string, n int) string {
	data := fmt.Sprintf(`{"VNI":1,"VtepMAC":"0a:00:00:00:00:%d"}`, n)
	lease := map[string]any{"PublicIP": "0.0.0.0", "PublicIPv6": nil, "BackendType": backend}
	for _, f := range s {
		ip, _, _ := strings.Cut(lab.Stack{f}.Addrs(7, n), "/")
		field, of := "PublicIP", "BackendData"
		if f == inet.IPv6 {
			field, of = "PublicIPv6", "BackendV6Data"
		}
		lease[field] = ip
		if backend == "vxlan" {
			lease[of] = json.RawMessage(data)
		}
	}
	text, err := json.Marshal(lease)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestFlannelReacts holds down what flannel 0.28 does with what others write. Much of it
// is an accident of its; flanneld must not lead it there.
func TestFlannelReacts(t *testing.T) {
	four, six, both := lab.Stacks[0], lab.Stacks[1], lab.Stacks[2]
	type keys = map[string]string
	for _, backend := range []string{"vxlan", "host-gw"} {
		four31, both31 := leaseOf(four, backend, 31), leaseOf(both, backend, 31)
		withoutV6 := strings.Replace(both31, `"BackendV6Data":{"VNI":1,"VtepMAC":"0a:00:00:00:00:31"},`, "", 1)
		table := map[string]reaction{
			"a dual key":                        {stack: both, keys: keys{dualKey: both31}, want: worksOn, routes: []string{v4, v6}},
			"a plain key":                       {stack: both, keys: keys{plain: four31}, want: worksOn, routes: []string{v4}},
			"a dual key comes, the plain stays": {stack: both, keys: keys{plain: four31}, then: func(c *cluster) { c.etcd.Set(dualKey, both31) }, want: worksOn, routes: []string{v4, v6}},
			"the plain key goes afterwards": {stack: both, keys: keys{plain: four31}, then: func(c *cluster) {
				c.etcd.Set(dualKey, both31)
				c.etcd.Delete(plain)
			}, want: crashes},
			"the plain key goes before": {stack: both, keys: keys{plain: four31}, then: func(c *cluster) {
				c.etcd.Delete(plain)
				c.etcd.Set(dualKey, both31)
			}, want: worksOn, routes: []string{v4, v6}},
			"in one transaction": {stack: both, keys: keys{plain: four31}, then: func(c *cluster) { c.etcd.Replace(plain, dualKey, both31) }, want: worksOn, routes: []string{v4, v6}},
			"and back":           {stack: both, keys: keys{dualKey: both31}, then: func(c *cluster) { c.etcd.Replace(dualKey, plain, four31) }, want: worksOn, routes: []string{v4}},
			"the plain key is written again": {stack: both, keys: keys{plain: four31}, then: func(c *cluster) {
				c.etcd.Set(dualKey, both31)
				c.etcd.Set(plain, four31)
			}, want: crashes},
			"both were there":                     {stack: both, keys: keys{plain: four31, dualKey: both31}, want: worksOn, routes: []string{v4, v6}},
			"IPv4 alone, a plain key":             {stack: four, keys: keys{plain: four31}, want: worksOn, routes: []string{v4}},
			"IPv4 alone, a dual key":              {stack: four, keys: keys{dualKey: both31}, want: stuck},
			"IPv4 alone, a dual key comes":        {stack: four, then: func(c *cluster) { c.etcd.Set(dualKey, both31) }, want: stuck},
			"a plain key, and a subnet to choose": {stack: both, keys: keys{plain: four31}, noFile: true, want: crashes},
			"a dual key, and a subnet to choose":  {stack: both, keys: keys{dualKey: both31}, noFile: true, want: worksOn, routes: []string{v4, v6}},
			"its own plain key":                   {stack: both, keys: keys{leases + "172.7.21.0-24": leaseOf(four, backend, 21)}, want: crashes},
			"its own dual key, IPv4 alone": {stack: four, keys: keys{leases + "172.7.21.0-24&fc00:7:0:21::-64": leaseOf(both, backend, 21)}, want: worksOn,
				held: []string{`172\.7\.([013-9]?\d|2[02-9]|\d{3})\.0-24`}}, // another one
			"its own key is deleted":          {stack: both, then: func(c *cluster) { c.etcd.Delete(leases + "172.7.21.0-24&fc00:7:0:21::-64") }, want: ends},
			"its IPv6 subnet is another's":    {stack: both, keys: keys{leases + "172.7.31.0-24&fc00:7:0:21::-64": both31}, want: worksOn, held: []string{"172.7.21.0-24&fc00:7:0:21::-64", "172.7.31.0-24&fc00:7:0:21::-64"}},
			"IPv6 alone":                      {stack: six, want: worksOn, held: []string{"0.0.0.0-0&fc00:7:0:[0-9a-f]+::-64"}},
			"IPv6 alone, another's key":       {stack: six, keys: keys{leases + "0.0.0.0-0&fc00:7:0:31::-64": leaseOf(six, backend, 31)}, want: worksOn, held: []string{"0.0.0.0-0&fc00:7:0:31::-64"}, value: `"fd00:4::21"`},
			"IPv6 alone, another's key comes": {stack: six, then: func(c *cluster) { c.etcd.Set(leases+"0.0.0.0-0&fc00:7:0:31::-64", leaseOf(six, backend, 31)) }, want: stuck},
			"IPv6 alone, another's with IPv4": {stack: six, keys: keys{leases + "0.0.0.0-0&fc00:7:0:31::-64": strings.Replace(leaseOf(six, backend, 31), "0.0.0.0", "10.4.7.31", 1)}, want: loops},
		}
		if backend == "vxlan" {
			table["a dual key without IPv6's data"] = reaction{stack: both, keys: keys{dualKey: withoutV6}, want: worksOn}
		}
		for name, r := range table {
			r.backend = backend
			t.Run(backend+", "+name, func(t *testing.T) { r.check(t) })
		}
	}
}

func (r reaction) check(t *testing.T) {
	c := newFlannels(t, lab.Stacks[2], r.stack.Config(`{"Type": "`+r.backend+`"}`))
	c.etcd.Set(good, leaseOf(lab.Stacks[2], r.backend, 39))
	if len(r.stack) == 1 { // such a key would crash it
		c.etcd.Delete(good)
	}
	for key, value := range r.keys {
		c.etcd.Set(key, value)
	}
	n := c.newNode("hdss7-21", 7, 21)
	n.stack = r.stack
	if r.noFile {
		n.SubnetEnv()
	} else {
		n.SubnetEnv(r.stack.Bridges(21)...)
	}
	n.daemon = n.FlanneldAs(func(o *lab.FlanneldOptions) {
		o.Binary, o.MayCrash = lab.Flannel(t), true
		if r.stack[0] == inet.IPv6 { // with it, host-gw does not start
			o.Args = without(o.Args, "--public-ip=")
		}
	})
	if r.want == loops {
		n.daemon.WaitLog("Picking ipv6 subnet")
		before := n.daemon.CPUTime()
		lab.Eventually(t, soon, "a second of processor time", func() error {
			if used := n.daemon.CPUTime() - before; used < time.Second {
				return fmt.Errorf("it used %v", used)
			}
			return nil
		})
		return
	}
	if r.then != nil {
		n.daemon.WaitReady()
		n.daemon.WaitLog("to renew lease") // it watches its own key
		if first := len(r.keys) + len(r.stack) - 1; first > 0 {
			eventually(t, "the first routes", func() string { return fmt.Sprint(n.routes() != "") }, "true")
		}
		r.then(c)
	}
	if r.want == stuck {
		r.isHeardOf(c, n)
		n.isStuck(t)
		return
	}
	lab.Eventually(t, soon, "that flannel "+string(r.want), func() error {
		if !n.daemon.Running() {
			got := ends
			if strings.Contains(n.daemon.Log(), "panic: ") {
				got = crashes
			}
			if got != r.want {
				t.Fatalf("it %s:\n%s", got, n.daemon.Log())
			}
			return nil
		}
		if r.want != worksOn {
			return fmt.Errorf("it runs; the routes are\n%s", n.routes())
		}
		return r.reached(c, n)
	})
}

// reached says what is missing for a flannel that has taken everything in.
func (r reaction) reached(c *cluster, n *node) error {
	want := append([]string{}, r.routes...)
	if len(r.stack) > 1 {
		want = append(want, "172.7.39.0/24", "fc00:7:0:39::/64")
	}
	var have []string
	for line := range strings.Lines(n.routes()) {
		have = append(have, strings.Fields(line)[0])
	}
	slices.Sort(have)
	slices.Sort(want)
	if r.held == nil && !slices.Equal(have, want) {
		return fmt.Errorf("it routes to %v, want %v:\n%s", have, want, n.daemon.Log())
	}
	if r.held == nil {
		return nil
	}
	held := c.etcd.Keys(leases)
	delete(held, good)
	for i, key := range slices.Sorted(maps.Keys(held)) {
		if len(held) != len(r.held) || !regexp.MustCompile("^"+leases+r.held[i]+"$").MatchString(key) || !strings.Contains(held[key], r.value) {
			return fmt.Errorf("the keys are %v, want %v", held, r.held)
		}
	}
	if len(held) == 0 {
		return fmt.Errorf("it has no key")
	}
	return nil
}

// isHeardOf waits until flannel has an event: "Received Subnet Event", "Subnet added". What was
// written before its watch stands, it may have missed, so it is written again.
func (r reaction) isHeardOf(c *cluster, n *node) {
	c.t.Helper()
	written := time.Now()
	lab.Eventually(c.t, soon, "flannel to hear of the lease", func() error {
		log := n.daemon.Log()
		if strings.Contains(log, "Subnet ") {
			return nil
		}
		if r.then != nil && time.Since(written) > 2*time.Second {
			r.then(c)
			written = time.Now()
		}
		return errors.New("the log is:\n" + log)
	})
}

// isStuck waits for a goroutine whose panic waits for others' end, and so never comes.
func (n *node) isStuck(t *testing.T) {
	t.Helper()
	n.daemon.WaitReady()
	time.Sleep(time.Second)
	if !n.daemon.Running() {
		t.Fatalf("it has ended:\n%s", n.daemon.Log())
	}
	n.daemon.Signal(syscall.SIGQUIT)
	n.daemon.Wait(soon)
	if log := n.daemon.Log(); !strings.Contains(log, "handleSubnetEvents") || !strings.Contains(log, "sync.(*WaitGroup).Wait") || !strings.Contains(log, "panic(") {
		t.Errorf("its goroutines are\n%s", log)
	}
}
