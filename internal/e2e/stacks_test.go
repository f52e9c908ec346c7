package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// withIPv6 are the stacks that IPv4's own tests leave out. Where a host has IPv6 alone,
// so have etcd and all that is between.
var withIPv6 = lab.Stacks[1:]

// forEach runs a scenario, that IPv4 has a test of its own for, with all others.
func forEach(t *testing.T, scenario func(*testing.T, lab.Stack)) {
	t.Parallel()
	for _, s := range withIPv6 {
		t.Run(s.String(), func(t *testing.T) { scenario(t, s) })
	}
}

func TestRepairsOfIPv6(t *testing.T)       { forEach(t, repairs) }
func TestDirectRoutingOfIPv6(t *testing.T) { forEach(t, directRouting) }
func TestSwitchOfIPv6(t *testing.T)        { forEach(t, switches) }
func TestRestartOfIPv6(t *testing.T)       { forEach(t, restartLosesNothing) }

func TestLossTableOfBoth(t *testing.T) {
	t.Parallel()
	lossTable(t, lab.Stacks[2])
}

// TestChaosOfBoth is TestChaos in dual stack, with seeds of the same names.
func TestChaosOfBoth(t *testing.T) { chaos(t, lab.Stacks[2]) }

// TestObjects is what hosts of each stack write: into etcd, in flannel 0.28's forms; into
// subnet.env; and into the kernel.
func TestObjects(t *testing.T) {
	for name, stores := range map[string]lab.EtcdOptions{"v2": {}, "v3": {Newest: true}} {
		for backend, config := range flannelBackends {
			t.Run(name+", "+backend, func(t *testing.T) {
				eachStack(t, func(t *testing.T, s lab.Stack) {
					t.Parallel()
					c := &cluster{Lab: lab.New(t), t: t, stack: s}
					c.store = &node{Host: c.Host("hdss7-12", s.Addrs(7, 12))}
					c.etcd = c.EtcdOn(stores, c.store.Host)
					c.etcd.Set(configKey, s.Config(config))
					for _, name := range []string{"hdss7-21", "hdss7-22"} {
						c.join(name).daemon.WaitReady()
					}
					for _, n := range c.hosts {
						n.box = n.Container("c1")
					}
					c.connected(soon)
					c.objects(backend)
					c.ownAddresses()
				})
			})
		}
	}
}

// objects checks two hosts that have nothing but these.
func (c *cluster) objects(backend string) {
	t, s := c.t, c.families()
	t.Helper()
	h21, h22 := c.hosts[0], c.hosts[1]
	held := slices.Sorted(maps.Keys(c.etcd.Keys(leases)))
	if want := []string{h21.leaseKey(), h22.leaseKey()}; !slices.Equal(held, want) {
		t.Errorf("the keys are %v, want %v", held, want)
	}
	value := c.etcd.Get(h22.leaseKey()).Value
	if !strings.HasPrefix(value, h22.publicIPs()) {
		t.Errorf("the lease is %s, want %s…", value, h22.publicIPs())
	}
	tunnel := backend != "host-gw"
	var lease struct{ BackendData, BackendV6Data struct{ VtepMAC string } }
	if err := json.Unmarshal([]byte(value), &lease); err != nil {
		t.Fatalf("%v in %s", err, value)
	}
	said := map[inet.Family]string{inet.IPv4: lease.BackendData.VtepMAC, inet.IPv6: lease.BackendV6Data.VtepMAC}
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		want := ""
		if tunnel && slices.Contains(s, f) {
			want = h22.mac(handfuls[f].device)
		}
		if said[f] != want {
			t.Errorf("the lease says of %v's VTEP %q, want %q: %s", f, said[f], want, value)
		}
	}
	eventually(t, "the routes", h21.routes, routesOf(s, way{22, backend == "vxlan"}))
	mtu := 1500
	if tunnel {
		mtu = 1450
		if slices.Contains(s, inet.IPv6) { // what both carry
			mtu = 1430
		}
	}
	env := ""
	for i, f := range s {
		name, network := "FLANNEL_", "172.7.0.0/16"
		if f == inet.IPv6 {
			name, network = "FLANNEL_IPV6_", "fc00:7::/48"
		}
		env += fmt.Sprintf("%sNETWORK=%s\n%sSUBNET=%s\n", name, network, name, s.Bridges(21)[i])
	}
	if got, want := read(t, h21.SubnetFile()), fmt.Sprintf("%sFLANNEL_MTU=%d\nFLANNEL_IPMASQ=false\n", env, mtu); got != want {
		t.Errorf("subnet.env is\n%s, want\n%s", got, want)
	}
	for _, f := range []inet.Family{inet.IPv4, inet.IPv6} {
		if there := h21.deviceText(handfuls[f].device) != "missing"; there != (tunnel && slices.Contains(s, f)) {
			t.Errorf("the device %s is there: %v", handfuls[f].device, there)
		}
	}
	if tunnel && len(s) == 2 {
		h21.flannelDevices(t, h22, backend == "vxlan")
	}
}

// ownAddresses has each container see the other's own address, by each family.
func (c *cluster) ownAddresses() {
	c.t.Helper()
	c.pairs(func(a, b *node) {
		if a.Name > b.Name {
			return
		}
		b.box.HTTPServer()
		for _, f := range a.families() {
			if got, want := a.box.Get(lab.URL(b.box.In(f))), fmt.Sprintf("hello, %v\n", a.box.In(f).Address()); got != want {
				c.t.Errorf("the page says %q, want %q", got, want)
			}
		}
	})
}

// TestLiveIPv6: a running IPv4 cluster gets IPv6 by the config key, and gives it up again.
// No IPv4 packet is lost, nor is an IPv4 subnet given up, nor a key there twice.
func TestLiveIPv6(t *testing.T) {
	four, both := lab.Stacks[0], lab.Stacks[2]
	for name, stores := range map[string]lab.EtcdOptions{"v2": {}, "v3": {Newest: true}} {
		for _, backend := range []string{"vxlan", "host-gw"} {
			t.Run(name+", "+backend, func(t *testing.T) {
				t.Parallel()
				c := &cluster{Lab: lab.New(t), t: t, stack: both} // the hosts have both from the beginning
				c.store = &node{Host: c.Host("hdss7-12", both.Addrs(7, 12))}
				c.etcd = c.EtcdOn(stores, c.store.Host)
				c.etcd.Set(configKey, four.Config(flannelBackends[backend]))
				for i := 21; i <= 23; i++ {
					n := c.joinAs(fmt.Sprintf("hdss7-%d", i), func(h *lab.Host, _ *lab.FlanneldOptions) { h.SubnetEnv(four.Bridges(i)...) })
					n.stack = four
				}
				for _, n := range c.hosts {
					n.daemon.WaitReady()
					n.box = n.Container("c1")
				}
				c.connected(soon)
				for round := range 2 {
					c.losesNothing("IPv6 comes", func() { c.follow(both, backend) })
					for _, n := range c.hosts {
						n.UpdateDocker()
						n.stack = both
					}
					c.connected(soon)
					c.losesNothing("nothing changes", func() { time.Sleep(time.Second) })
					for _, n := range c.hosts {
						n.stack = four // IPv4 is what must not suffer
					}
					c.losesNothing("IPv6 goes", func() { c.follow(four, backend) })
					if round == 0 {
						c.losesNothing("a restart", func() {
							for _, n := range c.hosts {
								n.daemon.Restart()
								n.daemon.WaitReady()
							}
						})
					}
				}
			})
		}
	}
}

// follow writes the config of a stack, and waits until every host has what it says.
func (c *cluster) follow(s lab.Stack, backend string) {
	c.t.Helper()
	c.etcd.Set(configKey, s.Config(flannelBackends[backend]))
	var want []string
	for _, n := range c.hosts {
		want = append(want, leases+s.LeaseKey(n.number()))
	}
	lab.Eventually(c.t, 2*soon, "the leases and routes of "+s.String(), func() error {
		// The IPv6 subnet is a host's to choose, and stays leased to it: only the IPv4 half is fixed.
		held := slices.Sorted(maps.Keys(c.etcd.Keys(leases)))
		if len(held) != len(want) {
			return fmt.Errorf("the keys are %v, want such as %v", held, want)
		}
		for i, key := range held {
			four, six, dual := strings.Cut(key, "&")
			if !dual && len(s) == 2 || !strings.HasPrefix(want[i], four) || dual && !strings.HasPrefix(six, "fc00:7:0:") {
				return fmt.Errorf("the keys are %v, want such as %v", held, want)
			}
		}
		for _, n := range c.hosts {
			shown := node{Host: n.Host, stack: lab.Stacks[2]}
			routes, lines := shown.routes(), (len(c.hosts)-1)*len(s)
			if routes == "" || strings.Count(routes, "\n")+1 != lines {
				return fmt.Errorf("%s has the routes\n%s", n, routes)
			}
			env := read(c.t, n.SubnetFile())
			if own := "FLANNEL_SUBNET=" + lab.Stacks[0].Bridges(n.number())[0] + "\n"; !strings.Contains(env, own) || strings.Contains(env, "IPV6") != (len(s) == 2) {
				return fmt.Errorf("%s has\n%s", n, env)
			}
		}
		return nil
	})
}

// TestMixedCluster is a cluster of flannel 0.28 and flanneld in dual stack: routed both
// ways by both families, whoever comes first, and no subnet is ever leased twice.
func TestMixedCluster(t *testing.T) {
	for backend, config := range flannelBackends {
		t.Run(backend, func(t *testing.T) {
			both := lab.Stacks[2]
			c := newFlannels(t, both, both.Config(config))
			first := c.flannel("hdss7-21")
			first.daemon.WaitReady()
			c.join("hdss7-22").daemon.WaitReady()
			c.flannel("hdss7-23").daemon.WaitReady()
			c.join("hdss7-24").daemon.WaitReady()
			for _, n := range c.hosts {
				n.box = n.Container("c1")
			}
			c.connected(soon)
			c.losesNothing("restarts of either", func() {
				for _, n := range c.hosts[:2] {
					n.daemon.Kill()
					n.daemon.Restart()
					n.daemon.WaitReady()
				}
				time.Sleep(time.Second)
			})
			c.losesNothing("the swap of flannel for flanneld, and back", func() {
				for _, binary := range []string{lab.Binary(t), lab.Flannel(t)} {
					first.daemon.RestartAs(func(o *lab.FlanneldOptions) { o.Binary = binary })
					first.daemon.WaitReady()
					time.Sleep(time.Second)
				}
			})
			var want []string
			for _, n := range c.hosts {
				want = append(want, n.leaseKey())
				if !n.daemon.Running() || strings.Contains(n.daemon.Log(), "panic: ") {
					t.Errorf("the daemon of %s:\n%s", n, n.daemon.Log())
				}
			}
			if held := slices.Sorted(maps.Keys(c.etcd.Keys(leases))); !slices.Equal(held, want) {
				t.Errorf("the keys are %v, want %v", held, want)
			}
			// A flanneld whose file names an IPv6 subnet that another host has by now.
			late := c.newNode("hdss7-25", 7, 25)
			late.SubnetEnv("172.7.25.1/24", both.Bridges(22)[1])
			late.daemon = late.Flanneld()
			late.daemon.WaitReady()
			c.leasedOnce()
		})
	}
}

// leasedOnce holds that no two leases share an address, once all have settled.
func (c *cluster) leasedOnce() {
	c.t.Helper()
	lab.Eventually(c.t, soon, "each subnet to be leased once", func() error {
		seen := map[string]string{}
		for key := range c.etcd.Keys(leases) {
			for _, half := range strings.Split(strings.TrimPrefix(key, leases), "&") {
				if before, twice := seen[half]; twice && half != "0.0.0.0-0" {
					return fmt.Errorf("%s and %s", before, key)
				}
				seen[half] = key
			}
		}
		return nil
	})
}

// TestSixAtOnce: hosts of IPv6 alone that start together each get a subnet of their own,
// where flannel 0.28 gives them one for all.
func TestSixAtOnce(t *testing.T) {
	s := lab.Stacks[1]
	c := startWith(t, s, s.Config(flannelBackends["vxlan"]))
	for i := 21; i < 33; i++ {
		n := c.newNode(fmt.Sprintf("hdss7-%d", i), 7, i)
		n.SubnetEnv() // no wish
		n.daemon = n.Flanneld()
		c.hosts = append(c.hosts, n)
	}
	files := map[string]string{}
	for _, n := range c.hosts {
		n.daemon.WaitReady()
		env := read(t, n.SubnetFile())
		if other := files[env]; other != "" {
			t.Errorf("%s and %s both have\n%s", n, other, env)
		}
		files[env] = n.Name
		n.box = n.Container("c1")
	}
	if held := c.etcd.Keys(leases); len(held) != len(c.hosts) {
		t.Errorf("%d keys for %d hosts: %v", len(held), len(c.hosts), held)
	}
	c.leasedOnce()
	for _, n := range c.hosts[1:] {
		n.box.Reach(c.hosts[0].box, soon)
	}
}

// TestSixWithoutIPv4 is a host that has no IPv4 at all, not even on loopback.
func TestSixWithoutIPv4(t *testing.T) {
	s := lab.Stacks[1]
	c := startWith(t, s, s.Config(flannelBackends["DirectRouting"]))
	for _, name := range []string{"hdss7-21", "hdss7-22"} {
		h := c.join(name)
		h.Run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	}
	for _, n := range c.hosts {
		n.daemon.WaitReady()
		n.box = n.Container("c1")
	}
	c.connected(soon)
	if got := c.etcd.Endpoints(); !slices.Equal(got, []string{"http://[fd00:4::12]:2379"}) {
		t.Errorf("etcd is at %v", got)
	}
	c.losesNothing("etcd's restart", func() {
		c.etcd.Stop()
		c.etcd.Start()
		time.Sleep(time.Second)
	})
}

// TestPublicIPv6: which of an interface's addresses peers are told.
func TestPublicIPv6(t *testing.T) {
	both := lab.Stacks[2]
	c := startWith(t, both, both.Config(flannelBackends["vxlan"]))
	for i, tt := range []struct{ addresses, want string }{
		{"ip -6 addr add fd00:4::9:9/64 dev ens33 nodad preferred_lft 0", "fd00:4::21"},                                                // deprecated
		{"ip -6 addr add fd00:4::9:a/64 dev ens33 nodad valid_lft 86400 preferred_lft 3600", "fd00:4::22"},                             // one that will be
		{"ip -6 addr add fd00:4::9:b/64 dev ens33 nodad; ip -6 addr del fd00:4::23/64 dev ens33", "fd00:4::9:b"},                       // the only one
		{"ip -6 addr flush dev ens33 scope global; ip -6 addr add fd00:4::24/64 dev ens33 nodad; sleep 0.1; ip -6 addr", "fd00:4::24"}, // in another order
	} {
		number := 21 + i
		n := c.newNode(fmt.Sprintf("hdss7-%d", number), 7, number)
		n.Shell(tt.addresses)
		n.daemon = n.FlanneldAs(func(o *lab.FlanneldOptions) { o.Args = without(without(o.Args, "--public-ip="), "--public-ipv6=") })
		n.daemon.WaitReady()
		if v := c.etcd.Get(n.leaseKey()).Value; !strings.Contains(v, `"PublicIPv6":"`+tt.want+`"`) {
			t.Errorf("after %s, the lease says %s", tt.addresses, v)
		}
	}
}
