package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// twoNICs adds a running host with ens33 at 10.4.7.n and ens34 at 10.4.8.n.
func (c *cluster) twoNICs(n int, change func(*lab.FlanneldOptions)) *node {
	c.t.Helper()
	h := &node{
		Host:   c.Host(fmt.Sprintf("hdss7-%d", n), fmt.Sprintf("10.4.7.%d/24", n), fmt.Sprintf("10.4.8.%d/24", n)),
		subnet: fmt.Sprintf("172.7.%d.0/24", n),
	}
	h.SubnetEnv(fmt.Sprintf("172.7.%d.1/24", n))
	h.startAs(change)
	c.hosts = append(c.hosts, h)
	return h
}

// startAs starts the host's daemon, in place of the one that may run, and waits for it.
func (n *node) startAs(change func(*lab.FlanneldOptions)) {
	if n.daemon != nil && n.daemon.Running() {
		n.daemon.Stop()
	}
	n.daemon = n.FlanneldAs(change)
	n.daemon.WaitReady()
}

// as starts a daemon with another interface, "": none, and another public IP.
func as(iface, publicIP string) func(*lab.FlanneldOptions) {
	return func(o *lab.FlanneldOptions) {
		o.Args = append(without(without(o.Args, "--iface="), "--public-ip="), "--public-ip="+publicIP)
		if iface != "" {
			o.Args = append(o.Args, "--iface="+iface)
		}
	}
}

// TestTheSameHost is flannel's 760: a host is started again by another interface, or with another address. It has the
// flannel.1 and the subnet.env of before, and keeps its MAC, its subnet, and its containers' way to the others.
func TestTheSameHost(t *testing.T) {
	for name, tt := range map[string]struct {
		commands, iface, publicIP string
	}{
		"another interface, the former address is there": {"true", "ens34", "10.4.8.21"},
		"another address": {"ip addr add 10.4.7.121/24 dev ens33; ip addr del 10.4.7.21/24 dev ens33; " +
			"ip addr show dev ens33 | grep -q 10.4.7.121 || ip addr add 10.4.7.121/24 dev ens33", "ens33", "10.4.7.121"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, vxLAN)
			h21, h22 := c.twoNICs(21, func(*lab.FlanneldOptions) {}), c.twoNICs(22, func(*lab.FlanneldOptions) {})
			for _, n := range c.hosts {
				n.box = n.Container("c1")
			}
			c.connected(soon)
			mac := h21.vtep()
			h21.daemon.Stop()
			h21.Shell(tt.commands)
			h21.startAs(as(tt.iface, tt.publicIP))
			if now := h21.vtep(); now != mac || mac == "none" {
				t.Errorf("the MAC was %s, and is %s", mac, now)
			}
			if env := read(t, h21.SubnetFile()); !strings.Contains(env, "FLANNEL_SUBNET=172.7.21.1/24\n") {
				t.Errorf("subnet.env\n%s", env)
			}
			want := `{"PublicIP":"` + tt.publicIP + `","BackendType":"vxlan","BackendData":{"VtepMAC":"` + mac + `"}}`
			eventually(t, "the lease", func() string { return c.etcd.Get(leases + "172.7.21.0-24").Value }, want)
			h22.box.Reach(h21.box, soon)
			h21.box.Reach(h22.box, soon)
		})
	}
}

// printed is the command line that the daemon's log names to run.
func (n *node) printed(t *testing.T) string {
	t.Helper()
	found := regexp.MustCompile(` run="([^"]*)"`).FindStringSubmatch(n.daemon.Log())
	if found == nil {
		t.Fatalf("the log names no command:\n%s", n.daemon.Log())
	}
	return found[1]
}

// pasted carries out a command line, and answers its questions with yes.
func (n *node) pasted(t *testing.T, line string) string {
	t.Helper()
	cmd := n.Command("sh", "-ec", "PATH="+n.programs(t)+":$PATH; "+line)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = strings.NewReader("y\n")
	out, err := cmd.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		t.Fatal(err)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// TestTheOldSubnetBack: what the log says of a subnet.env whose subnet is not taken. What it prints, pasted as it is, gets
// the host that subnet at its next start.
func TestTheOldSubnetBack(t *testing.T) {
	for name, tt := range map[string]struct {
		prepare func(*cluster, *node)
		says    []string
	}{
		"leased under an address that this host has no more": {func(c *cluster, n *node) {
			c.etcd.SetTTL(leases+"172.7.21.0-24", `{"PublicIP":"10.4.7.121","BackendType":"host-gw"}`, soon*360)
		}, []string{
			"Subnet file names a subnet that is leased to another host: taking another one", `holder="10.4.7.121"`,
			`holderKey="` + leases + `172.7.21.0-24"`,
		}},
		"a lease of this host's counts": {func(c *cluster, n *node) {
			c.etcd.SetTTL(leases+"172.7.99.0-24", `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`, soon*360)
		}, []string{
			"Subnet file names another subnet than this host's lease, and the lease counts: the file is overwritten",
			`leased="172.7.99.0/24" key="` + leases + `172.7.99.0-24"`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, hostGW)
			n := &node{Host: c.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24"), subnet: "172.7.21.0/24"}
			tt.prepare(c, n)
			n.startAs(func(*lab.FlanneldOptions) {})
			if env := read(t, n.SubnetFile()); strings.Contains(env, "172.7.21.1") {
				t.Fatalf("subnet.env\n%s", env)
			}
			for _, want := range tt.says {
				if log := n.daemon.Log(); strings.Count(log, want) != 1 {
					t.Errorf("not once in the log: %s\n%s", want, log)
				}
			}
			if out := n.pasted(t, n.printed(t)); !strings.Contains(out, "172.7.21.0/24 is reserved for 10.4.7.21") {
				t.Errorf("pasted, it says %s", out)
			}
			lab.Eventually(t, soon, "the host says what is reserved for it", func() error {
				if log := n.daemon.Log(); !strings.Contains(log, "172.7.21.0/24 is reserved for this host: it keeps") {
					return fmt.Errorf("log\n%s", log)
				}
				return nil
			})
			n.startAs(func(*lab.FlanneldOptions) {})
			if env := read(t, n.SubnetFile()); !strings.Contains(env, "FLANNEL_SUBNET=172.7.21.1/24\n") {
				t.Errorf("started again it has the subnet.env\n%s\nlog\n%s", env, n.daemon.Log())
			}
			if strings.Contains(n.daemon.Log(), `"Ignoring the lease \"`+leases+"172.7.21.0-24") {
				t.Error("its reservation is ignored")
			}
		})
	}
}

// TestPublicIPNamesTheInterface is flannel's 1192: of virtual machines whose default route leads into NAT, only the public IP
// is given, which is on another interface. Both modes work by that.
func TestPublicIPNamesTheInterface(t *testing.T) {
	for _, mode := range []string{hostGW, vxLAN} {
		t.Run(mode, func(t *testing.T) {
			c := start(t, mode)
			for _, n := range []int{21, 22} {
				c.twoNICs(n, as("", fmt.Sprintf("10.4.8.%d", n)))
			}
			for _, n := range c.hosts {
				n.box = n.Container("c1")
			}
			c.connected(soon)
			if log := c.hosts[0].daemon.Log(); !strings.Contains(log, "interface ens34 (10.4.8.21/24, MTU 1500) by --public-ip=10.4.8.21,") {
				t.Errorf("the log does not say why\n%s", log)
			}
			if mode == vxLAN {
				if d := c.hosts[0].deviceText("flannel.1"); !strings.Contains(d, "local 10.4.8.21 dev ens34") {
					t.Errorf("flannel.1 is %s", d)
				}
			}
		})
	}
}

// TestCopyOfAHost: a virtual machine is copied while it runs, with its flannel.1 and its subnet.env, and given another
// address. Its original keeps its lease and loses no packet; the copy gets a subnet and a MAC of its own.
func TestCopyOfAHost(t *testing.T) {
	for name, local := range map[string]string{
		"flannel.1 is as it was": "10.4.7.21", "flannel.1 has been made for the other address": "10.4.7.66",
	} {
		for _, api := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s, v%d", name, api), func(t *testing.T) {
				t.Parallel()
				c := &cluster{Lab: lab.New(t), t: t}
				c.etcd = c.EtcdOn(lab.EtcdOptions{API: api}, c.Host("hdss7-12", "10.4.7.12/24"))
				c.etcd.Set(configKey, vxLAN)
				original, peer := c.join("hdss7-21"), c.join("hdss7-22")
				for _, n := range c.hosts {
					n.box = n.Container("c1")
				}
				c.connected(soon)
				mac, lease := original.vtep(), c.etcd.Get(leases+"172.7.21.0-24").Value
				clone := &node{Host: c.Host("hdss7-66", "10.4.7.66/24").SubnetEnv("172.7.21.1/24")}
				clone.Shell("ip link add flannel.1 address " + mac + " mtu 1450 type vxlan id 1 local " + local + " dev ens33 dstport 8472 nolearning; " +
					"ip link set flannel.1 up alias flanneld; ip addr add 172.7.21.0/32 dev flannel.1")
				c.losesNothing("a copy starts", func() { clone.startAs(func(*lab.FlanneldOptions) {}) })
				if env := read(t, clone.SubnetFile()); strings.Contains(env, "172.7.21.1") {
					t.Errorf("the copy has the subnet.env\n%s", env)
				}
				if clone.vtep() == mac || original.vtep() != mac || c.etcd.Get(leases+"172.7.21.0-24").Value != lease {
					t.Errorf("MACs: the copy %s, the original %s, which had %s; lease %s", clone.vtep(), original.vtep(), mac, c.etcd.Get(leases+"172.7.21.0-24").Value)
				}
				box := clone.Container("c1")
				peer.box.Reach(box, soon)
				original.box.Reach(box, soon)
			})
		}
	}
}
