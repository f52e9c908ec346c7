package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// deviceText is the device as `ip -d link` shows it, one word after another.
func (n *node) deviceText(name string) string {
	out, err := n.Try("ip", "-d", "link", "show", name)
	if err != nil {
		return "missing"
	}
	return strings.Join(strings.Fields(out), " ")
}

// vtep is the MAC of flannel.1.
func (n *node) vtep() string {
	_, after, _ := strings.Cut(n.deviceText("flannel.1"), "link/ether ")
	return strings.Fields(after + " none")[0]
}

func TestVXLANObjects(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	mac := h22.vtep()
	if got, want := c.etcd.Get(leases+"172.7.22.0-24").Value, `{"PublicIP":"10.4.7.22","BackendType":"vxlan","BackendData":{"VtepMAC":"`+mac+`"}}`; got != want {
		t.Errorf("lease %s, want %s", got, want)
	}
	eventually(t, "the route", h21.routes, "172.7.22.0/24 via 172.7.22.0 dev flannel.1 proto 77 onlink")
	device := h21.deviceText("flannel.1")
	for _, want := range []string{"mtu 1450", "vxlan id 1 local 10.4.7.21 dev ens33", "dstport 8472 nolearning"} {
		if !strings.Contains(device, want) {
			t.Errorf("no %q in %s", want, device)
		}
	}
	if got := strings.Fields(h21.Run("ip", "-4", "-o", "addr", "show", "flannel.1")); strings.Join(got[2:6], " ") != "inet 172.7.21.0/32 scope global" {
		t.Errorf("address %v", got)
	}
	if got := strings.Join(strings.Fields(h21.Run("ip", "neigh", "show", "dev", "flannel.1")), " "); !strings.Contains(got, "172.7.22.0 lladdr "+mac+" PERMANENT") {
		t.Errorf("neighbours %q", got)
	}
	if got := h21.Run("bridge", "fdb", "show", "dev", "flannel.1"); !strings.Contains(got, mac+" dst 10.4.7.22 self permanent") {
		t.Errorf("forwarding entries %q", got)
	}
	if env := read(t, h21.SubnetFile()); !strings.Contains(env, "FLANNEL_MTU=1450\n") {
		t.Errorf("subnet file\n%s", env)
	}
}

// Everything that can be undone by hand is put back, and what an administrator
// added stays.
func TestRepairs(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	mac := h22.vtep()
	h21.Shell(`ip route add 10.99.0.0/16 via 10.4.7.254 dev ens33
		ip route add 172.7.99.0/24 via 10.4.7.254 dev ens33
		ip neigh add 10.9.9.9 lladdr 0a:00:00:00:00:09 dev flannel.1 nud permanent
		bridge fdb add 0a:00:00:00:00:09 dev flannel.1 dst 10.4.7.99`)
	type fault struct{ name, commands string }
	table := []fault{
		{"route deleted", "ip route del 172.7.22.0/24"},
		{"route edited", "ip route replace 172.7.22.0/24 via 10.4.7.99 dev ens33"},
		{"route given another attribute", "ip route replace 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink mtu 700 proto 77"},
		{"all routes of ours flushed", "ip route flush proto 77"},
		{"neighbour deleted", "ip neigh del 172.7.22.0 dev flannel.1"},
		{"neighbour edited", "ip neigh replace 172.7.22.0 lladdr 0a:00:00:00:00:77 dev flannel.1 nud permanent"},
		{"neighbour made to age", "ip neigh replace 172.7.22.0 lladdr " + mac + " dev flannel.1 nud stale"},
		{"forwarding entry deleted", "bridge fdb del " + mac + " dev flannel.1"},
		{"forwarding entry edited", "bridge fdb replace " + mac + " dev flannel.1 dst 10.4.7.99 self permanent"},
		{"address flushed", "ip addr flush dev flannel.1"},
		{"device set down", "ip link set flannel.1 down"},
		{"MTU changed", "ip link set flannel.1 mtu 1000"},
		{"MAC changed", "ip link set flannel.1 address 0a:00:00:00:00:55"},
		{"NIC down and up", "ip link set ens33 down\nip link set ens33 up\nip route add 172.7.99.0/24 via 10.4.7.254 dev ens33"},
		{"device deleted", "ip link del flannel.1"},
	}
	state := func() string {
		_, device, _ := strings.Cut(h21.deviceText("flannel.1"), "<")
		show := func(command ...string) string { // the device may be away at this moment
			out, err := h21.Try(command[0], command[1:]...)
			if err != nil {
				return "missing: " + err.Error()
			}
			return out
		}
		text := device + " " + show("ip", "-4", "-br", "addr", "show", "flannel.1") +
			show("ip", "neigh", "show", "dev", "flannel.1", "172.7.22.0") + grep(show("bridge", "fdb", "show", "dev", "flannel.1"), mac)
		return h21.routes() + "\n" + strings.Join(strings.Fields(text), " ")
	}
	before := state()
	if strings.Contains(before, "missing") {
		t.Fatal(before)
	}
	var report strings.Builder
	fmt.Fprintf(&report, "\n%-30s  repaired after\n", "fault")
	for _, f := range table {
		h21.Shell(f.commands)
		began := time.Now()
		eventually(t, "repair of: "+f.name, state, before)
		h21.box.Reach(h22.box, soon)
		fmt.Fprintf(&report, "%-30s  %v\n", f.name, time.Since(began).Round(time.Millisecond))
	}
	t.Log(report.String())

	// Those on the device went with it when it was deleted; those on the NIC,
	// when it was down. One more, and a repair beside it:
	h21.Shell(`ip route add 10.99.0.0/16 via 10.4.7.254 dev ens33
		ip neigh add 10.9.9.9 lladdr 0a:00:00:00:00:09 dev flannel.1 nud permanent
		bridge fdb add 0a:00:00:00:00:09 dev flannel.1 dst 10.4.7.99
		ip route del 172.7.22.0/24`)
	eventually(t, "repair beside strangers", state, before)
	strangers := h21.Run("ip", "route") + h21.Run("ip", "neigh", "show", "dev", "flannel.1") + h21.Run("bridge", "fdb", "show", "dev", "flannel.1")
	for _, want := range []string{"10.99.0.0/16 via 10.4.7.254", "10.9.9.9 lladdr 0a:00:00:00:00:09 PERMANENT", "0a:00:00:00:00:09 dst 10.4.7.99"} {
		if !strings.Contains(strangers, want) {
			t.Errorf("the administrator's %q is gone from\n%s", want, strangers)
		}
	}
}

func grep(text, word string) (out string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			out += line
		}
	}
	return out
}

// The NIC's address changes: the lease follows, and so does everybody.
func TestAddressChange(t *testing.T) {
	for _, mode := range []string{hostGW, vxLAN} {
		t.Run(mode, func(t *testing.T) {
			c := start(t, mode, "hdss7-21", "hdss7-22")
			h := c.Host("hdss7-23", "10.4.7.23/24").SubnetEnv("172.7.23.1/24")
			d := h.FlanneldAs(func(o *lab.FlanneldOptions) { o.Args = o.Args[1:] }) // no --public-ip
			d.WaitReady()
			box := h.Container("c1")
			c.hosts[0].box.Reach(box, soon)
			h.Shell("ip addr del 10.4.7.23/24 dev ens33\nip addr add 10.4.7.123/24 dev ens33")
			lab.Eventually(t, soon, "the lease follows", func() error {
				if v := c.etcd.Get(leases + "172.7.23.0-24").Value; !strings.HasPrefix(v, `{"PublicIP":"10.4.7.123"`) {
					return fmt.Errorf("it is %s", v)
				}
				return nil
			})
			c.hosts[0].box.Reach(box, soon)
			box.Reach(c.hosts[1].box, soon)
		})
	}
}

// Across a router the tunnel, on one segment plain routes.
func TestDirectRouting(t *testing.T) {
	c := start(t, direct, "hdss7-21", "hdss7-22")
	c.Router("gateway", "10.4.7.254/24", "10.4.8.254/24")
	far := &node{Host: c.Host("hdss8-31", "10.4.8.31/24").SubnetEnv("172.7.31.1/24"), subnet: "172.7.31.0/24"}
	far.daemon = far.Flanneld()
	far.daemon.WaitReady()
	far.box = far.Container("c1")
	c.hosts = append(c.hosts, far)
	c.connected(soon)
	eventually(t, "the routes", c.hosts[0].routes, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77\n172.7.31.0/24 via 172.7.31.0 dev flannel.1 proto 77 onlink")
	eventually(t, "the routes", far.routes, "172.7.21.0/24 via 172.7.21.0 dev flannel.1 proto 77 onlink\n172.7.22.0/24 via 172.7.22.0 dev flannel.1 proto 77 onlink")

	// The host gets a leg on the other segment's network by a direct route.
	c.losesNothing("a route to the far host without gateway comes and goes", func() {
		c.hosts[1].Shell("ip route add 10.4.8.0/24 via 10.4.7.254 dev ens33 metric 5")
		time.Sleep(time.Second)
	})
}

// A config key that changes under running hosts costs no packet.
func TestSwitch(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22", "hdss7-23")
	for _, config := range []string{vxLAN, direct, hostGW, direct, vxLAN, hostGW} {
		c.losesNothing("switch to "+config, func() {
			c.etcd.Delete(configKey) // as the tutorial does
			time.Sleep(200 * time.Millisecond)
			c.etcd.Set(configKey, config)
			lab.Eventually(t, soon, "all leases follow", func() error {
				for _, n := range c.hosts {
					v := c.etcd.Get(leases + strings.Replace(n.subnet, "/", "-", 1)).Value
					if want := strings.Contains(config, "VxLAN"); strings.Contains(v, "vxlan") != want {
						return fmt.Errorf("%s has %s", n, v)
					}
				}
				return nil
			})
			time.Sleep(time.Second)
		})
	}
	lab.Eventually(t, 30*time.Second, "flannel.1 goes", func() error {
		for _, n := range c.hosts {
			if d := n.deviceText("flannel.1"); d != "missing" {
				return fmt.Errorf("%s still has %s", n, d)
			}
		}
		return nil
	})
	c.losesNothing("the devices are gone", func() {})
}

// The tutorial's way: stop all, change the key, start all, whether or not the
// routes were deleted by hand.
func TestSwitchWhileStopped(t *testing.T) {
	for name, byHand := range map[string]string{"routes left": "true", "routes deleted by hand": "ip route flush proto 77"} {
		t.Run(name, func(t *testing.T) {
			c := start(t, hostGW, "hdss7-21", "hdss7-22")
			to := func(config string, routes ...string) {
				for _, n := range c.hosts {
					n.daemon.Stop()
					n.Shell(byHand)
				}
				c.etcd.Delete(configKey)
				c.etcd.Set(configKey, config)
				for _, n := range c.hosts {
					n.daemon.Restart()
				}
				for i, n := range c.hosts {
					n.daemon.WaitReady()
					eventually(t, "the route of "+n.Name, n.routes, routes[i])
				}
				c.connected(soon)
			}
			to(vxLAN, "172.7.22.0/24 via 172.7.22.0 dev flannel.1 proto 77 onlink", "172.7.21.0/24 via 172.7.21.0 dev flannel.1 proto 77 onlink")
			to(direct, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77", "172.7.21.0/24 via 10.4.7.21 dev ens33 proto 77")
			to(hostGW, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77", "172.7.21.0/24 via 10.4.7.21 dev ens33 proto 77")
			for _, n := range c.hosts {
				eventually(t, "flannel.1 of "+n.Name, func() string { return n.deviceText("flannel.1") }, "missing")
			}
		})
	}
}

// What v0.11 leaves behind is taken over: routes of protocol boot, and its
// device without a mark.
func TestTakeOverFromV011(t *testing.T) {
	c := start(t, hostGW)
	h22 := c.join("hdss7-22")
	h22.daemon.WaitReady()
	h := &node{Host: c.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24"), subnet: "172.7.21.0/24"}
	h.Shell("ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33")
	h.daemon = h.Flanneld()
	c.hosts = append(c.hosts, h)
	for _, n := range c.hosts {
		n.box = n.Container("c1")
	}
	eventually(t, "the route of v0.11 is ours", h.routes, "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")
	c.connected(soon)
	h.daemon.Stop()

	// The same over vxlan, with v0.11's own device, which must not be touched.
	c.etcd.Set(configKey, vxLAN)
	lab.Eventually(t, soon, "hdss7-22 has a VTEP", func() error {
		if h22.deviceText("flannel.1") == "missing" {
			return fmt.Errorf("missing")
		}
		return nil
	})
	h.Shell(`ip route flush proto 77
		ip link add flannel.1 address 0a:39:13:5c:8e:41 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
		ip addr add 172.7.21.0/32 dev flannel.1
		ip link set flannel.1 up
		ip neigh add 172.7.22.0 lladdr ` + h22.vtep() + ` dev flannel.1 nud permanent
		bridge fdb add ` + h22.vtep() + ` dev flannel.1 dst 10.4.7.22
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink`)
	index := strings.Fields(h.Run("ip", "-o", "link", "show", "flannel.1"))[0]
	c.etcd.Set(leases+"172.7.21.0-24", `{"PublicIP":"10.4.7.21","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:41"}}`)
	h22.box.Reach(h.box, soon)
	c.losesNothing("the binary is swapped", func() {
		h.daemon.Restart()
		h.daemon.WaitReady()
	})
	eventually(t, "the route of v0.11 is ours", h.routes, "172.7.22.0/24 via 172.7.22.0 dev flannel.1 proto 77 onlink")
	if now := strings.Fields(h.Run("ip", "-o", "link", "show", "flannel.1"))[0]; now != index {
		t.Errorf("the device was made anew: index %s, was %s", now, index)
	}
}
