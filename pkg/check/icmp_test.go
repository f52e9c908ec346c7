package check

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"flanneld/internal/lab"
)

// What a host sends out and gets back over a real network.
func TestHost(t *testing.T) {
	layNetwork(t)
	const patience = 5 * time.Second // for an answer; where there is none, a moment is enough
	ping := func(size int) func() (Answer, error) {
		return func() (Answer, error) { return Host{}.Ping(here, peer, size, patience) }
	}
	lostPing := func() (Answer, error) { return Host{}.Ping(here, peer, small, 50*time.Millisecond) }
	behind := func() (Answer, error) { return Host{}.Ping(here, container(far), small, patience) }
	step := func() (Answer, error) { return Host{}.Step(here, container(far), 0, patience) }
	connect := func() (Answer, error) { return Host{}.Connect(here, peer, patience) }
	knock := func(wait time.Duration) func() (Answer, error) {
		return func() (Answer, error) { return Host{}.ProbeUDP(here, netip.AddrPortFrom(peer, 8472), wait) }
	}
	refused := Answer{Answered: true, Echo: true, From: peer, Text: "connection refused"}
	for _, tt := range []struct {
		name       string
		how, undo  string
		send       func() (Answer, error)
		want       Answer
		wantNoSays bool
	}{
		{name: "an echo", send: ping(small), want: Answer{Answered: true, Echo: true, From: peer}},
		{name: "a full packet", send: ping(1500), want: Answer{Answered: true, Echo: true, From: peer}},
		{name: "a packet too long", send: ping(1501), want: Answer{Text: "it is longer than a packet on this path may be"}},
		{name: "our own firewall", how: "iptables -A OUTPUT -p icmp -j DROP", undo: "iptables -F OUTPUT", send: lostPing, want: Answer{Text: "iptables of this host drops it"}},
		{name: "nothing comes back", how: "ip netns exec far iptables -A INPUT -j DROP", undo: "ip netns exec far iptables -F INPUT", send: lostPing},
		{name: "their firewall", how: "ip netns exec far iptables -A INPUT -j REJECT --reject-with icmp-admin-prohibited", undo: "ip netns exec far iptables -F INPUT", send: ping(small),
			want: Answer{Answered: true, From: peer, Refusal: Forbidden, Text: "a firewall forbids it"}},
		{name: "no way on", how: "ip route add 172.7.22.0/24 via 10.4.7.22", send: behind, want: Answer{Answered: true, From: peer, Refusal: NoNetwork, Text: "there is no route to that network"}},
		{name: "as far as the first router", how: "ip netns exec far ip link add docker0 up type bridge; ip netns exec far ip address add 172.7.22.1/24 dev docker0", send: step,
			want: Answer{Answered: true, From: peer, Refusal: Expired, Text: "it went in a circle"}},
		{name: "the first router with a firewall", how: "ip netns exec far iptables -P INPUT DROP; ip netns exec far iptables -P FORWARD DROP", undo: "ip netns exec far iptables -P INPUT ACCEPT", send: step,
			want: Answer{Answered: true, From: peer, Refusal: Expired, Text: "it went in a circle"}},
		{name: "TCP", send: connect, want: refused},
		{name: "UDP where nobody listens", send: knock(patience), want: refused},
		{name: "UDP to a tunnel", how: "ip netns exec far ip link add flannel.1 up type vxlan id 1 dev eth0 dstport 8472", send: knock(50 * time.Millisecond)},
		{name: "TCP is rejected", how: "ip netns exec far iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited", undo: "ip netns exec far iptables -F INPUT", send: connect,
			want: Answer{Answered: true, From: peer, Text: "no route to host"}},
		{name: "TCP gets lost", how: "ip netns exec far iptables -A INPUT -j DROP", undo: "ip netns exec far iptables -F INPUT",
			send: func() (Answer, error) { return Host{}.Connect(here, peer, 50*time.Millisecond) }},
	} {
		if tt.how != "" {
			sh(t, tt.how)
		}
		if got, err := tt.send(); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
		if tt.undo != "" {
			sh(t, tt.undo)
		}
	}
	if _, err := (Host{}).Ping(netip.MustParseAddr("192.0.2.1"), peer, small, patience); err == nil {
		t.Error("an address that is not ours sends")
	}
}

// Packets that rp_filter drops are counted.
func TestDroppedByReversePath(t *testing.T) {
	layNetwork(t)
	if a, err := (Host{}).Ping(here, peer, small, 5*time.Second); err != nil || !a.Echo { // from now on they know each other's MAC
		t.Fatalf("%+v, %v", a, err)
	}
	before := DroppedByReversePath()
	t.Cleanup(func() { sh(t, "ip route del 203.0.113.9/32") })
	sh(t, `sysctl -qw net.ipv4.conf.ens33.rp_filter=1; ip route add 203.0.113.9/32 dev lo
		ip netns exec far sh -ec 'ip address add 203.0.113.9/32 dev lo; ip route add 10.4.7.21/32 dev eth0 src 203.0.113.9'
		ip netns exec far bash -c 'echo > /dev/udp/10.4.7.21/9'`)
	lab.Eventually(t, 10*time.Second, "the packet to be dropped", func() error {
		if now := DroppedByReversePath(); now != before+1 {
			return fmt.Errorf("%d before, %d now", before, now)
		}
		return nil
	})
}

func TestMeaning(t *testing.T) {
	for code, want := range map[int]string{
		0: "there is no route to that network", 1: "there is no such host", 3: "there is no such port", 4: "it is longer than a packet on this path may be",
		13: "a firewall forbids it", 5: "it cannot be delivered (code 5)",
	} {
		echo := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 7, Seq: 9}}
		sent, err := echo.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		ip := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 172, 7, 22, 1}
		m := icmp.Message{Type: ipv4.ICMPTypeDestinationUnreachable, Code: code, Body: &icmp.DstUnreach{Data: append(ip, sent...)}}
		packet, err := m.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, ours := answer(packet, gateway(far), 7, 9); !ours || got.Text != want {
			t.Errorf("%d: %+v", code, got)
		}
	}
}
