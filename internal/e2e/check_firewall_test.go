package e2e

import (
	"strings"
	"testing"

	"flanneld/internal/docs"
)

// typedIn is what a block of a page tells to type, as check prints it.
func typedIn(b docs.Block) string {
	return strings.ReplaceAll(strings.TrimSpace(b.Text), "\n", "; ")
}

// centos ends its INPUT chain in REJECT, after what the lab needs.
const centos = "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A INPUT -s 10.4.7.12 -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT; " +
	"iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited"

// TestCheckFirewalls has rules in the way of containers and of the tunnel, in
// one place after the other.
func TestCheckFirewalls(t *testing.T) {
	open := typedIn(docs.Containing(t, "docs/firewall.md", "iptables -I INPUT -p udp --dport 8472"))
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h21, h22 := c.hosts[0], c.hosts[1]
	findAll(t, allSeenFrom(h22, []trouble{
		{name: "a REJECT in front of flanneld's rules", on: h21, how: "iptables -I FORWARD -s 172.7.0.0/16 -j REJECT",
			step: "forward", text: "what containers send to 172.7.22.0/24 is dropped, by: iptables -A FORWARD -s 172.7.0.0/16 -j REJECT",
			fix: "iptables -D FORWARD -s 172.7.0.0/16 -j REJECT --reject-with icmp-port-unreachable"},
		{name: "a DROP on the way back", on: h21, how: "iptables -I FORWARD -i flannel.1 -p tcp -j DROP",
			step: "forward", text: "what 172.7.22.0/24 sends to containers is dropped", fix: "iptables -D FORWARD -i flannel.1 -p tcp -j DROP"},
		{name: "a DROP in a chain of the administrator's", on: h21, elsewhere: true, how: "iptables -N OFFICE; iptables -A OFFICE -d 172.7.22.0/24 -j DROP; iptables -I FORWARD -m comment --comment 'a b' -j OFFICE",
			step: "forward", text: "iptables -A OFFICE -d 172.7.22.0/24 -j DROP", fix: "iptables -D OFFICE -d 172.7.22.0/24 -j DROP",
			more: "iptables -D FORWARD -m comment --comment 'a b' -j OFFICE; iptables -X OFFICE"},
		{name: "a rule of the other iptables", on: h21, elsewhere: true, how: "iptables-legacy -I FORWARD -s 172.7.0.0/16 -j DROP",
			step: "forward", text: "by: iptables-legacy -A FORWARD", fix: "iptables-legacy -D FORWARD -s 172.7.0.0/16 -j DROP"},
		{name: "containers of one host do not reach each other, by a rule", on: h21, how: "sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables -I FORWARD -i docker0 -o docker0 -j DROP",
			step: "bridge", text: "br_netfilter sends what crosses docker0 through iptables, where -A FORWARD -i docker0 -o docker0 -j DROP drops it", fix: "iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT",
			more: "iptables -D FORWARD -i docker0 -o docker0 -j ACCEPT; iptables -D FORWARD -i docker0 -o docker0 -j DROP"},
		{name: "containers of one host do not reach each other, by a rule that may stay", on: h21, how: "iptables -I FORWARD -i docker0 -o docker0 -j DROP",
			step: "bridge", text: "br_netfilter", line: 2, fix: "sysctl -w net.bridge.bridge-nf-call-iptables=0", more: "iptables -D FORWARD -i docker0 -o docker0 -j DROP"},
		{name: "the tunnel's port is closed here", on: h21, how: "iptables -A INPUT -p udp -m udp --dport 8472 -j DROP",
			step: "port", text: "the tunnel's packets from 10.4.7.22, UDP port 8472, are dropped where they arrive, by: iptables -A INPUT",
			fix: open, more: "iptables -F INPUT"},
		{name: "everything is closed here but what is known", on: h21, how: centos,
			step: "port", text: "REJECT --reject-with icmp-host-prohibited", fix: open, more: "iptables -F INPUT"},
		{name: "policies close the port", on: h21, how: "iptables -A INPUT -s 10.4.7.12 -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT; iptables -P INPUT DROP",
			step: "port", text: "are dropped where they arrive, by the policy of filter INPUT", fix: open, more: "iptables -P INPUT ACCEPT; iptables -F INPUT"},
		{name: "the tunnel's port is closed in the raw table", on: h21, how: "iptables -t raw -A PREROUTING -p udp -m udp --dport 8472 -j DROP",
			step: "port", text: "are dropped where they arrive, by: iptables -t raw", fix: "iptables -t raw -I PREROUTING -p udp --dport 8472 -s 10.4.7.0/24 -j ACCEPT", more: "iptables -t raw -F"},
		{name: "the tunnel's port is closed on the way out", on: h21, how: "iptables -A OUTPUT -o ens33 -p udp -j DROP",
			step: "port", text: "UDP port 8472, are dropped where they leave, by: iptables -A OUTPUT -o ens33", fix: "iptables -I OUTPUT -p udp --dport 8472 -d 10.4.7.0/24 -j ACCEPT", more: "iptables -F OUTPUT"},
		{name: "the tunnel's port is closed there", on: h22, from: h21, how: "iptables -A INPUT -p udp -m udp --dport 8472 -j DROP",
			step: "probe", text: "no answer from 172.7.22.1 through the tunnel, though its host 10.4.7.22 answers: UDP port 8472 seems to be blocked",
			fix: open, more: "iptables -F INPUT"},
		{name: "docker's MASQUERADE", on: h21, how: "iptables -t nat -A POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE",
			step: "addresses", text: "containers on 10.4.7.22 see this host's address in place of the container's, by: iptables -t nat -A POSTROUTING -s 172.7.21.0/24 ! -o docker0 -j MASQUERADE", line: 1,
			fix: "iptables -t nat -I POSTROUTING -s 172.7.21.0/24 -d 172.7.0.0/16 -j ACCEPT", more: "iptables -t nat -F POSTROUTING"},
		{name: "a rule with a comment that a shell would carry out", on: h21, elsewhere: true, how: "iptables -I FORWARD -s 172.7.0.0/16 -m comment --comment '$(touch /run/pwned)' -j DROP",
			step: "forward", text: "--comment '$(touch /run/pwned)' -j DROP", fix: "iptables -D FORWARD -s 172.7.0.0/16 -m comment --comment '$(touch /run/pwned)' -j DROP", more: "[ ! -e /run/pwned ]"},
		{name: "a firewall of nftables", on: h21, how: `nft 'table inet office { chain from { type filter hook forward priority filter + 5; policy accept; ct state established accept; jump other; counter jump rest; };
				chain rest { oifname "lo" accept; counter reject with icmpx admin-prohibited; }; chain other { }; }'`,
			step: "nftables", text: `the nftables table "inet office" drops what it does not know, and does not know the network 172.7.0.0/16`,
			fix: typedIn(docs.Containing(t, "docs/firewall.md", "nft insert rule inet office from")), more: "nft delete table inet office"},
		{name: "a firewall of nftables for the host itself", on: h21, how: `nft 'table inet office { chain into { type filter hook input priority filter; policy drop; ct state established,related accept; iifname "lo" accept; }; }'`,
			step: "nftables", text: `the nftables table "inet office" drops what it does not know, and does not know the tunnel's UDP port 8472`, after: []string{"probe"},
			fix: "nft insert rule inet office into udp dport 8472 accept", more: "nft delete table inet office"},
	}))
	t.Run("a firewall there that lets the tunnel through, and nothing else", func(t *testing.T) {
		h22.Shell("iptables -P INPUT DROP; iptables -A INPUT -p udp --dport 8472 -j ACCEPT; iptables -A INPUT -s 10.4.7.12 -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT")
		clean(t, h21, "no fault, where containers reach each other", "")
		h21.box.Reach(h22.box, soon)
	})
}

// TestCheckFirewalld is what firewalld makes of nftables where it has not been
// told of the network; the lab does in its place what it is told.
func TestCheckFirewalld(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	const known = "nft insert rule inet firewalld "
	findAll(t, []trouble{
		{name: "containers", on: h, how: `nft 'table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
				ct state established,related accept; oifname "lo" accept; reject with icmpx admin-prohibited; }; }'`,
			step: "nftables", text: `the nftables table "inet firewalld" drops what it does not know`,
			fix:    "firewall-cmd --permanent --zone=trusted --add-source=172.7.0.0/16; firewall-cmd --reload",
			repair: func() { h.Shell(known + "filter_FORWARD ip saddr 172.7.0.0/16 accept") }},
		{name: "the tunnel", on: h, how: `nft 'table inet firewalld { chain filter_INPUT { type filter hook input priority filter + 10; policy accept;
				ct state established,related accept; iifname "lo" accept; reject with icmpx admin-prohibited; }; }'`,
			step: "nftables", text: "and does not know the tunnel's UDP port 8472", after: []string{"probe"},
			fix:    "firewall-cmd --permanent --add-port=8472/udp; firewall-cmd --reload",
			repair: func() { h.Shell(known + "filter_INPUT udp dport 8472 accept") }},
	})
	h.Shell("nft delete table inet firewalld")
	t.Run("iptables is left to flanneld's user", func(t *testing.T) {
		open := &node{Host: c.Host("hdss7-34", "10.4.7.34/24").SubnetEnv("172.7.34.1/24")}
		open.daemon = open.Flanneld("--iptables-forward-rules=false")
		open.box = open.Container("c1")
		trouble{on: open, how: "iptables -P FORWARD DROP", step: "forward", text: "is dropped by the policy of FORWARD, and no rule lets it pass", fix: "iptables -I FORWARD -s 172.7.0.0/16 -j ACCEPT; iptables -I FORWARD -d 172.7.0.0/16 -j ACCEPT",
			more: "iptables -F FORWARD; iptables -P FORWARD ACCEPT"}.find(t)
		trouble{on: open, how: "iptables -t raw -A PREROUTING -d 172.7.34.2/32 ! -i docker0 -j DROP",
			step: "forward", text: "docker (28 and later) drops what 172.7.21.0/24 sends to containers", line: 1, fix: "iptables -t raw -D PREROUTING -d 172.7.34.2/32 ! -i docker0 -j DROP"}.find(t)
		trouble{on: open, how: "iptables -N DOCKER; iptables -A DOCKER ! -i docker0 -o docker0 -j DROP; iptables -N DOCKER-USER; iptables -I FORWARD -o docker0 -j DOCKER; iptables -I FORWARD -j DOCKER-USER",
			step: "forward", text: "docker drops what 172.7.21.0/24 sends to containers", fix: "iptables -I DOCKER-USER -s 172.7.0.0/16 -d 172.7.0.0/16 -j ACCEPT",
			more: "iptables -D FORWARD -j DOCKER-USER; iptables -D FORWARD -o docker0 -j DOCKER; iptables -F DOCKER; iptables -X DOCKER; iptables -F DOCKER-USER; iptables -X DOCKER-USER"}.find(t)
		trouble{on: open, how: "iptables -A FORWARD -i flannel.1 -j ACCEPT; iptables -A FORWARD -o flannel.1 -j ACCEPT; sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables -P FORWARD DROP",
			step: "bridge", text: "where the policy of filter FORWARD drops it", fix: "iptables -I FORWARD -i docker0 -o docker0 -j ACCEPT"}.find(t)
	})
}
