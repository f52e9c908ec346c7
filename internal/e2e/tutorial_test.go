package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestTutorial is the deployment that flanneld is made for, as its readers set
// it up, line by line: with etcd on three hosts behind certificates, and on two
// of them supervisord, dockerd and flanneld. The first run is on hosts like
// CentOS 7's, whose sh is bash and whose iptables is the legacy one, and with
// etcd's v2 API; the second one is with the newest etcd, the third with docker 29.
func TestTutorial(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("dockerd needs real root: run this test with sudo")
	}
	for _, like := range []struct {
		name, shell string
		engine      engine
		etcd        lab.EtcdOptions
	}{
		{"CentOS", "bash", engine{"20.10", "iptables-legacy"}, lab.EtcdOptions{}},
		{"Debian", "dash", engine{"20.10", "iptables-nft"}, lab.EtcdOptions{Newest: true}},
		{"docker 29", "dash", engine{"29", "iptables-nft"}, lab.EtcdOptions{}},
	} {
		t.Run(like.name, func(t *testing.T) {
			t.Parallel()
			tu := newTutorial(t, like.etcd)
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
	ca       *lab.CA
	etcd     *lab.Etcd
	h21, h22 *machine
	machines []*machine
}

func newTutorial(t *testing.T, etcd lab.EtcdOptions) *tutorial {
	l := lab.New(t)
	h12, h21, h22 := l.Host("hdss7-12", "10.4.7.12/24"), l.Host("hdss7-21", "10.4.7.21/24"), l.Host("hdss7-22", "10.4.7.22/24")
	tu := &tutorial{Lab: l, ca: lab.NewCA(t, "authority"), h21: newMachine(t, h21), h22: newMachine(t, h22)}
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
		m.install(startScript)
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
	tu.etcd.Set(configKey, `{"Network": "172.7.0.0/16", "Backend": {"Type": "host-gw"}}`)
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
}

func (tu *tutorial) switchToVXLAN(t *testing.T) {
	tu.each(func(m *machine) {
		m.control("stop")
		m.awaitFlannelds(0)
	})
	tu.h21.Shell("ip route del 172.7.22.0/24 via 10.4.7.22") // and forgotten on hdss7-22
	tu.etcd.Delete(configKey)
	tu.etcd.Set(configKey, `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN"}}`)
	tu.each(func(m *machine) {
		m.control("start")
		m.running()
		m.awaitFlannelds(1)
	})
	tu.awaitRoutes(t, "172.7.21.0 0.0.0.0 255.255.255.0 U docker0\n172.7.22.0 172.7.22.0 255.255.255.0 UG flannel.1",
		"172.7.21.0 172.7.21.0 255.255.255.0 UG flannel.1\n172.7.22.0 0.0.0.0 255.255.255.0 U docker0")
	tu.reach(t)
	for _, m := range tu.machines {
		if env, want := m.read("/usr/local/flannel/subnet.env"), strings.Replace(m.own(subnetEnv), "1500", "1450", 1); env != want {
			t.Errorf("subnet.env of %s:\n%s", m, env)
		}
	}
}

func (tu *tutorial) directRouting(t *testing.T) {
	tu.Router("gateway", "10.4.7.254/24", "10.4.8.254/24")
	far := tu.Host("hdss8-31", "10.4.8.31/24").SubnetEnv("172.7.31.1/24")
	far.Flanneld().WaitReady()
	box := far.Container("c1")
	tu.etcd.Set(configKey, `{"Network": "172.7.0.0/16", "Backend": {"Type": "VxLAN","Directrouting": true}}`)
	const farRoute = "\n172.7.31.0 172.7.31.0 255.255.255.0 UG flannel.1"
	tu.awaitRoutes(t, "172.7.21.0 0.0.0.0 255.255.255.0 U docker0\n172.7.22.0 10.4.7.22 255.255.255.0 UG ens33"+farRoute,
		"172.7.21.0 10.4.7.21 255.255.255.0 UG ens33\n172.7.22.0 0.0.0.0 255.255.255.0 U docker0"+farRoute)
	tu.reach(t)
	for _, m := range tu.machines {
		box.Reach(lab.Address(m.address("c1")), soon)
	}
}

func (tu *tutorial) ownAddresses(t *testing.T) {
	tu.h22.nginx("c1")
	tu.logged(t, "10.4.7.21") // by docker's rule
	for _, m := range tu.machines {
		if out, err := m.try(flanneldCheck); err == nil || !strings.Contains(out, "MASQUERADE") {
			t.Errorf("%s on %s does not speak of docker's rule (%v):\n%s", flanneldCheck, m, err, out)
		}
		m.sh(centOSFirewall)
	}
	tu.logged(t, "10.4.7.21") // although FORWARD ends in REJECT
	for _, m := range tu.machines {
		m.sh(m.own(rulesByHand))
	}
	tu.logged(t, "172.7.21.2")
	for _, m := range tu.machines { // which have not restarted dockerd since the switch to vxlan
		if out, err := m.try(flanneldCheck); err == nil || strings.Contains(out, "MASQUERADE") || strings.Count(out, "FAULT") != 1 || !strings.Contains(out, "the MTU of ") {
			t.Errorf("%s on %s (%v):\n%s", flanneldCheck, m, err, out)
		}
	}
	time.Sleep(6 * time.Second) // flanneld has looked at its rules once more
	for _, m := range tu.machines {
		m.sh(m.own(`iptables -t nat -C POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE
			iptables -t filter -C FORWARD -d 172.7.21.0/24 -j ACCEPT`))
	}
	tu.logged(t, "172.7.21.2")
}

func (tu *tutorial) ipMasq(t *testing.T) {
	tu.each(func(m *machine) {
		m.write("/usr/local/flannel/flanneld.sh", m.own(strings.Replace(startScript, "--healthz-port=2401", "--healthz-port=2401 \\\n  --ip-masq", 1)), 0o755)
		m.control("restart")
		m.running()
		lab.Eventually(t, soon, "FLANNEL_IPMASQ", func() error {
			if env := m.read("/usr/local/flannel/subnet.env"); !strings.Contains(env, "FLANNEL_IPMASQ=true\n") {
				return fmt.Errorf("it is\n%s", env)
			}
			return nil
		})
		m.stopDocker()
		m.sh(m.own(`iptables -t nat -D POSTROUTING -s 172.7.21.0/24 ! -d 172.7.0.0/16 ! -o docker0 -j MASQUERADE
			iptables -t filter -D FORWARD -d 172.7.21.0/24 -j ACCEPT
			iptables -t filter -A FORWARD -j REJECT --reject-with icmp-host-prohibited`))
		m.startDocker()
		m.sh("docker start c1")
		if mtu := m.sh(inside("c1", "cat /sys/class/net/eth0/mtu")); mtu != "1450" {
			t.Errorf("the MTU in a container on %s is %s", m, mtu)
		}
	})
	tu.h22.sh("nginx -s stop -c /etc/nginx/lab.conf") // on the network of the container that was
	tu.h22.nginx("c1")
	tu.logged(t, "172.7.21.2")
	for _, m := range tu.machines {
		rules := m.sh("iptables -t nat -S POSTROUTING")
		if strings.Contains(rules, "docker0") || !strings.Contains(rules, "-j MASQUERADE") {
			t.Errorf("rules on %s:\n%s", m, rules)
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

// reach has the containers ping each other's own addresses.
func (tu *tutorial) reach(t *testing.T) {
	t.Helper()
	a, b := tu.h21, tu.h22
	for range tu.machines {
		lab.Eventually(t, soon, "ping from "+a.Name+" to "+b.Name, func() error {
			if out, err := a.try(inside("c1", "ping -c 1 -W 1 "+b.address("c1"))); err != nil {
				return fmt.Errorf("%s", out)
			}
			return nil
		})
		a, b = b, a
	}
}

// logged fetches a page from one container to the other, and waits until
// nginx's access log shows a client address.
func (tu *tutorial) logged(t *testing.T, client string) {
	t.Helper()
	eventually(t, "the client in nginx's access log", func() string {
		page, err := tu.h21.try(inside("c1", "timeout 3 /bin/busybox wget -q -O - http://"+tu.h22.address("c1")+"/"))
		if err != nil || page != "hello" {
			return fmt.Sprintf("%s %v", page, err)
		}
		lines := strings.Split(strings.TrimSpace(tu.h22.read("/var/log/nginx/access.log")), "\n")
		address, _, _ := strings.Cut(lines[len(lines)-1], " ") // nginx writes it after the reply
		return address
	}, client)
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
