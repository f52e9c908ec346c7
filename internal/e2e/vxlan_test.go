package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
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
func (n *node) vtep() string { return n.mac("flannel.1") }

// mac is that of a device.
func (n *node) mac(device string) string {
	_, after, _ := strings.Cut(n.deviceText(device), "link/ether ")
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

// handful is what names a family's objects on hdss7-21, for what is typed by hand.
type handful struct {
	ip, device      string // the command; the tunnel's
	subnet, vtep    string // of hdss7-22
	public, other   string // of hdss7-22; of nobody
	gateway, own    string // own: on ens33, "" where the kernel keeps it
	far, between    string // networks of somebody else's, the latter within the cluster's
	stranger, short string // a neighbour of somebody else's; an MTU
}

var handfuls = map[inet.Family]handful{
	inet.IPv4: {"ip -4", "flannel.1", "172.7.22.0/24", "172.7.22.0", "10.4.7.22", "10.4.7.99", "10.4.7.254", "", "10.99.0.0/16", "172.7.99.0/24", "10.9.9.9", "1000"},
	inet.IPv6: {"ip -6", "flannel-v6.1", "fc00:7:0:22::/64", "fc00:7:0:22::", "fd00:4::22", "fd00:4::99", "fd00:4::1", "fd00:4::21/64", "fd99::/16", "fc00:7:0:99::/64", "fd09::9", "1000"}, // the kernel has no IPv6 on links of less than 1280
}

// strangers are an administrator's.
func (h handful) strangers() string {
	return h.fill(`IP route add FAR via GATEWAY dev ens33
		IP route add BETWEEN via GATEWAY dev ens33
		ip neigh add STRANGER lladdr 0a:00:00:00:00:09 dev DEVICE nud permanent
		bridge fdb add 0a:00:00:00:00:09 dev DEVICE dst OTHER`)
}

func (h handful) fill(commands string) string {
	return strings.NewReplacer("IP ", h.ip+" ", "DEVICE", h.device, "SUBNET", h.subnet, "VTEP", h.vtep, "PUBLIC", h.public, "OTHER", h.other,
		"GATEWAY", h.gateway, "FAR", h.far, "BETWEEN", h.between, "STRANGER", h.stranger, "SHORT", h.short).Replace(commands)
}

// Everything that can be undone by hand is put back, and what an administrator
// added stays.
func TestRepairs(t *testing.T) { repairs(t, lab.Stacks[0]) }

func repairs(t *testing.T, s lab.Stack) {
	c := startWith(t, s, of(s, vxLAN), "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	state := func() (text string) {
		show := func(command string) string { // the device may be away at this moment
			out, err := h21.Try("sh", "-c", command)
			if err != nil {
				return "missing: " + err.Error()
			}
			return out
		}
		for _, f := range s {
			h := handfuls[f]
			_, device, _ := strings.Cut(h21.deviceText(h.device), "<")
			text += device + " " + show(h.fill("IP -br addr show dev DEVICE scope global")) +
				show(h.fill("ip neigh show dev DEVICE VTEP")) + grep(show(h.fill("bridge fdb show dev DEVICE")), h22.mac(h.device)) + "\n"
		}
		return h21.routes() + "\n" + strings.Join(strings.Fields(text), " ")
	}
	for _, f := range s {
		h21.Shell(handfuls[f].strangers())
	}
	before := state()
	if strings.Contains(before, "missing") {
		t.Fatal(before)
	}
	var report strings.Builder
	fmt.Fprintf(&report, "\n%-38s  repaired after\n", "fault")
	for _, f := range s {
		for _, fault := range handfuls[f].faults(h22.mac(handfuls[f].device), s) {
			h21.Shell(fault.commands)
			began := time.Now()
			eventually(t, "repair of: "+fault.name, state, before)
			for _, f := range s {
				h21.box.Reach(h22.box.In(f), soon)
			}
			fmt.Fprintf(&report, "%-38s  %v\n", f.String()+": "+fault.name, time.Since(began).Round(time.Millisecond))
		}
	}
	t.Log(report.String())

	// Those on the device went with it when it was deleted; those on the NIC,
	// when it was down. One more, and a repair beside it:
	for _, f := range s {
		h := handfuls[f]
		h21.Shell(h.fill(`IP route replace FAR via GATEWAY dev ens33
			ip neigh replace STRANGER lladdr 0a:00:00:00:00:09 dev DEVICE nud permanent
			bridge fdb replace 0a:00:00:00:00:09 dev DEVICE dst OTHER
			IP route del SUBNET`))
		eventually(t, "repair beside strangers", state, before)
		strangers := h21.Shell(h.fill("IP route; ip neigh show dev DEVICE; bridge fdb show dev DEVICE"))
		for _, want := range []string{"FAR via GATEWAY", "STRANGER lladdr 0a:00:00:00:00:09 PERMANENT", "0a:00:00:00:00:09 dst OTHER"} {
			if want = h.fill(want); !strings.Contains(strangers, want) {
				t.Errorf("the administrator's %q is gone from\n%s", want, strangers)
			}
		}
	}
}

type handFault struct{ name, commands string }

// faults are what somebody does on hdss7-21, whose peer has this MAC.
func (h handful) faults(mac string, s lab.Stack) []handFault {
	nic := "ip link set ens33 down\nip link set ens33 up"
	for _, f := range s { // what a network manager brings back, and the administrator
		of := handfuls[f]
		if of.own != "" {
			nic += "\nip addr add " + of.own + " dev ens33 nodad"
		}
		nic += of.fill("\nIP route add BETWEEN via GATEWAY dev ens33")
	}
	table := []handFault{
		{"route deleted", "IP route del SUBNET"},
		{"route edited", "IP route replace SUBNET via OTHER dev ens33"},
		{"route given another attribute", "IP route replace SUBNET via VTEP dev DEVICE onlink mtu 700 proto 77"},
		{"all routes of ours flushed", "IP route flush proto 77"},
		{"neighbour deleted", "ip neigh del VTEP dev DEVICE"},
		{"neighbour edited", "ip neigh replace VTEP lladdr 0a:00:00:00:00:77 dev DEVICE nud permanent"},
		{"neighbour made to age", "ip neigh replace VTEP lladdr " + mac + " dev DEVICE nud stale"},
		{"forwarding entry deleted", "bridge fdb del " + mac + " dev DEVICE"},
		{"forwarding entry edited", "bridge fdb replace " + mac + " dev DEVICE dst OTHER self permanent"},
		{"address flushed", "ip addr flush dev DEVICE"},
		{"device set down", "ip link set DEVICE down"},
		{"MTU changed", "ip link set DEVICE mtu SHORT"},
		{"MAC changed", "ip link set DEVICE address 0a:00:00:00:00:55"},
		{"NIC down and up", nic},
		{"device deleted", "ip link del DEVICE"},
	}
	for i := range table {
		table[i].commands = h.fill(table[i].commands)
	}
	return table
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
func TestDirectRouting(t *testing.T) { directRouting(t, lab.Stacks[0]) }

func directRouting(t *testing.T, s lab.Stack) {
	c := startWith(t, s, of(s, direct), "hdss7-21", "hdss7-22")
	c.Router("gateway", s.Gateway(7), s.Gateway(8))
	far := c.newNode("hdss8-31", 8, 31)
	far.daemon = far.Flanneld()
	far.daemon.WaitReady()
	far.box = far.Container("c1")
	c.hosts = append(c.hosts, far)
	c.connected(soon)
	eventually(t, "the routes", c.hosts[0].routes, routesOf(s, way{22, false}, way{31, true}))
	eventually(t, "the routes", far.routes, routesOf(s, way{21, true}, way{22, true}))

	// The host gets a leg on the other segment's network by a direct route.
	c.losesNothing("a route to the far host without gateway comes and goes", func() {
		for _, f := range s {
			c.hosts[1].Shell(map[inet.Family]string{
				inet.IPv4: "ip route add 10.4.8.0/24 via 10.4.7.254 dev ens33 metric 5",
				inet.IPv6: "ip route add fd00:4:0:8::/64 via fd00:4::1 dev ens33 metric 5",
			}[f])
		}
		time.Sleep(time.Second)
	})
}

// A config key that changes under running hosts costs no packet.
func TestSwitch(t *testing.T) { switches(t, lab.Stacks[0]) }

func switches(t *testing.T, s lab.Stack) {
	c := startWith(t, s, of(s, hostGW), "hdss7-21", "hdss7-22", "hdss7-23")
	for _, config := range []string{vxLAN, direct, hostGW, direct, vxLAN, hostGW} {
		c.losesNothing("switch to "+config, func() {
			c.etcd.Delete(configKey) // as the tutorial does
			time.Sleep(200 * time.Millisecond)
			c.etcd.Set(configKey, of(s, config))
			lab.Eventually(t, soon, "all leases follow", func() error {
				for _, n := range c.hosts {
					v := c.etcd.Get(n.leaseKey()).Value
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
			for _, f := range s {
				if d := n.deviceText(handfuls[f].device); d != "missing" {
					return fmt.Errorf("%s still has %s", n, d)
				}
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
