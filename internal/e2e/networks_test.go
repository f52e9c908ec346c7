package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
)

// bridge is the address of a host's containers' bridge.
type bridge netip.Addr

func (b bridge) Address() netip.Addr { return netip.Addr(b) }
func (b bridge) String() string      { return netip.Addr(b).String() }

// another runs one more daemon on a host, for a prefix and a subnet file of its own.
func (n *node) another(prefix, file string, more ...string) *lab.Daemon {
	return n.FlanneldAs(func(o *lab.FlanneldOptions) {
		o.Args = append(without(o.Args, "--subnet-file="), "--etcd-prefix="+prefix, "--subnet-file="+file)
		o.Args = append(o.Args, more...)
	})
}

// TestTwoNetworks has two daemons on each of three hosts, each for a network of its own, as flannel's users have it. They
// neither refuse nor undo one another, whatever becomes of one of them; and what only one can have is refused.
func TestTwoNetworks(t *testing.T) {
	const second = "/second/network"
	for name, firewall := range map[string]string{"iptables": "iptables", "nftables": "nftables"} {
		t.Run(name, func(t *testing.T) {
			c := start(t, vxLAN)
			c.etcd.Set(second+"/config", `{"Network":"172.8.0.0/16","Backend":{"Type":"vxlan","VNI":2}}`)
			flags := []string{"--ip-masq", "--iptables-resync=1", "--firewall=" + firewall}
			others := map[*node]*lab.Daemon{}
			for i := 21; i <= 23; i++ {
				n := c.join(fmt.Sprintf("hdss7-%d", i), flags...)
				file := filepath.Join(n.Dir(), "second.env")
				if err := os.WriteFile(file, fmt.Appendf(nil, "FLANNEL_SUBNET=172.8.%d.1/24\n", i), 0o644); err != nil {
					t.Fatal(err)
				}
				others[n] = n.another(second, file, flags...)
			}
			for _, n := range c.hosts {
				n.daemon.WaitReady()
				others[n].WaitReady()
				n.box = n.Container("c1")
				n.Shell(fmt.Sprintf("ip link add br2 type bridge && ip addr add 172.8.%d.1/24 dev br2 && ip link set br2 up", n.IP.As4()[3]))
			}
			c.connected(soon)
			inSecond := func(n *node) bridge { return bridge(netip.AddrFrom4([4]byte{172, 8, n.IP.As4()[3], 1})) }
			for _, a := range c.hosts {
				for _, b := range c.hosts {
					if a != b {
						a.Reach(inSecond(b), soon)
					}
				}
			}
			var pingers []*lab.Pinger
			for _, a := range c.hosts {
				for _, b := range c.hosts {
					if a != b {
						pingers = append(pingers, a.PingEvery(50*time.Millisecond, inSecond(b)))
					}
				}
			}
			n := c.hosts[0]
			c.losesNothing("restarts", func() {
				n.daemon.Restart()
				n.daemon.WaitReady()
				others[n].Kill()
				time.Sleep(time.Second)
				n.daemon.Kill() // both are down, and one comes back
				time.Sleep(time.Second)
				n.daemon.Restart()
				n.daemon.WaitReady()
				time.Sleep(2 * time.Second)
				n.daemon.Stop()
				others[n].Restart()
				others[n].WaitReady()
				time.Sleep(2 * time.Second)
				n.daemon.Restart()
				n.daemon.WaitReady()
				time.Sleep(3 * time.Second)
			})
			for _, p := range pingers {
				if s := p.Stop(); s.Lost > 0 {
					t.Errorf("in the second network: %v", s)
				}
			}
			if log := n.daemon.Log() + others[n].Log(); strings.Contains(log, "again and again") {
				t.Errorf("they undo one another:\n%s", log)
			}
			if firewall == "iptables" {
				if rules := n.Run("iptables", "-t", "nat", "-S", "POSTROUTING"); strings.Count(rules, "flanneld") != 8 {
					t.Errorf("the rules are\n%s", rules)
				}
			}

			if out, code := runCommand(t, n.Host, "status"); code == 0 || !strings.Contains(out, "choose one by --etcd-prefix") || !strings.Contains(out, second) {
				t.Errorf("status of two: exit code %d\n%s", code, out)
			}
			for prefix, network := range map[string]string{second: "172.8.0.0/16", "/coreos.com/network": "172.7.0.0/16"} {
				if out, code := runCommand(t, n.Host, "status", "--etcd-prefix="+prefix); code != 0 || !strings.Contains(out, network) {
					t.Errorf("status of %s: exit code %d\n%s", prefix, code, out)
				}
			}

			// What only one can have.
			same := n.another(second, filepath.Join(n.Dir(), "third.env"))
			if code := same.Wait(soon); code != 1 || !strings.Contains(same.Log(), "--etcd-prefix="+second) {
				t.Errorf("the same prefix: exit code %d\n%s", code, same.Log())
			}
			file := n.another("/third", filepath.Join(n.Dir(), "second.env"))
			if code := file.Wait(soon); code != 1 || !strings.Contains(file.Log(), "--subnet-file") {
				t.Errorf("the same file: exit code %d\n%s", code, file.Log())
			}
			for prefix, tt := range map[string]struct{ config, says string }{
				"/vni":     {`{"Network":"172.9.0.0/16","Backend":{"Type":"vxlan","VNI":2}}`, "device flannel.2 is that of another flanneld of this host (pid"},
				"/overlap": {`{"Network":"172.8.128.0/17","Backend":{"Type":"host-gw"}}`, "overlaps 172.8.0.0/16, which another flanneld of this host (pid"},
			} {
				c.etcd.Set(prefix+"/config", tt.config)
				d := n.another(prefix, filepath.Join(n.Dir(), strings.Trim(prefix, "/")+".env"))
				d.WaitLog(tt.says)
				if keys := c.etcd.Keys(prefix + "/subnets/"); len(keys) > 0 {
					t.Errorf("%s leases %v all the same", prefix, keys)
				}
				c.etcd.Set(prefix+"/config", `{"Network":"172.10.0.0/16","Backend":{"Type":"vxlan","VNI":3}}`)
				d.WaitReady()
				d.Stop()
			}
			n.Reach(inSecond(c.hosts[1]), soon)
			c.connected(soon)
		})
	}
}
