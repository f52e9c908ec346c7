package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// TestTutorial is the deployment that flanneld is made for, as its readers set
// it up, line by line: with etcd on three hosts behind certificates, and on two
// of them supervisord, dockerd and flanneld. The first run is on hosts like
// CentOS 7's, whose sh is bash and whose iptables is the legacy one, and with
// etcd's v2 API; the second one is with the newest etcd, the third with docker 29. Then all
// of it a second time in dual stack, whose containers meet by both families.
func TestTutorial(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("dockerd needs real root: run this test with sudo")
	}
	for _, like := range []struct {
		name, shell string
		engine      engine
		etcd        lab.EtcdOptions
		stack       lab.Stack
	}{
		{"CentOS", "bash", engine{"20.10", "iptables-legacy"}, lab.EtcdOptions{}, lab.Stacks[0]},
		{"Debian", "dash", engine{"20.10", "iptables-nft"}, lab.EtcdOptions{Newest: true}, lab.Stacks[0]},
		{"docker 29", "dash", engine{"29", "iptables-nft"}, lab.EtcdOptions{}, lab.Stacks[0]},
		{"CentOS, dual stack", "bash", engine{"20.10", "iptables-legacy"}, lab.EtcdOptions{}, lab.Stacks[2]},
		{"docker 29, dual stack", "dash", engine{"29", "iptables-nft"}, lab.EtcdOptions{Newest: true}, lab.Stacks[2]},
	} {
		t.Run(like.name, func(t *testing.T) {
			t.Parallel()
			tu := newTutorial(t, like.stack, like.etcd)
			for _, m := range tu.machines {
				m.shIs(like.shell)
				m.engineIs(like.engine, nil)
			}
			for _, step := range []struct {
				name string
				do   func(*testing.T)
			}{
				{"1 install", tu.install},
				{"2 supervise", tu.supervise},
				{"3 host-gw", tu.hostGW},
				{"4 switch to vxlan", tu.switchToVXLAN},
				{"5 direct routing", tu.directRouting},
				{"6 containers see each other's own addresses", tu.ownAddresses},
				{"6 by --ip-masq instead", tu.ipMasq},
			} {
				if !t.Run(step.name, step.do) || t.Failed() {
					t.FailNow() // each goes on where the last one ended
				}
			}
		})
	}
}

type tutorial struct {
	*lab.Lab
	stack    lab.Stack
	ca       *lab.CA
	etcd     *lab.Etcd
	h21, h22 *machine
	machines []*machine
}

func newTutorial(t *testing.T, s lab.Stack, etcd lab.EtcdOptions) *tutorial {
	l := lab.New(t)
	h12, h21, h22 := l.Host("hdss7-12", s.Addrs(7, 12)), l.Host("hdss7-21", s.Addrs(7, 21)), l.Host("hdss7-22", s.Addrs(7, 22))
	tu := &tutorial{Lab: l, stack: s, ca: lab.NewCA(t, "authority"), h21: newMachine(t, h21), h22: newMachine(t, h22)}
	tu.machines = []*machine{tu.h21, tu.h22}
	etcd.TLS = tu.ca
	tu.etcd = l.EtcdOn(etcd, h12, h21, h22)
	return tu
}

// each does the same on both hosts, at once.
func (tu *tutorial) each(do func(*machine)) {
	var all sync.WaitGroup
	for _, m := range tu.machines {
		all.Go(func() { do(m) })
	}
	all.Wait()
}

func (tu *tutorial) install(*testing.T) {
	client := tu.ca.Client("client", 24*time.Hour)
	for _, m := range tu.machines {
		m.install(tu.startScript())
		m.write("/usr/local/flannel/subnet.env", tu.subnetEnv(m, 1500), 0o644)
		m.put(tu.ca.File, "/usr/local/flannel/cert/ca.pem", 0o644)
		m.put(client.CertFile, "/usr/local/flannel/cert/client.pem", 0o644)
		m.put(client.KeyFile, "/usr/local/flannel/cert/client-key.pem", 0o600)
	}
}

func (tu *tutorial) supervise(t *testing.T) {
	tu.each(func(m *machine) {
		m.supervise()
		m.running()
		m.healthy() // there is no config key yet, and so nothing else to do
	})
}

func (tu *tutorial) hostGW(t *testing.T) {
	tu.etcd.Set(configKey, of(tu.stack, hostGW))
	tu.awaitRoutes(t, "172.7.22.0 10.4.7.22 255.255.255.0 UG ens33", "172.7.21.0 10.4.7.21 255.255.255.0 UG ens33")
	tu.each((*machine).bootDocker)
	tu.awaitRoutes(t, "172.7.21.0 0.0.0.0 255.255.255.0 U docker0\n172.7.22.0 10.4.7.22 255.255.255.0 UG ens33",
		"172.7.21.0 10.4.7.21 255.255.255.0 UG ens33\n172.7.22.0 0.0.0.0 255.255.255.0 U docker0")
	for _, m := range tu.machines {
		if got, want := m.container("c1"), "172.7."+m.number()+".2"; got != want {
			t.Errorf("the first container of %s has the address %s, want %s", m, got, want)
		}
	}
	tu.reach(t)
	tu.alsoBySix(t, false)
}

func (tu *tutorial) switchToVXLAN(t *testing.T) {
	tu.each(func(m *machine) {
		m.control("stop")
		m.awaitFlannelds(0)
	})
	tu.h21.Shell("ip route del 172.7.22.0/24 via 10.4.7.22") // and forgotten on hdss7-22, as by IPv6
	tu.etcd.Delete(configKey)
	tu.etcd.Set(configKey, of(tu.stack, vxLAN))
	tu.each(func(m *machine) {
		m.control("start")
		m.running()
		m.awaitFlannelds(1)
	})
	tu.awaitRoutes(t, "172.7.21.0 0.0.0.0 255.255.255.0 U docker0\n172.7.22.0 172.7.22.0 255.255.255.0 UG flannel.1",
		"172.7.21.0 172.7.21.0 255.255.255.0 UG flannel.1\n172.7.22.0 0.0.0.0 255.255.255.0 U docker0")
	tu.reach(t)
	tu.alsoBySix(t, true)
	for _, m := range tu.machines {
		if env, want := m.read("/usr/local/flannel/subnet.env"), tu.subnetEnv(m, tu.tunnelMTU()); env != want {
			t.Errorf("subnet.env of %s:\n%s", m, env)
		}
	}
}

func (tu *tutorial) directRouting(t *testing.T) {
	tu.Router("gateway", tu.stack.Gateway(7), tu.stack.Gateway(8))
	far := tu.Host("hdss8-31", tu.stack.Addrs(8, 31)).SubnetEnv(tu.stack.Bridges(31)...)
	far.Flanneld().WaitReady()
	box := far.Container("c1")
	tu.etcd.Set(configKey, of(tu.stack, direct))
	const farRoute = "\n172.7.31.0 172.7.31.0 255.255.255.0 UG flannel.1"
	tu.awaitRoutes(t, "172.7.21.0 0.0.0.0 255.255.255.0 U docker0\n172.7.22.0 10.4.7.22 255.255.255.0 UG ens33"+farRoute,
		"172.7.21.0 10.4.7.21 255.255.255.0 UG ens33\n172.7.22.0 0.0.0.0 255.255.255.0 U docker0"+farRoute)
	tu.reach(t)
	tu.alsoBySix(t, false, way{31, true})
	for _, m := range tu.machines {
		for _, f := range tu.stack {
			box.Reach(lab.Address(m.addressIn(f, "c1")), soon)
		}
	}
}

func (tu *tutorial) ownAddresses(t *testing.T) {
	tu.h22.nginx("c1")
	tu.logged(t, theHosts) // by docker's rule
	for _, m := range tu.machines {
		if out, err := m.try(flanneldCheck); err == nil || !strings.Contains(out, "MASQUERADE") {
			t.Errorf("%s on %s does not speak of docker's rule (%v):\n%s", flanneldCheck, m, err, out)
		}
		tu.byHand(m, centOSFirewall)
	}
	tu.logged(t, theHosts) // although FORWARD ends in REJECT
	for _, m := range tu.machines {
		tu.byHand(m, rulesByHand)
	}
	tu.logged(t, theContainers)
	for _, m := range tu.machines { // which have not restarted dockerd since the switch to vxlan
		if out, err := m.try(flanneldCheck); err == nil || strings.Contains(out, "MASQUERADE") || strings.Count(out, "FAULT") != 1 || !strings.Contains(out, "the MTU of ") {
			t.Errorf("%s on %s (%v):\n%s", flanneldCheck, m, err, out)
		}
	}
	time.Sleep(6 * time.Second) // flanneld has looked at its rules once more
	for _, m := range tu.machines {
		tu.byHand(m, `iptables -t nat -C POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE
			iptables -t filter -C FORWARD -d 172.7.21.0/24 -j ACCEPT`)
	}
	tu.logged(t, theContainers)
}

// byHand types a script of iptables, and the same again for IPv6 where that is there.
func (tu *tutorial) byHand(m *machine, script string) {
	for _, f := range tu.stack {
		if f == inet.IPv6 {
			script = strings.NewReplacer("iptables", "ip6tables", "-p icmp ", "-p ipv6-icmp ", "icmp-host-prohibited", "icmp6-adm-prohibited",
				"172.7.21.0/24", "fc00:7:0:21::/64", "172.7.0.0/16", "fc00:7::/48").Replace(script)
		}
		m.sh(m.own(script))
	}
}

func (tu *tutorial) ipMasq(t *testing.T) {
	tu.each(func(m *machine) {
		m.write("/usr/local/flannel/flanneld.sh", m.own(strings.Replace(tu.startScript(), "--healthz-port=2401", "--healthz-port=2401 \\\n  --ip-masq", 1)), 0o755)
		m.control("restart")
		m.running()
		lab.Eventually(t, soon, "FLANNEL_IPMASQ", func() error {
			if env := m.read("/usr/local/flannel/subnet.env"); !strings.Contains(env, "FLANNEL_IPMASQ=true\n") {
				return fmt.Errorf("it is\n%s", env)
			}
			return nil
		})
		m.stopDocker()
		tu.byHand(m, `iptables -t nat -D POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE
			iptables -t filter -D FORWARD -d 172.7.21.0/24 -j ACCEPT
			iptables -t filter -A FORWARD -j REJECT --reject-with icmp-host-prohibited`)
		m.startDocker()
		m.sh("docker start c1")
		if mtu := m.sh(inside("c1", "cat /sys/class/net/eth0/mtu")); mtu != strconv.Itoa(tu.tunnelMTU()) {
			t.Errorf("the MTU in a container on %s is %s", m, mtu)
		}
	})
	tu.h22.sh("nginx -s stop -c /etc/nginx/lab.conf") // on the network of the container that was
	tu.h22.nginx("c1")
	tu.logged(t, theContainers)
	for _, m := range tu.machines {
		for _, f := range tu.stack {
			rules := m.sh(map[inet.Family]string{inet.IPv4: "iptables", inet.IPv6: "ip6tables"}[f] + " -t nat -S POSTROUTING")
			if strings.Contains(rules, "docker0") || !strings.Contains(rules, "-j MASQUERADE") {
				t.Errorf("rules on %s:\n%s", m, rules)
			}
		}
		m.sh(flanneldCheck) // finds no fault
	}
}

const flanneldCheck = "/usr/local/flannel/flanneld check"

// awaitRoutes waits for what `route -n` shows of the containers' network on the
// two hosts.
func (tu *tutorial) awaitRoutes(t *testing.T, want ...string) {
	t.Helper()
	for i, m := range tu.machines {
		eventually(t, "`route -n` on "+m.Name, func() string {
			var out []string
			for line := range strings.Lines(m.sh("busybox route -n")) {
				// Destination Gateway Genmask Flags Metric Ref Use Iface
				if f := strings.Fields(line); strings.HasPrefix(f[0], "172.7.") {
					out = append(out, strings.Join(append(f[:4], f[7]), " "))
				}
			}
			return strings.Join(out, "\n")
		}, want[i])
	}
}

// alsoBySix waits for the hosts' routes by IPv6, if that is there: to each other, and to further ones.
func (tu *tutorial) alsoBySix(t *testing.T, tunnel bool, more ...way) {
	t.Helper()
	for i, m := range tu.machines {
		if len(tu.stack) > 1 {
			n := &node{Host: m.Host, stack: lab.Stacks[1]}
			eventually(t, "the IPv6 routes on "+m.Name, n.routes, routesOf(n.stack, append([]way{{22 - i, tunnel}}, more...)...))
		}
	}
}

// startScript names the address that each family has.
func (tu *tutorial) startScript() string {
	if len(tu.stack) == 1 {
		return startScript
	}
	const v4 = "--public-ip=10.4.7.21 \\\n"
	return strings.Replace(startScript, v4, v4+"  --public-ipv6=fd00:4::21 \\\n", 1)
}

// subnetEnv is what stands in a host's.
func (tu *tutorial) subnetEnv(m *machine, mtu int) string {
	env := strings.Replace(m.own(subnetEnv), "1500", strconv.Itoa(mtu), 1)
	if len(tu.stack) == 1 {
		return env
	}
	return strings.Replace(env, "FLANNEL_MTU", "FLANNEL_IPV6_NETWORK=fc00:7::/48\nFLANNEL_IPV6_SUBNET=fc00:7:0:"+m.number()+"::1/64\nFLANNEL_MTU", 1)
}

// tunnelMTU is what the tunnels of all families carry.
func (tu *tutorial) tunnelMTU() int { return map[int]int{1: 1450, 2: 1430}[len(tu.stack)] }

// reach has the containers ping each other's own addresses.
func (tu *tutorial) reach(t *testing.T) {
	t.Helper()
	a, b := tu.h21, tu.h22
	for range tu.machines {
		for _, f := range tu.stack {
			lab.Eventually(t, soon, "ping from "+a.Name+" to "+b.Name+" by "+f.String(), func() error {
				if out, err := a.try(inside("c1", "ping -c 1 -W 1 "+b.addressIn(f, "c1"))); err != nil {
					return fmt.Errorf("%s", out)
				}
				return nil
			})
		}
		a, b = b, a
	}
}

// whose address is seen.
type whose string

const (
	theHosts      whose = "the host's"
	theContainers whose = "the container's own"
)

// logged fetches a page from one container to the other by each family, and waits until
// nginx's access log shows a client address.
func (tu *tutorial) logged(t *testing.T, client whose) {
	t.Helper()
	for _, f := range tu.stack {
		want := tu.h21.In(f).Address().String()
		if client == theContainers {
			want = tu.h21.addressIn(f, "c1")
		}
		eventually(t, "the client in nginx's access log to be "+string(client), func() string {
			page, err := tu.h21.try(inside("c1", "timeout 3 /bin/busybox wget -q -O - "+lab.URL(lab.Address(tu.h22.addressIn(f, "c1")))))
			if err != nil || page != "hello" {
				return fmt.Sprintf("%s %v", page, err)
			}
			lines := strings.Split(strings.TrimSpace(tu.h22.read("/var/log/nginx/access.log")), "\n")
			address, _, _ := strings.Cut(lines[len(lines)-1], " ") // nginx writes it after the reply
			return address
		}, want)
	}
}

// realRoot tells whether the lab is root's, without a user namespace of its own.
func realRoot(t *testing.T) bool {
	t.Helper()
	var inside, outside, count uint
	if _, err := fmt.Sscan(read(t, "/proc/self/uid_map"), &inside, &outside, &count); err != nil {
		t.Fatal(err)
	}
	return count > 1
}
