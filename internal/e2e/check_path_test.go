package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// TestCheckTunnel has a tunnel in which some packets get lost.
func TestCheckTunnel(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	t.Run("rp_filter drops answers that come another way", func(t *testing.T) {
		trouble{on: h21, how: "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ens33.rp_filter=1", do: func() { h22.Shell("ip route prepend 172.7.21.0/24 via 10.4.7.21 dev ens33") },
			step: "probe", text: "no answer from 172.7.22.1: this host drops it, as it comes in where rp_filter does not expect it", fix: "sysctl -w net.ipv4.conf.all.rp_filter=2"}.find(t)
		h22.Shell("ip route del 172.7.21.0/24 via 10.4.7.21 dev ens33")
	})
	t.Run("large packets get lost", func(t *testing.T) {
		h22.Shell("iptables -t raw -A PREROUTING -p udp -m udp --dport 8472 -m length --length 1401:65535 -j DROP")
		trouble{on: h21, step: "probe", text: "packets of 1450 bytes get lost on the way to 172.7.22.1, those of 1350 arrive", line: 1, fix: "ip link set ens33 mtu 1400",
			repair: func() { h21.shrink(t, "ip link set ens33 mtu 1400", "FLANNEL_MTU=1350") }}.find(t)
		h22.Shell("iptables -t raw -F")
		h21.shrink(t, "ip link set ens33 mtu 1500", "FLANNEL_MTU=1450")
	})
	t.Run("the network card computes no checksums within a tunnel", func(t *testing.T) {
		web := h22.box.HTTPServer()
		h21.CardWithoutTunnels()
		trouble{on: h21, step: "probe", text: "172.7.22.1 answers pings, and no TCP: its checksums are computed wrongly by the network card", fix: "ethtool -K flannel.1 tx-checksum-ip-generic off",
			repair: func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if conn, err := h21.box.Dial(ctx, "tcp4", "172.7.22.2:80"); err == nil {
					conn.Close()
					t.Error("the card is good: a connection stands")
				}
				h21.typed(t, "ethtool -K flannel.1 tx-checksum-ip-generic off")
			}}.find(t)
		if answer := h21.box.Get(web.URL); answer != "hello, 172.7.21.2\n" {
			t.Error(answer)
		}
	})
	t.Run("TCP is dropped there, and not for its checksums", func(t *testing.T) {
		c.etcd.Set(configKey, `{"Network": "172.7.0.0/16", "Backend": {"Type": "vxlan", "DisableTxChecksum": true}}`)
		h22.Shell("iptables -t raw -A PREROUTING -i flannel.1 -p tcp -j DROP")
		trouble{on: h21, step: "probe", text: "172.7.22.1 answers pings, and no TCP: a firewall on 10.4.7.22 or on the way drops it", fix: checkThere, repair: func() {
			trouble{on: h22, step: "forward", text: "what 172.7.21.0/24 sends to containers is dropped, by: iptables -t raw", after: []string{"probe"}, fix: "iptables -t raw -D PREROUTING -i flannel.1 -p tcp -j DROP"}.find(t)
		}}.find(t)
	})
	t.Run("the peer has no tunnel", func(t *testing.T) { // as after a restart of the machine
		h22.daemon.Kill()
		h22.Shell("ip link del flannel.1")
		trouble{on: h21, step: "probe", text: "no answer from 172.7.22.1 through the tunnel, though its host 10.4.7.22 answers: nobody listens on its UDP port 8472", fix: checkThere, repair: func() { h22.startedAfterCheck(t) }}.find(t)
	})
	t.Run("the peer is gone", func(t *testing.T) {
		trouble{on: h21, do: h22.Cut, step: "probe", text: "no answer from 172.7.22.1, nor from its host 10.4.7.22 itself", fix: "ping 10.4.7.22", repair: h22.Heal}.find(t)
	})
}

const checkThere = "flanneld check 172.7.21.0/24"

// startedAfterCheck does on a peer what check has said there.
func (n *node) startedAfterCheck(t *testing.T) {
	t.Helper()
	found, code := checked(t, n, strings.TrimPrefix(checkThere, "flanneld check "))
	if first := firstOf(found, check.Fault); code != 1 || first.Step != "daemon" {
		t.Errorf("exit code %d, %+v", code, first)
	}
	n.typed(t, "systemctl start flanneld")
}

// shrink changes the MTU, and restarts docker once flanneld has followed.
func (n *node) shrink(t *testing.T, command, follows string) {
	t.Helper()
	n.typed(t, command)
	lab.Eventually(t, soon, follows, func() error {
		if env := read(t, n.SubnetFile()); !strings.Contains(env, follows) {
			return fmt.Errorf("%s", env)
		}
		return nil
	})
	n.typed(t, "systemctl restart docker")
	n.box.Shell("ip link set eth0 mtu " + strings.TrimPrefix(follows, "FLANNEL_MTU="))
}

// TestCheckDirect has hosts that reach each other without a tunnel, or do not.
func TestCheckDirect(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	t.Run("large packets get lost", func(t *testing.T) {
		h22.Shell("iptables -t raw -A PREROUTING -s 172.7.21.0/24 -m length --length 1401:65535 -j DROP")
		trouble{on: h21, step: "probe", text: "packets of 1500 bytes get lost on the way to 172.7.22.1, those of 1400 arrive", line: 1, fix: "ip link set ens33 mtu 1400",
			repair: func() { h21.shrink(t, "ip link set ens33 mtu 1400", "FLANNEL_MTU=1400") }}.find(t)
		h22.Shell("iptables -t raw -F")
		h21.shrink(t, "ip link set ens33 mtu 1500", "FLANNEL_MTU=1500")
	})
	t.Run("the peer has forgotten the way back", func(t *testing.T) {
		h22.daemon.Kill()
		h22.Shell("ip route del 172.7.21.0/24")
		trouble{on: h21, step: "probe", text: "no answer from 172.7.22.1, though its host 10.4.7.22 answers: that host does not pass it on or back", fix: checkThere, repair: func() { h22.startedAfterCheck(t) }}.find(t)
	})
	t.Run("a router is in between", func(t *testing.T) {
		c.Router("gateway", "10.4.7.254/24", "10.4.9.254/24")
		far := &node{Host: c.Host("hdss9-35", "10.4.9.35/24").SubnetEnv("172.7.35.1/24")}
		far.daemon = far.Flanneld()
		far.daemon.WaitReady()
		trouble{on: far, step: "route", text: `its host 10.4.7.21 is not on the link of ens33, and its lease says "host-gw"`, notes: []string{"docker"},
			fix: `flanneld config set --etcd-endpoints=http://10.4.7.12:2379 --etcd-api=2 '{"Backend":{"Type":"vxlan"},"Network":"172.7.0.0/16","SubnetLen":24,"SubnetMax":"172.7.255.0","SubnetMin":"172.7.1.0"}'`}.find(t)
	})
}

// TestCheckTwoWays has a host with two interfaces, which answers by the other.
func TestCheckTwoWays(t *testing.T) {
	c := start(t, vxLAN, "hdss7-22")
	c.Router("gateway", "10.4.7.254/24", "10.4.9.254/24")
	two := &node{Host: c.Host("hdss7-33", "10.4.7.33/24", "10.4.9.33/24").SubnetEnv("172.7.33.1/24")}
	two.daemon = two.Flanneld()
	two.box = two.Container("c1")
	two.box.Reach(c.hosts[0].box, soon)
	trouble{on: two, how: "ip route add 10.4.7.22/32 via 10.4.9.254 dev ens34; sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ens33.rp_filter=1",
		step: "rp_filter", text: "packets from 10.4.7.22 are dropped where they come in on ens33, as the route to it leads over ens34: rp_filter is strict",
		fix: "sysctl -w net.ipv4.conf.ens33.rp_filter=2"}.find(t)
}

// TestCheckNAT has a host whose packets leave by a router that translates them:
// peers see them come from the router's address, and that is the public IP.
func TestCheckNAT(t *testing.T) {
	c := start(t, vxLAN, "hdss7-22")
	router := &node{Host: c.Router("gateway", "10.4.7.254/24", "192.168.5.254/24")}
	router.Shell("iptables -t nat -A POSTROUTING -s 192.168.5.0/24 -o ens33 -j MASQUERADE; sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1")
	inside := &node{Host: c.Host("inside", "192.168.5.21/24").SubnetEnv("172.7.40.1/24")}
	inside.daemon = inside.FlanneldAs(func(o *lab.FlanneldOptions) { o.Args[0] = "--public-ip=10.4.7.254" })
	inside.box = inside.Container("c1")
	trouble{on: router, from: inside, step: "probe", after: nil, notes: []string{"interface"},
		text: "no answer from 172.7.22.1 through the tunnel, though its host 10.4.7.22 answers: the router with this host's public IP 10.4.7.254 seems not to pass UDP port 8472 on",
		fix:  "iptables -t nat -A PREROUTING -d 10.4.7.254 -p udp --dport 8472 -j DNAT --to-destination 192.168.5.21"}.find(t)
	found, _ := checked(t, inside, "")
	if x := firstOf(found, check.Note); x.Text != "the public IP 10.4.7.254 is no address of this host: a router must pass what comes there on to 192.168.5.21" {
		t.Errorf("%+v", found)
	}
	inside.box.Reach(c.hosts[0].box, soon)
	c.hosts[0].box.Reach(inside.box, soon)
}

// TestCheckIPTables has a flanneld whose iptables does not work.
func TestCheckIPTables(t *testing.T) {
	c := start(t, hostGW, "hdss7-21")
	for i, tt := range []struct{ name, script, mode, text string }{
		{"it fails", `case "$*" in *-V*|*--version*) echo "iptables v1.8.9 (nf_tables)";; *) exit 7;; esac`, "755", "iptables: cannot read iptables rules: "},
		{"it is not installed", "", "644", "no rules let containers' traffic pass: iptables is not installed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &node{Host: c.Host(fmt.Sprintf("hdss7-%d", 31+i), fmt.Sprintf("10.4.7.%d/24", 31+i)).SubnetEnv(fmt.Sprintf("172.7.%d.1/24", 31+i))}
			hide := []string{"-m", "sh", "-c", fmt.Sprintf(`set -e; p=$(mktemp -p /run); echo '#!/bin/sh
%s' > $p; chmod %s $p; for f in /usr/sbin/xtables-*-multi; do mount --bind $p $f; done; exec "$@"`, tt.script, tt.mode), "sh", lab.Binary(t)}
			h.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
				o.Binary, o.Args = "/usr/bin/unshare", append(append(hide, o.Args...), "--firewall=iptables")
			})
			h.box = h.Container("c1")
			trouble{on: h, step: "flanneld", text: tt.text, fix: "journalctl -u flanneld", repair: func() {
				h.daemon.Stop()
				h.daemon = h.Flanneld()
				h.daemon.WaitReady()
			}}.find(t)
		})
	}
}
