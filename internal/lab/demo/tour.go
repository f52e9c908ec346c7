package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"flanneld/internal/lab"
)

const (
	configKey = "/coreos.com/network/config"
	config    = `{"Network": "172.7.0.0/16", "Backend": {"Type": "host-gw"}}`
	leases    = "/coreos.com/network/subnets/"
	health    = "http://127.0.0.1:2401/healthz"
	soon      = 30 * time.Second // takes milliseconds
)

// station is a host with flanneld, its container, and what leads to it.
type station struct {
	*lab.Host
	daemon    *lab.Daemon
	container *lab.Container
	lease     string // key
	subnet    string
}

// tour shows the tutorial's cluster, from an empty etcd to containers that reach each
// other.
func tour(g *guide) {
	fmt.Println("flanneld on three hosts. They are network namespaces of this process, so that this machine's own")
	fmt.Println("network stays as it is. A line with # is what one would type on the host (etcdctl, ping and curl")
	fmt.Println("need not be installed: the demo does their work itself).")

	l := lab.New(g)
	etcd := setUp(g, l)
	h21 := &station{Host: g.hosts[1], lease: leases + "172.7.21.0-24", subnet: "172.7.21.0/24"}
	h22 := &station{Host: g.hosts[2], lease: leases + "172.7.22.0-24", subnet: "172.7.22.0/24"}
	both := []*station{h21, h22}
	writeSubnetFiles(g, both)
	start(g, both)
	showLeases(g, etcd, both)
	showSubnetFiles(g, both)
	showRoutes(g, h21, h22)
	showHealth(g, both)
	startContainers(g, both)
	showPings(g, h21, h22)
	showRequest(g, h21, h22)
	showSwitches(g, etcd, h21, h22)
	showRepair(g, h21, h22)
	showCheck(g, etcd, h21, h22)
}

func setUp(g *guide, l *lab.Lab) *lab.Etcd {
	g.step("Three hosts on one segment, etcd on the first", "")
	for _, h := range []struct{ name, addr, runs string }{
		{"hdss7-12", "10.4.7.12/24", "etcd"},
		{"hdss7-21", "10.4.7.21/24", "flanneld, containers in 172.7.21.0/24"},
		{"hdss7-22", "10.4.7.22/24", "flanneld, containers in 172.7.22.0/24"},
	} {
		g.hosts = append(g.hosts, l.Host(h.name, h.addr))
		g.print(fmt.Sprintf("%s  %s  ens33  %s", h.name, h.addr, h.runs))
	}
	etcd := l.EtcdOn(lab.EtcdOptions{Newest: newest()}, g.hosts[0])

	g.step("The cluster's network goes into etcd", "")
	etcd.Set(configKey, config)
	g.show(g.hosts[0], fmt.Sprintf("etcdctl %s %s '%s'", setVerb(), configKey, config), etcd.Get(configKey).Value)
	return etcd
}

// setVerb is how etcdctl calls writing a key, which depends on the API.
func setVerb() string {
	if newest() {
		return "put"
	}
	return "set"
}

func writeSubnetFiles(g *guide, both []*station) {
	g.step("Each host is told its subnet by a file, written by hand", "")
	for _, h := range both {
		h.SubnetEnv(strings.Replace(h.subnet, ".0/", ".1/", 1))
		g.show(h, "grep SUBNET subnet.env", h.Run("grep", "SUBNET", h.SubnetFile()))
	}
}

func start(g *guide, both []*station) {
	g.step("flanneld starts", "")
	for _, h := range both {
		h.daemon = h.Flanneld("--healthz-port=2401")
	}
	for _, h := range both {
		took := h.daemon.WaitReady()
		command := strings.ReplaceAll(h.daemon.CommandLine(), " --", " \\\n    --")
		g.show(h, command, fmt.Sprintf("ready after %d ms", took.Milliseconds()))
	}
}

func showLeases(g *guide, etcd *lab.Etcd, both []*station) {
	g.step("Each host holds a lease of its subnet, for a day", "two leases")
	for _, h := range both {
		node := etcd.Get(h.lease)
		if node == nil {
			g.Fatalf("etcd has no key %s", h.lease)
		}
		g.show(g.hosts[0], "etcdctl get "+h.lease, node.Value)
		g.expect("the lease of "+h.Name, node.Value, fmt.Sprintf(`{"PublicIP":"%v","BackendType":"host-gw"}`, h.IP))
	}
}

func showSubnetFiles(g *guide, both []*station) {
	g.step("subnet.env now says what docker must know", "subnet.env")
	for _, h := range both {
		content, err := os.ReadFile(h.SubnetFile())
		if err != nil {
			g.Fatalf("read the subnet file of %s: %v", h, err)
		}
		g.show(h, "cat subnet.env", string(content))
		g.expect("subnet.env of "+h.Name, string(content), fmt.Sprintf(
			"FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=%s\nFLANNEL_MTU=1500\nFLANNEL_IPMASQ=false\n",
			strings.Replace(h.subnet, ".0/", ".1/", 1)))
	}
}

func showRoutes(g *guide, h21, h22 *station) {
	g.step("Each host routes to the other's subnet", "routes")
	for _, pair := range [][2]*station{{h21, h22}, {h22, h21}} {
		own, peer := pair[0], pair[1]
		want := fmt.Sprintf("%s via %v dev ens33", peer.subnet, peer.IP)
		lab.Eventually(g, soon, "a route on "+own.Name, func() error {
			if routes := own.Run("ip", "route"); !strings.Contains(routes, want) {
				return fmt.Errorf("there is no %q in:\n%s", want, routes)
			}
			return nil
		})
		g.show(own, "ip route", own.Run("ip", "route"))
	}
}

func showHealth(g *guide, both []*station) {
	g.step("A supervisor can ask whether it runs", "health")
	for _, h := range both {
		body := h.Get(health)
		g.show(h, "curl "+health, body)
		g.expect("healthz of "+h.Name, strings.TrimSpace(body), "flanneld is running")
	}
}

func startContainers(g *guide, both []*station) {
	g.step("A container on each host, behind a bridge with the subnet's first address", "")
	for i, h := range both {
		h.container = h.Container(fmt.Sprintf("c%d", i+1))
		g.show(h, "ip -brief address show docker0", h.Run("ip", "-brief", "-4", "address", "show", "docker0"))
		g.show(h.container, "ip -brief address show eth0", h.container.Run("ip", "-brief", "-4", "address", "show", "eth0"))
	}
}

func showPings(g *guide, h21, h22 *station) {
	g.step("The containers reach each other", "pings both ways")
	for _, pair := range [][2]*station{{h21, h22}, {h22, h21}} {
		from, to := pair[0].container, pair[1].container
		from.Reach(to, soon)
		const interval, enough = 20 * time.Millisecond, 200 * time.Millisecond
		p := from.PingEvery(interval, to)
		time.Sleep(enough)
		stats := p.Stop()
		g.show(from, fmt.Sprintf("ping -i %v %v", interval.Seconds(), to.IP), stats.String())
		if stats.Lost > 0 {
			g.Fatalf("%s loses pings to %s: %v", from, to, stats)
		}
	}
}

func showRequest(g *guide, h21, h22 *station) {
	g.step("A web server sees the container's own address, not its host's", "a request from the container's own address")
	client, server := h21.container, h22.container
	web := server.HTTPServer()
	g.show(client, "curl "+web.URL, client.Get(web.URL))
	log := strings.Join(web.Clients(), "\n")
	g.show(server, "cut -d' ' -f1 access.log", log)
	g.expect("the client in the access log", log, client.IP.String())
}
