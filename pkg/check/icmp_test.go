package check

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"flanneld/internal/lab"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/inet"
)

// What a host sends out and gets back over a real network.
func TestHost(t *testing.T) { eachFamily(t, testHost) }

func testHost(t *testing.T, f inet.Family) {
	layNetwork(t)
	here, peer, far := firewalltest.Addr(f, here), firewalltest.Addr(f, peer), firewalltest.Prefix(f, far)
	nodad := map[inet.Family]string{inet.IPv6: " nodad"}[f]
	rejected := map[inet.Family]string{inet.IPv4: "no route to host", inet.IPv6: "permission denied"}[f]
	const patience = 5 * time.Second // for an answer; where there is none, a moment is enough
	ping := func(size int) func() (Answer, error) {
		return func() (Answer, error) { return Host{}.Ping(here, peer, size, patience) }
	}
	lostPing := func() (Answer, error) { return Host{}.Ping(here, peer, small, 50*time.Millisecond) }
	behind := func() (Answer, error) { return Host{}.Ping(here, container(far), small, patience) }
	long := func() (Answer, error) { return Host{}.Ping(here, container(far).Next(), 1400, patience) }
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
		{name: "our own firewall", how: "iptables -A OUTPUT -p icmp -j DROP", undo: "iptables -F OUTPUT", send: lostPing, want: Answer{Text: as(f, "iptables of this host drops it")}},
		{name: "nothing comes back", how: "ip netns exec far iptables -A INPUT -j DROP", undo: "ip netns exec far iptables -F INPUT", send: lostPing},
		{name: "their firewall", how: "ip netns exec far iptables -A INPUT -j REJECT --reject-with icmp-admin-prohibited", undo: "ip netns exec far iptables -F INPUT", send: ping(small),
			want: Answer{Answered: true, From: peer, Refusal: Forbidden, Text: "a firewall forbids it"}},
		{name: "no way on", how: "ip route add 172.7.22.0/24 via 10.4.7.22", send: behind, want: Answer{Answered: true, From: peer, Refusal: NoNetwork, Text: "there is no route to that network"}},
		{name: "as far as the first router", how: "ip netns exec far ip link add docker0 up type bridge; ip netns exec far ip address add 172.7.22.1/24 dev docker0" + nodad, send: step,
			want: Answer{Answered: true, From: peer, Refusal: Expired, Text: "it went in a circle"}},
		{name: "a link behind it for shorter packets", how: "ip netns exec far ip link set docker0 mtu 1300", send: long,
			want: Answer{Answered: true, From: peer, Refusal: TooLong, Text: "it is longer than a packet on this path may be"}},
		{name: "no such host behind it", how: "ip netns exec far sysctl -qw net.ipv4.neigh.docker0.retrans_time_ms=50 net.ipv6.neigh.docker0.retrans_time_ms=50", send: behind, want: Answer{Answered: true, From: peer, Refusal: NoHost, Text: "there is no such host"}},
		{name: "the first router with a firewall", how: "ip netns exec far iptables -P INPUT DROP; ip netns exec far iptables -P FORWARD DROP", undo: "ip netns exec far iptables -P INPUT ACCEPT", send: step,
			want: Answer{Answered: true, From: peer, Refusal: Expired, Text: "it went in a circle"}},
		{name: "TCP", send: connect, want: refused},
		{name: "UDP where nobody listens", send: knock(patience), want: refused},
		{name: "UDP to a tunnel", how: "ip netns exec far ip link add flannel.1 up type vxlan id 1 local 10.4.7.22 dev eth0 dstport 8472", send: knock(50 * time.Millisecond)},
		{name: "TCP is rejected", how: "ip netns exec far iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited", undo: "ip netns exec far iptables -F INPUT", send: connect,
			want: Answer{Answered: true, From: peer, Text: rejected}},
		{name: "TCP gets lost", how: "ip netns exec far iptables -A INPUT -j DROP", undo: "ip netns exec far iptables -F INPUT",
			send: func() (Answer, error) { return Host{}.Connect(here, peer, 50*time.Millisecond) }},
	} {
		if tt.how != "" {
			sh(t, as(f, tt.how))
		}
		if got, err := tt.send(); err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
		if tt.undo != "" {
			sh(t, as(f, tt.undo))
		}
	}
	if _, err := (Host{}).Ping(firewalltest.Addr(f, netip.MustParseAddr("192.0.2.1")), peer, small, patience); err == nil {
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
	for f, meant := range map[inet.Family]map[icmp.Type]map[int]string{
		inet.IPv4: {ipv4.ICMPTypeDestinationUnreachable: {
			0: "there is no route to that network", 1: "there is no such host", 3: "there is no such port", 4: "it is longer than a packet on this path may be",
			13: "a firewall forbids it", 5: "it cannot be delivered (code 5)",
		}, ipv4.ICMPTypeTimeExceeded: {0: "it went in a circle"}},
		inet.IPv6: {ipv6.ICMPTypeDestinationUnreachable: {
			0: "there is no route to that network", 1: "a firewall forbids it", 3: "there is no such host", 4: "there is no such port",
			5: "a firewall forbids it", 6: "there is no route to that network", 9: "it cannot be delivered (code 9)",
		}, ipv6.ICMPTypeTimeExceeded: {0: "it went in a circle"}, ipv6.ICMPTypePacketTooBig: {0: "it is longer than a packet on this path may be"}},
	} {
		dst := gateway(firewalltest.Prefix(f, far))
		for kind, codes := range meant {
			for code, want := range codes {
				if got, ours := answer(refusing(t, f, kind, code), dst, 7, 9); !ours || got.Text != want {
					t.Errorf("%v %v %d: %+v", f, kind, code, got)
				}
				if got, ours := answer(refusing(t, f, kind, code), dst.Next(), 7, 9); ours {
					t.Errorf("%v %v %d is about another target: %+v", f, kind, code, got)
				}
			}
		}
	}
}

// refusing is an ICMP message about our echo 9 of 7, to a peer's docker0.
func refusing(t testing.TB, f inet.Family, kind icmp.Type, code int) []byte {
	t.Helper()
	marshal := func(m icmp.Message) []byte {
		packet, err := m.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return packet
	}
	original := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 172, 7, 22, 1}
	if f == inet.IPv6 {
		original = append([]byte{0x60, 0, 0, 0, 0, 8, 58, 64}, make([]byte, 16)...)
		original = append(original, gateway(firewalltest.Prefix(f, far)).AsSlice()...)
	}
	original = append(original, marshal(icmp.Message{Type: wires[f].echo, Body: &icmp.Echo{ID: 7, Seq: 9}})...)
	var body icmp.MessageBody = &icmp.DstUnreach{Data: original}
	switch kind {
	case ipv4.ICMPTypeTimeExceeded, ipv6.ICMPTypeTimeExceeded:
		body = &icmp.TimeExceeded{Data: original}
	case ipv6.ICMPTypePacketTooBig:
		body = &icmp.PacketTooBig{MTU: 1280, Data: original}
	}
	return marshal(icmp.Message{Type: kind, Code: code, Body: body})
}
