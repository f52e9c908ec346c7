package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// ask has a daemon ask these endpoints.
func ask(o *lab.FlanneldOptions, urls string) {
	o.Args = append(without(o.Args, "--etcd-endpoints="), "--etcd-endpoints="+urls)
}

// TestUpdateWithinTheHostsNetwork: clusters whose subnets lie within the network that their hosts are connected to have
// worked with flannel, and do so after an update and a reboot.
func TestUpdateWithinTheHostsNetwork(t *testing.T) {
	t.Parallel()
	for name, a := range map[string][3]string{
		"same": {"10.4.7.%d/16", "10.4.0.0/16", "10.4.%d"},
		"vpc":  {"172.31.16.%d/20", "172.31.0.0/16", "172.31.%d"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{Lab: lab.New(t), t: t}
			store := c.Host("store", fmt.Sprintf(a[0], 12))
			c.etcd = c.EtcdOn(lab.EtcdOptions{}, store)
			c.etcd.Set(configKey, `{"Network": "`+a[1]+`", "Backend": {"Type": "host-gw"}}`)
			for i, n := range []int{21, 22} {
				ip := strings.Split(fmt.Sprintf(a[0], n), "/")[0]
				sub := fmt.Sprintf(a[2], 17+i) // 10.4.17.0/24, 172.31.17.0/24
				c.etcd.SetTTL(leases+sub+".0-24", `{"PublicIP":"`+ip+`","BackendType":"host-gw"}`, 20*time.Hour)
				h := &node{Host: c.Host(fmt.Sprintf("h%d", n), fmt.Sprintf(a[0], n)), subnet: sub + ".0/24"}
				h.SubnetEnv(sub + ".1/24")
				c.hosts = append(c.hosts, h)
			}
			a, b := c.hosts[0], c.hosts[1]
			// what the former flannel has left
			a.Run("ip", "route", "add", b.subnet, "via", b.IP.String(), "dev", "ens33")
			b.Run("ip", "route", "add", a.subnet, "via", a.IP.String(), "dev", "ens33")
			for _, h := range c.hosts {
				h.box = h.Container("c1")
			}
			a.box.Reach(b.box, soon)
			for _, h := range c.hosts {
				h.daemon = h.Flanneld("--healthz-port=2401")
			}
			for _, h := range c.hosts {
				h.daemon.WaitReady()
				if env := read(t, h.SubnetFile()); !strings.Contains(env, "="+strings.Replace(h.subnet, ".0/", ".1/", 1)) {
					t.Errorf("%s has left %s:\n%s", h.Name, h.subnet, env)
				}
			}
			a.Run("ip", "route", "del", b.subnet) // as after a reboot
			a.box.Reach(b.box, soon)
			b.box.Reach(a.box, soon)
		})
	}
}

// TestEtcdOnAnotherBridge has etcd in a container on a bridge that is not that of the host's own subnet: no lease takes
// it away.
func TestEtcdOnAnotherBridge(t *testing.T) {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	store := c.Host("etcd", "172.18.0.5/16")
	gw := c.Host("hdss7-21", "10.4.7.21/24", "172.18.0.77/16")
	// the second interface becomes a port of a bridge, as a veth of a container is
	gw.Shell(`ip link add br-5f1c type bridge; ip addr flush dev ens34; ip link set ens34 master br-5f1c; ip link set br-5f1c up; ip addr add 172.18.0.1/16 dev br-5f1c`)
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, store)
	c.etcd.Set(configKey, `{"Network": "172.16.0.0/12", "Backend": {"Type": "host-gw"}}`)
	h := &node{Host: gw}
	h.daemon = h.Flanneld("--healthz-port=2401")
	h.daemon.WaitReady()
	// a peer's lease that takes the container network's beginning, and one that takes a container.
	c.etcd.Set(leases+"172.18.0.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`)
	c.etcd.Set(leases+"172.20.0.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`)
	h.hasRoute(t, "172.20.0.0/24 via 10.4.7.22")
	h.daemon.Restart()
	h.daemon.WaitReady()
	time.Sleep(3 * time.Second)
	if routes := h.Run("ip", "route"); strings.Contains(routes, "172.18.0.0/24") {
		t.Errorf("the routes are\n%s", routes)
	}
	c.etcd.Set(leases+"172.21.0.0-24", `{"PublicIP":"10.4.7.22","BackendType":"host-gw"}`)
	h.hasRoute(t, "172.21.0.0/24 via 10.4.7.22")
}

// TestMemberInAContainer has one of two endpoints in a container of a peer: the route to that stays.
func TestMemberInAContainer(t *testing.T) {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	store := c.Host("hdss7-12", "10.4.7.12/24")
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, store)
	c.etcd.Set(configKey, hostGW)
	b := c.join("hdss7-22")
	b.daemon.WaitReady()
	a := &node{Host: c.Host("hdss7-21", "10.4.7.21/24"), subnet: "172.7.21.0/24"}
	a.SubnetEnv("172.7.21.1/24")
	a.Run("ip", "route", "add", "172.7.22.0/24", "via", "10.4.7.22", "dev", "ens33", "proto", "77")
	a.daemon = a.FlanneldAs(func(o *lab.FlanneldOptions) { ask(o, "http://10.4.7.12:2379,http://172.7.22.2:2379") })
	c.hosts = append(c.hosts, a)
	a.daemon.WaitReady()
	for _, h := range c.hosts {
		h.box = h.Container("c1")
	}
	time.Sleep(3 * time.Second)
	a.box.Reach(b.box, soon)
	a.hasRoute(t, "172.7.22.0/24 via 10.4.7.22")
}

// TestPublicIPOfAContainer: a lease whose public IP lies in a peer's subnet takes nothing from that peer.
func TestPublicIPOfAContainer(t *testing.T) {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	store := c.Host("hdss7-12", "10.4.7.12/24")
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, store)
	c.etcd.Set(configKey, `{"Network": "10.4.0.0/16", "SubnetMin": "10.4.128.0", "Backend": {"Type": "host-gw"}}`)
	for _, n := range []int{21, 22} {
		h := &node{Host: c.Host(fmt.Sprintf("h%d", n), fmt.Sprintf("10.4.7.%d/24", n))}
		h.SubnetEnv(fmt.Sprintf("10.4.%d.1/24", 128+n))
		h.daemon = h.Flanneld("--healthz-port=2401")
		c.hosts = append(c.hosts, h)
	}
	for _, h := range c.hosts {
		h.daemon.WaitReady()
		h.box = h.Container("c1")
	}
	a, b := c.hosts[0], c.hosts[1]
	a.box.Reach(b.box, soon)
	c.etcd.Set(leases+"10.4.200.0-24", `{"PublicIP":"10.4.150.7","BackendType":"host-gw"}`)
	a.daemon.WaitLog("10.4.200.0")
	time.Sleep(time.Second)
	a.hasRoute(t, "10.4.150.0/24 via 10.4.7.22")
	a.box.Reach(b.box, soon)
}

// TestBalancer has a balancer in front of etcd, behind which the member that the watch waits at hangs.
func TestBalancer(t *testing.T) {
	t.Parallel()
	c := &cluster{Lab: lab.New(t), t: t}
	var stores []*lab.Host
	for i := range 3 {
		stores = append(stores, c.Host(fmt.Sprintf("store%d", i), fmt.Sprintf("10.4.7.%d/24", 11+i)))
	}
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, stores...)
	c.etcd.Set(configKey, hostGW)
	lb := c.Host("lb", "10.4.7.9/24")
	l := lb.Listen("tcp", "10.4.7.9:2379")
	var only atomic.Int64 // new connections go there; -1: to the others in turn
	var mu sync.Mutex
	var open []net.Conn
	var carrying sync.WaitGroup
	defer func() {
		l.Close()
		mu.Lock()
		for _, conn := range open {
			conn.Close()
		}
		mu.Unlock()
		carrying.Wait()
	}()
	carrying.Go(func() {
		for turn := 0; ; turn++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			to := only.Load()
			if to < 0 {
				to = int64(1 + turn%2)
			}
			out, err := lb.Dial(t.Context(), "tcp", fmt.Sprintf("10.4.7.%d:2379", 11+to))
			if err != nil {
				in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				carrying.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					way[0].Close()
				})
			}
		}
	})
	h := c.joinAs("hdss7-21", func(_ *lab.Host, o *lab.FlanneldOptions) { ask(o, "http://10.4.7.9:2379") })
	h.daemon.WaitReady()
	time.Sleep(time.Second) // the watch stands, at the first
	only.Store(-1)          // the balancer finds that the first is gone: new connections go to the others
	c.etcd.Members[0].Signal(syscall.SIGSTOP)
	defer c.etcd.Members[0].Signal(syscall.SIGCONT)
	other := c.etcd.Members[1].Endpoint
	lab.Eventually(t, 30*time.Second, "a lease", func() error {
		out, err := stores[1].Try("curl", "-s", "-m", "5", "-X", "PUT", other+"/v2/keys"+leases+"172.7.99.0-24", "-d", `value={"PublicIP":"10.4.7.99","BackendType":"host-gw"}`)
		if err != nil || !strings.Contains(out, "172.7.99.0") {
			return fmt.Errorf("%s %v", out, err)
		}
		return nil
	})
	lab.Eventually(t, 25*time.Second, "the route", func() error {
		if !strings.Contains(h.routes(), "172.7.99.0/24") {
			return fmt.Errorf("it has\n%s", h.routes())
		}
		return nil
	})
}
