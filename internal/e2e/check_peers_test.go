package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// brokenPeer is a way in which a peer, which answers itself, does not reach its
// containers, and what is found on either side of it.
type brokenPeer struct {
	how   string // by a line of shell, there
	level check.Level
	text  string // found here; %v stands for the peer's address
	fix   string // printed here, and "flanneld check" to be run there

	step  string // of the first fault there
	typed string // its fix there; what it begins with
	more  string // what the fix there leaves
}

// TestCheckPeers has one host look at many peers that do not pass on what is for their
// containers, each for another reason; and each peer at itself, as it is told to.
func TestCheckPeers(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21")
	h := c.hosts[0]
	c.Router("gateway", "10.4.7.254/24") // which gets what a peer has no route for, and knows no way back
	const here = "172.7.21.0/24"
	all := map[int]brokenPeer{
		22: {how: "sysctl -qw net.ipv4.ip_forward=0", level: check.Fault, text: "it answers itself, and seems to forward nothing", fix: "sysctl -w net.ipv4.ip_forward=1   # on the peer %v",
			step: "forwarding", typed: "sysctl -w net.ipv4.ip_forward=1"},
		23: {how: "iptables -I FORWARD -s 172.7.0.0/16 -j DROP", level: check.Fault, text: "though it forwards: a rule of its firewall seems to drop it",
			step: "forward", typed: "iptables -D FORWARD -s 172.7.0.0/16 -j DROP"},
		24: {how: "iptables -P FORWARD DROP", level: check.Fault, text: "though it forwards: a rule of its firewall seems to drop it",
			step: "forward", typed: "iptables -I FORWARD -s 172.7.0.0/16 -j ACCEPT; iptables -I FORWARD -d 172.7.0.0/16 -j ACCEPT"},
		25: {how: "iptables -A FORWARD -o docker0 -s 172.7.0.0/16 -j REJECT", level: check.Fault, text: "it says that a firewall forbids it",
			step: "forward", typed: "iptables -D FORWARD -s 172.7.0.0/16 -o docker0 -j REJECT"},
		26: {how: "iptables -A FORWARD -i docker0 -s 172.7.0.0/16 -j DROP", level: check.Unknown, text: "finds the container 172.7.26.2, which answers neither pings nor TCP",
			step: "forward", typed: "iptables -D FORWARD -s 172.7.0.0/16 -i docker0 -j DROP"},
		27: {how: "ip link set docker0 down", level: check.Fault, text: "a rule of its firewall seems to drop it, or its bridge is down",
			step: "docker", typed: "ip link set docker0 up"},
		28: {how: "iptables -t raw -A PREROUTING -d 172.7.28.2/32 ! -i docker0 -j DROP", level: check.Unknown, text: "finds the container 172.7.28.2, which answers neither pings nor TCP",
			step: "forward", typed: `set "allow-direct-routing": true in /etc/docker/daemon.json`, more: "iptables -t raw -F"},
		29: {how: "echo 0 > /proc/sys/net/ipv4/conf/docker0/forwarding", level: check.Unknown, text: "finds the container 172.7.29.2, which answers neither pings nor TCP",
			step: "forwarding", typed: "sysctl -w net.ipv4.conf.docker0.forwarding=1"},
		30: {how: "echo 0 > /proc/sys/net/ipv4/conf/flannel.1/forwarding", level: check.Fault, text: "it answers itself, and seems to forward nothing",
			step: "forwarding", typed: "sysctl -w net.ipv4.conf.flannel/1.forwarding=1"},
		31: {how: "iptables -A FORWARD -o docker0 -p tcp -j DROP", level: check.Unknown, text: "the container 172.7.31.2 answers pings, and not even refuses TCP to port 9",
			step: "forward", typed: "iptables -D FORWARD -o docker0 -p tcp -j DROP"},
		32: {how: `nft 'table inet office { chain from { type filter hook forward priority filter + 5; policy drop; }; }'`, level: check.Fault, text: "though it forwards: a rule of its firewall seems to drop it",
			step: "nftables", typed: "nft insert rule inet office from ip saddr 172.7.0.0/16 accept"},
	}
	peers := map[int]*node{}
	for n := range all {
		peers[n] = c.join(fmt.Sprintf("hdss7-%d", n), "--iptables-forward-rules=false")
	}
	for _, p := range peers {
		p.box = p.Container("c1")
		h.box.Reach(p.box, soon)
		p.box.Reach(h.box, soon)
	}
	clean(t, h, "all to be well", "")
	for n, p := range peers {
		p.Shell(all[n].how)
	}
	lab.Eventually(t, 3*soon, "every peer's trouble to be found", func() (err error) {
		found, code := checked(t, h, "")
		for n, b := range all {
			ip := peers[n].IP.String()
			there := "flanneld check " + here + "   # on the peer " + ip
			i := slices.IndexFunc(found, func(x check.Finding) bool {
				fix := strings.Join(x.Fix, "\n")
				return x.Step == "probe" && x.Level == b.level && strings.Contains(x.Text, b.text) && strings.Contains(fix, there) &&
					strings.HasPrefix(fix, strings.ReplaceAll(b.fix, "%v", ip))
			})
			if i < 0 {
				err = errors.Join(err, fmt.Errorf("nothing of %q and %q", b.text, there))
			}
		}
		if err != nil || code != 1 || len(found) < len(all) {
			return fmt.Errorf("exit code %d, %w in\n%s", code, err, shown(found))
		}
		return nil
	})
	for n, p := range peers {
		found, _ := checked(t, p, here)
		first := firstOf(found, check.Fault)
		fix := ""
		if len(first.Fix) > 0 {
			fix, _, _ = strings.Cut(first.Fix[0], "   # ")
		}
		if b := all[n]; first.Step != b.step || !strings.HasPrefix(fix, b.typed) {
			t.Errorf("%s says\n%s", p, shown(found))
		} else if b.more != "" {
			p.Shell(b.more)
		} else {
			p.typed(t, fix)
		}
	}
	clean(t, h, "all to be well again", "")
	for _, p := range peers {
		p.box.Reach(h.box, soon)
	}
}

// TestCheckCloud has a network that drops what is from or for addresses that are no
// host's. Both ends say so, and neither that it is the other.
func TestCheckCloud(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	for _, h := range c.hosts {
		h.Shell("nft 'table netdev fabric { chain in { type filter hook ingress device ens33 priority 0; ip daddr 172.7.0.0/16 drop; }; }'")
	}
	for i, h := range c.hosts {
		other := c.hosts[1-i]
		trouble{on: h, step: "probe", text: "though its host " + other.IP.String() + " answers, and none to this host's own address either: the network between seems to drop packets with containers' addresses, as clouds do",
			fix: "switch that off, for all hosts: the cloud's source/destination check"}.expect(t)
	}
	h := c.hosts[0]
	trouble{on: h, step: "probe", text: "as clouds do", line: 1,
		fix: `flanneld config set --etcd-endpoints=http://10.4.7.12:2379 --etcd-api=2 '{"Backend":{"Type":"vxlan"},"Network":"172.7.0.0/16","SubnetLen":24,"SubnetMax":"172.7.255.0","SubnetMin":"172.7.1.0"}'`, notes: []string{"docker"}, repair: func() {
			found, _ := checked(t, h, "")
			fix, _, _ := strings.Cut(firstOf(found, check.Fault).Fix[1], "   # ")
			h.typed(t, fix)
			for _, n := range c.hosts {
				lab.Eventually(t, soon, "the switch", func() error {
					if env := read(t, n.SubnetFile()); !strings.Contains(env, "FLANNEL_MTU=1450") {
						return errors.New(env)
					}
					return nil
				})
				n.typed(t, "systemctl restart docker")
				n.box.Shell("ip link set eth0 mtu 1450")
			}
		}}.find(t)
	clean(t, c.hosts[1], "all to be well there too", "")
	c.connected(soon)
}

// TestCheckVagrant has hosts whose first interface leads to a NAT and has the same
// address in all of them; they reach each other by the second.
func TestCheckVagrant(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	store := l.Host("hdss7-12", "192.168.56.12/24")
	l.EtcdOn(lab.EtcdOptions{}, store).Set(configKey, vxLAN)
	var hosts []*node
	for i := range 2 {
		h := &node{Host: l.Host(fmt.Sprintf("box-%d", 1+i), fmt.Sprintf("10.%d.2.15/24", i), fmt.Sprintf("192.168.56.%d/24", 21+i)).SubnetEnv(fmt.Sprintf("172.7.%d.1/24", 21+i))}
		h.Shell("ip address flush dev ens33; ip address add 10.0.2.15/24 dev ens33; ip route add default via 10.0.2.2 dev ens33")
		h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
			o.Args = append(without(without(o.Args, "--iface="), "--public-ip="), "--iface=ens33", fmt.Sprintf("--public-ip=192.168.56.%d", 21+i))
		})
		hosts = append(hosts, h)
	}
	for i, h := range hosts {
		h.daemon.WaitReady()
		h.box = h.Container("c1")
		trouble{on: h, step: "interface", text: fmt.Sprintf("the public IP 192.168.56.%d is on ens34, where peers are too, and flanneld sends by ens33, from 10.0.2.15", 21+i), fix: "restart flanneld with --iface=ens34 in place of --iface=ens33"}.expect(t)
	}
	for _, h := range hosts {
		h.daemon.Stop()
		h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
			o.Args = append(without(without(o.Args, "--iface="), "--public-ip="), "--iface=ens34")
		})
	}
	for _, h := range hosts {
		h.daemon.WaitReady()
		clean(t, h, "all to be well by --iface", "")
	}
	hosts[0].box.Reach(hosts[1].box, soon)
}
