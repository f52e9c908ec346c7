package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

const (
	udpMode       = `{"Network": "172.7.0.0/16"}`
	wireguardMode = `{"Network": "172.7.0.0/16", "Backend": {"Type": "wireguard"}}`
	allocMode     = `{"Network": "172.7.0.0/16", "Backend": {"Type": "alloc"}}`
)

// newModes is a cluster with two hosts, each with a container, on a store of its own.
func newModes(t *testing.T, s lab.Stack, store lab.EtcdOptions, config string) *cluster {
	t.Helper()
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t, stack: s}
	c.store = &node{Host: c.Host("hdss7-12", c.families().Addrs(7, 12))}
	c.etcd = c.EtcdOn(store, c.store.Host)
	c.etcd.Set(configKey, config)
	for _, name := range []string{"hdss7-21", "hdss7-22"} {
		c.join(name)
	}
	for _, n := range c.hosts {
		n.box = n.Container("c1")
	}
	return c
}

// tuned are wireguard's options, each with a value that is not its default.
type tuned struct {
	port, portV6, mtu int
	keepalive         time.Duration
	psk               wgtypes.Key
}

var untuned = tuned{port: 51820, portV6: 51821, mtu: 1420}

func newTuned(t *testing.T) tuned {
	psk, err := wgtypes.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return tuned{51900, 51901, 1400 - 80, 25 * time.Second, psk}
}

func (o tuned) backend() string {
	return fmt.Sprintf(`{"Type": "wireguard", "ListenPort": %d, "ListenPortV6": %d, "MTU": %d, "PersistentKeepaliveInterval": %d, "PSK": "%v"}`,
		o.port, o.portV6, o.mtu+80, int(o.keepalive.Seconds()), o.psk)
}

// TestFormsOfModes holds what hosts of these modes write, byte for byte: into etcd, into subnet.env
// and into the kernel.
func TestFormsOfModes(t *testing.T) {
	for name, store := range map[string]lab.EtcdOptions{"v2": {}, "v3": {Newest: true}} {
		t.Run(name+", udp", func(t *testing.T) { newModes(t, nil, store, udpMode).formsOfUDP(t) })
		t.Run(name+", alloc", func(t *testing.T) { newModes(t, nil, store, allocMode).formsOfAlloc(t) })
		for _, s := range lab.Stacks {
			t.Run(name+", wireguard, "+s.String(), func(t *testing.T) {
				o, backend := untuned, `{"Type": "wireguard"}`
				if name == "v2" {
					o = newTuned(t)
					backend = o.backend()
				}
				newModes(t, s, store, s.Config(backend)).formsOfWireGuard(t, o)
			})
		}
	}
}

func (c *cluster) formsOfUDP(t *testing.T) {
	c.connected(soon)
	c.hasLeases(t, func(n *node) string { return fmt.Sprintf(`{"PublicIP":"%v"}`, n.IP) })
	h := c.hosts[0]
	h.hasEnv(t, 1472)
	h.hasTUN(t, "flannel0", 1472, "inet 172.7.21.0/32 scope global flannel0")
	eventually(t, "the routes", h.routes, "172.7.0.0/16 dev flannel0 proto 77")
	if text := h.Run("cat", "/proc/net/udp"); !strings.Contains(text, " 1507040A:205D ") {
		t.Errorf("nobody listens at 10.4.7.21:8285:\n%s", text)
	}
	c.hosts[1].box.HTTPServer()
	if got := h.box.Get(lab.URL(c.hosts[1].box)); got != "hello, 172.7.21.2\n" {
		t.Errorf("the server saw %q", got)
	}
}

func (c *cluster) formsOfAlloc(t *testing.T) {
	c.hasLeases(t, func(n *node) string { return fmt.Sprintf(`{"PublicIP":"%v"}`, n.IP) })
	for i, n := range c.hosts {
		n.hasEnv(t, 1500)
		if routes := n.routes(); routes != "" {
			t.Errorf("%s has the routes\n%s", n, routes)
		}
		links := n.Run("ip", "-o", "link")
		if strings.Count(links, "\n") != 3 || strings.Contains(links, "flannel") { // lo, ens33, docker0 and the container's
			t.Errorf("%s has\n%s", n, links)
		}
		if out, code := runCommand(t, n.Host, "status"); code != 0 || strings.Contains(out, "problems") || !strings.Contains(out, "backend alloc") {
			t.Errorf("%s: exit code %d:\n%s", n, code, out)
		}
		peer := c.hosts[1-i]
		n.Run("ip", "route", "add", peer.subnet, "via", peer.IP.String())
	}
	c.connected(soon)
}

func (c *cluster) formsOfWireGuard(t *testing.T, o tuned) {
	c.connected(soon)
	public, private := map[string]wgtypes.Key{}, map[string]wgtypes.Key{}
	for _, n := range c.hosts {
		private[n.Name] = n.keyFile(t)
		public[n.Name] = private[n.Name].PublicKey()
	}
	c.hasLeases(t, func(n *node) string {
		value := n.publicIPs() + `"BackendType":"wireguard"`
		for _, f := range n.families() {
			field, port := "BackendData", o.port
			if f == inet.IPv6 {
				field, port = "BackendV6Data", o.portV6
			}
			value += fmt.Sprintf(`,"%s":{"PublicKey":"%v","Port":%d}`, field, public[n.Name], port)
		}
		return value + "}"
	})
	h, peer := c.hosts[0], c.hosts[1]
	h.hasEnv(t, o.mtu)
	var routes []string
	for _, f := range h.families() {
		dev, route, address, port, endpoint := "flannel-wg", "172.7.0.0/16 dev flannel-wg proto 77", "inet 172.7.21.0/32 scope global flannel-wg", o.port, "10.4.7.22"
		if f == inet.IPv6 {
			dev, route, address, port, endpoint = "flannel-wg-v6", "fc00:7::/48 dev flannel-wg-v6 proto 77 metric 1024", "inet6 fc00:7:0:21::/128 scope global nodad", o.portV6, "[fd00:4::22]"
		}
		routes = append(routes, route)
		h.hasTUN(t, dev, o.mtu, address)
		want := fmt.Sprintf("key %v port %d\npeer %v endpoint %s:%d allowed %s", private[h.Name], port, public[peer.Name], endpoint, port, lab.Subnet(f, 22))
		if o.psk != (wgtypes.Key{}) {
			want += fmt.Sprintf(" psk %v keepalive %v", o.psk, o.keepalive)
		}
		if got := wgText(h.wg(t, dev, nil)); got != want {
			t.Errorf("%s is\n%s, want\n%s", dev, got, want)
		}
	}
	eventually(t, "the routes", h.routes, strings.Join(routes, "\n"))
	out, _ := runCommand(t, h.Host, "status", "-o", "json")
	for what, text := range map[string]string{"log": h.daemon.Log(), "status": out} {
		if strings.Contains(text, private[h.Name].String()) || o.psk != (wgtypes.Key{}) && strings.Contains(text, o.psk.String()) {
			t.Errorf("a secret is in the %s:\n%s", what, text)
		}
	}
}

// hasLeases compares the keys there are.
func (c *cluster) hasLeases(t *testing.T, value func(*node) string) {
	t.Helper()
	want := map[string]string{}
	for _, n := range c.hosts {
		n.daemon.WaitReady()
		want[n.leaseKey()] = value(n)
	}
	if got := c.etcd.Keys(leases); !maps.Equal(got, want) {
		t.Errorf("the leases are\n%v, want\n%v", got, want)
	}
}

// hasEnv compares subnet.env.
func (n *node) hasEnv(t *testing.T, mtu int) {
	t.Helper()
	want := ""
	for i, f := range n.families() {
		name, network := "FLANNEL_", "172.7.0.0/16"
		if f == inet.IPv6 {
			name, network = "FLANNEL_IPV6_", "fc00:7::/48"
		}
		want += fmt.Sprintf("%sNETWORK=%s\n%sSUBNET=%s\n", name, network, name, n.families().Bridges(n.number())[i])
	}
	want += fmt.Sprintf("FLANNEL_MTU=%d\nFLANNEL_IPMASQ=false\n", mtu)
	if got := read(t, n.SubnetFile()); got != want {
		t.Errorf("subnet.env of %s is\n%s, want\n%s", n, got, want)
	}
}

// hasTUN compares a device of user space, and its only address.
func (n *node) hasTUN(t *testing.T, dev string, mtu int, address string) {
	t.Helper()
	text := n.deviceText(dev)
	for _, part := range []string{"<POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP>", fmt.Sprintf(" mtu %d ", mtu), " tun type tun pi off ", " persist on ", " alias flanneld"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s has no %q:\n%s", dev, part, text)
		}
	}
	var got []string
	for line := range strings.Lines(n.Run("ip", "-o", "addr", "show", "dev", dev)) {
		line, _, _ = strings.Cut(line, `\`)
		if words := strings.Fields(line)[2:]; !strings.HasPrefix(words[1], "fe80:") {
			got = append(got, strings.Join(words, " "))
		}
	}
	if !slices.Equal(got, []string{address}) {
		t.Errorf("%s has the addresses %q, want %q", dev, got, address)
	}
}

// keyFile is the host's private key, which nobody else may read.
func (n *node) keyFile(t *testing.T) wgtypes.Key {
	t.Helper()
	info, err := os.Stat(n.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("%s has the mode %v", n.KeyFile(), info.Mode())
	}
	key, err := wgtypes.ParseKey(strings.TrimSuffix(read(t, n.KeyFile()), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRoutesOfModesPerPeer: where the network holds what the hosts need, here themselves, each
// peer has a route of its own.
func TestRoutesOfModesPerPeer(t *testing.T) {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, c.Host("hdss7-12", "10.4.7.12/24"))
	backends := map[string]string{"flannel0": `{"Type": "udp"}`, "flannel-wg": `{"Type": "wireguard"}`}
	config := func(dev string) {
		c.etcd.Set(configKey, `{"Network": "10.4.0.0/16", "SubnetMin": "10.4.101.0", "Backend": `+backends[dev]+`}`)
	}
	config("flannel0")
	for i := 21; i <= 23; i++ {
		h := c.Host(fmt.Sprintf("hdss7-%d", i), fmt.Sprintf("10.4.7.%d/24", i))
		n := &node{Host: h, subnet: fmt.Sprintf("10.4.1%d.0/24", i)}
		env := fmt.Sprintf("FLANNEL_NETWORK=10.4.0.0/16\nFLANNEL_SUBNET=10.4.1%d.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n", i)
		if err := os.WriteFile(h.SubnetFile(), []byte(env), 0o644); err != nil {
			t.Fatal(err)
		}
		n.daemon = n.Flanneld()
		c.hosts = append(c.hosts, n)
	}
	for _, n := range c.hosts {
		n.box = n.Container("c1")
	}
	for _, dev := range []string{"flannel0", "flannel-wg"} {
		config(dev)
		eventually(t, "the routes", func() string {
			return strings.ReplaceAll(c.hosts[0].Run("ip", "-4", "route", "show", "proto", "77"), " \n", "\n")
		}, fmt.Sprintf("10.4.122.0/24 dev %s\n10.4.123.0/24 dev %[1]s ", dev))
		c.connected(soon)
	}
}

// TestUDPHasNoIPv6: a config that asks of udp what it has not is one condition, and the hosts go
// on with what they had.
func TestUDPHasNoIPv6(t *testing.T) {
	both := lab.Stacks[2]
	c := newModes(t, both, lab.EtcdOptions{Newest: true}, both.Config(`{"Type": "vxlan"}`))
	c.connected(soon)
	routes := c.hosts[0].routes()
	c.losesNothing("udp with IPv6", func() {
		c.etcd.Set(configKey, both.Config(`{"Type": "udp"}`))
		for _, n := range c.hosts {
			lab.Eventually(t, soon, "a condition of "+n.Name, func() error {
				out, code := runCommand(t, n.Host, "status")
				if code != 0 || strings.Count(out, "carries no IPv6") != 1 {
					return fmt.Errorf("exit code %d:\n%s", code, out)
				}
				return nil
			})
		}
	})
	if now := c.hosts[0].routes(); now != routes {
		t.Errorf("the routes were\n%s, and are\n%s", routes, now)
	}
	var s struct{ Conditions []json.RawMessage }
	out, _ := runCommand(t, c.hosts[0].Host, "status", "-o", "json")
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&s); err != nil || len(s.Conditions) != 1 {
		t.Errorf("%v; there are %d conditions in\n%s", err, len(s.Conditions), out)
	}
	if n := strings.Count(c.hosts[0].daemon.Log(), "carries no IPv6"); n < 1 || n > 2 {
		t.Errorf("it is logged %d times:\n%s", n, c.hosts[0].daemon.Log())
	}
	c.etcd.Set(configKey, both.Config(`{"Type": "vxlan"}`))
	lab.Eventually(t, soon, "the condition to go", func() error {
		if out, _ := runCommand(t, c.hosts[0].Host, "status"); strings.Contains(out, "problems") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}
