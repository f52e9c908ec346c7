package e2e

import (
	"testing"

	"flanneld/internal/lab"
)

// TestCheckOfIPv6FindsNothing: nothing is found where nothing is wrong, by whichever
// address of a peer it is asked for.
func TestCheckOfIPv6FindsNothing(t *testing.T) {
	forEach(t, func(t *testing.T, s lab.Stack) {
		for _, mode := range []string{hostGW, vxLAN} {
			t.Run(mode, func(t *testing.T) {
				h := startWith(t, s, of(s, mode), "hdss7-21", "hdss7-22").hosts[0]
				for _, what := range []string{"", "fc00:7:0:22::/64", "fc00:7:0:22::77", "fd00:4::22"} {
					clean(t, h, "check "+what, what)
				}
				out, code := runCommand(t, h.Host, "check", "fc00:7:0:22::/64")
				expect(t, "check", out, code, 0, "the peer answered, to packets of up to 1", "fc00:7::/48, backend ")
				for _, own := range []string{"fc00:7:0:21::1", "fd00:4::21"} {
					out, code = runCommand(t, h.Host, "check", own)
					expect(t, "the host itself", out, code, 2, "that is this host itself")
				}
			})
		}
	})
}

// TestCheckOfIPv6 breaks IPv6 on a host, and does what check prints.
func TestCheckOfIPv6(t *testing.T) {
	forEach(t, func(t *testing.T, s lab.Stack) {
		c := startWith(t, s, of(s, vxLAN), "hdss7-21", "hdss7-22")
		h21, h22 := c.hosts[0], c.hosts[1]
		clean(t, h21, "all to be well at first", "")
		findAll(t, []trouble{
			{name: "no forwarding", on: h21, how: "sysctl -qw net.ipv6.conf.all.forwarding=0",
				step: "forwarding", text: "this host forwards no packets: net.ipv6.conf.all.forwarding is 0",
				fix: "sysctl -w net.ipv6.conf.ens33.accept_ra=2 && sysctl -w net.ipv6.conf.all.forwarding=1"},
			{name: "a rule of ip6tables", on: h21, how: "ip6tables -I FORWARD -s fc00:7::/48 -j DROP",
				step: "forward", text: "what containers send to fc00:7:0:22::/64 is dropped, by: ip6tables -A FORWARD -s fc00:7::/48 -j DROP", fix: "ip6tables -D FORWARD -s fc00:7::/48 -j DROP"},
			{name: "the tunnel's port is closed", on: h21, how: "ip6tables -I INPUT -p udp --dport 8472 -j DROP",
				step: "port", text: "the tunnel's packets from fd00:4::22, UDP port 8472, are dropped where they arrive", fix: "ip6tables -I INPUT -p udp --dport 8472 -s fd00:4::/64 -j ACCEPT"},
			{name: "a table of nftables", on: h21, how: "nft 'table ip6 office { chain c { type filter hook forward priority 0; policy drop; }; }'",
				step: "nftables", text: `the nftables table "ip6 office" drops what it does not know`,
				fix: "nft insert rule ip6 office c ip6 saddr fc00:7::/48 accept; nft insert rule ip6 office c ip6 daddr fc00:7::/48 accept"},
			{name: "docker hides containers", on: h21, how: "ip6tables -t nat -I POSTROUTING -s fc00:7:0:21::/64 ! -o docker0 -j MASQUERADE", line: 1,
				step: "addresses", text: "containers on fd00:4::22 see this host's address in place of the container's, by: ip6tables -t nat -A POSTROUTING -s fc00:7:0:21::/64 ! -o docker0 -j MASQUERADE",
				fix: "ip6tables -t nat -I POSTROUTING -s fc00:7:0:21::/64 -d fc00:7::/48 -j ACCEPT"},
			{name: "large packets get lost", on: h21, do: func() {
				h22.Shell("ip6tables -t raw -A PREROUTING -p udp -m udp --dport 8472 -m length --length 1361:65535 -j DROP")
			}, step: "probe", text: "packets of 1430 bytes get lost on the way to fc00:7:0:22::1, those of 1290 arrive", line: 1, fix: "ip link set ens33 mtu 1360",
				repair: func() { h22.Shell("ip6tables -t raw -F") }},
			{name: "the peer drops", on: h22, from: h21, how: "ip6tables -I FORWARD -o docker0 -j DROP",
				step: "probe", text: "does not pass on what is for its containers, though it forwards: a rule of its firewall seems to drop it", fix: "flanneld check fc00:7:0:21::/64",
				repair: func() {
					trouble{on: h22, step: "forward", text: "what fc00:7:0:21::/64 sends to containers is dropped", fix: "ip6tables -D FORWARD -o docker0 -j DROP"}.find(t)
				}},
			{name: "the peer forwards nothing", on: h22, from: h21, how: "sysctl -qw net.ipv6.conf.all.forwarding=0",
				step: "probe", text: "does not pass on what is for its containers: it answers itself, and seems to forward nothing", fix: "flanneld check fc00:7:0:21::/64",
				repair: func() {
					trouble{on: h22, step: "forwarding", text: "net.ipv6.conf.all.forwarding is 0", fix: "sysctl -w net.ipv6.conf.ens33.accept_ra=2 && sysctl -w net.ipv6.conf.all.forwarding=1"}.find(t)
				}},
			{name: "the tunnel is blocked", on: h22, from: h21, how: "ip6tables -t raw -A PREROUTING -p udp --dport 8472 -j DROP",
				step: "probe", text: "no answer from fc00:7:0:22::1 through the tunnel, though its host fd00:4::22 answers: UDP port 8472 seems to be blocked there or on the way", fix: "ip6tables -I INPUT -p udp --dport 8472 -s fd00:4::/64 -j ACCEPT",
				repair: func() { h22.Shell("ip6tables -t raw -F") }},
		})
	})
}
