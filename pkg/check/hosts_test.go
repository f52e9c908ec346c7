package check

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/inet"
	"flanneld/pkg/probe"
)

// What a host sends out and gets back over a real network.
func TestHost(t *testing.T) {
	eachFamily(t, func(t *testing.T, f inet.Family) { testHost(t, f, probe.Host{}) })
}

// The same by one socket for all.
func TestMany(t *testing.T) {
	eachFamily(t, func(t *testing.T, f inet.Family) {
		many := probe.Open(t.Context())
		t.Cleanup(many.Close)
		testHost(t, f, many)
	})
}

func testHost(t *testing.T, f inet.Family, network probe.Network) {
	layNetwork(t)
	here, peer, far := firewalltest.Addr(f, here), firewalltest.Addr(f, peer), firewalltest.Prefix(f, far)
	nodad := map[inet.Family]string{inet.IPv6: " nodad"}[f]
	rejected := map[inet.Family]string{inet.IPv4: "no route to host", inet.IPv6: "permission denied"}[f]
	const patience = 5 * time.Second // for an answer; where there is none, a moment is enough
	ping := func(size int) func() (probe.Answer, error) {
		return func() (probe.Answer, error) { return network.Ping(here, peer, size, patience) }
	}
	lostPing := func() (probe.Answer, error) { return network.Ping(here, peer, probe.Small, 50*time.Millisecond) }
	behind := func() (probe.Answer, error) { return network.Ping(here, container(far), probe.Small, patience) }
	long := func() (probe.Answer, error) { return network.Ping(here, container(far).Next(), 1400, patience) }
	step := func() (probe.Answer, error) { return network.Step(here, container(far), 0, patience) }
	connect := func() (probe.Answer, error) { return network.Connect(here, peer, patience) }
	knock := func(wait time.Duration) func() (probe.Answer, error) {
		return func() (probe.Answer, error) { return network.ProbeUDP(here, netip.AddrPortFrom(peer, 8472), wait) }
	}
	refused := probe.Answer{Answered: true, Echo: true, From: peer, Text: "connection refused"}
	for _, tt := range []struct {
		name       string
		how, undo  string
		send       func() (probe.Answer, error)
		want       probe.Answer
		wantNoSays bool
	}{
		{name: "an echo", send: ping(probe.Small), want: probe.Answer{Answered: true, Echo: true, From: peer}},
		{name: "a full packet", send: ping(1500), want: probe.Answer{Answered: true, Echo: true, From: peer}},
		{name: "a packet too long", send: ping(1501), want: probe.Answer{Refusal: probe.TooLong, Text: "it is longer than a packet on this path may be"}},
		{name: "our own firewall", how: "iptables -A OUTPUT -p icmp -j DROP", undo: "iptables -F OUTPUT", send: lostPing, want: probe.Answer{Text: as(f, "iptables of this host drops it")}},
		{name: "nothing comes back", how: "ip netns exec far iptables -A INPUT -j DROP", undo: "ip netns exec far iptables -F INPUT", send: lostPing},
		{name: "their firewall", how: "ip netns exec far iptables -A INPUT -j REJECT --reject-with icmp-admin-prohibited", undo: "ip netns exec far iptables -F INPUT", send: ping(probe.Small),
			want: probe.Answer{Answered: true, From: peer, Refusal: probe.Forbidden, Text: "a firewall forbids it"}},
		{name: "no way on", how: "ip route add 172.7.22.0/24 via 10.4.7.22", send: behind, want: probe.Answer{Answered: true, From: peer, Refusal: probe.NoNetwork, Text: "there is no route to that network"}},
		{name: "as far as the first router", how: "ip netns exec far ip link add docker0 up type bridge; ip netns exec far ip address add 172.7.22.1/24 dev docker0" + nodad, send: step,
			want: probe.Answer{Answered: true, From: peer, Refusal: probe.Expired, Text: "it went in a circle"}},
		{name: "a link behind it for shorter packets", how: "ip netns exec far ip link set docker0 mtu 1300", send: long,
			want: probe.Answer{Answered: true, From: peer, Refusal: probe.TooLong, Text: "it is longer than a packet on this path may be"}},
		{name: "no such host behind it", how: "ip netns exec far sysctl -qw net.ipv4.neigh.docker0.retrans_time_ms=50 net.ipv6.neigh.docker0.retrans_time_ms=50", send: behind, want: probe.Answer{Answered: true, From: peer, Refusal: probe.NoHost, Text: "there is no such host"}},
		{name: "the first router with a firewall", how: "ip netns exec far iptables -P INPUT DROP; ip netns exec far iptables -P FORWARD DROP", undo: "ip netns exec far iptables -P INPUT ACCEPT", send: step,
			want: probe.Answer{Answered: true, From: peer, Refusal: probe.Expired, Text: "it went in a circle"}},
		{name: "TCP", send: connect, want: refused},
		{name: "UDP where nobody listens", send: knock(patience), want: refused},
		{name: "UDP to a tunnel", how: "ip netns exec far ip link add flannel.1 up type vxlan id 1 local 10.4.7.22 dev eth0 dstport 8472", send: knock(50 * time.Millisecond)},
		{name: "TCP is rejected", how: "ip netns exec far iptables -A INPUT -j REJECT --reject-with icmp-host-prohibited", undo: "ip netns exec far iptables -F INPUT", send: connect,
			want: probe.Answer{Answered: true, From: peer, Text: rejected}},
		{name: "TCP gets lost", how: "ip netns exec far iptables -A INPUT -j DROP", undo: "ip netns exec far iptables -F INPUT",
			send: func() (probe.Answer, error) { return network.Connect(here, peer, 50*time.Millisecond) }},
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
	if a, err := network.Ping(firewalltest.Addr(f, netip.MustParseAddr("192.0.2.1")), peer, probe.Small, patience); err == nil {
		t.Errorf("an address that is not ours sends: %+v", a)
	}
}

// Packets that rp_filter drops are counted.
func TestDroppedByReversePath(t *testing.T) {
	layNetwork(t)
	if a, err := (probe.Host{}).Ping(here, peer, probe.Small, 5*time.Second); err != nil || !a.Echo { // from now on they know each other's MAC
		t.Fatalf("%+v, %v", a, err)
	}
	before := DroppedByReversePath()
	t.Cleanup(func() { sh(t, "ip route del 203.0.113.9/32") })
	sh(t, `sysctl -qw net.ipv4.conf.ens33.rp_filter=1; ip route add 203.0.113.9/32 dev lo
		ip netns exec far sh -ec 'ip address add 203.0.113.9/32 dev lo; ip route add 10.4.7.21/32 dev eth0 src 203.0.113.9'
		ip netns exec far bash -c 'echo > /dev/udp/10.4.7.21/9'`)
	lab.Eventually(t, 30*time.Second, "the packet to be dropped", func() error {
		if now := DroppedByReversePath(); now != before+1 {
			return fmt.Errorf("%d before, %d now", before, now)
		}
		return nil
	})
}

// Very many packets wait for their answers at a time, by one socket for each family, and each
// gets its own.
func TestManyAtOnce(t *testing.T) {
	layNetwork(t)
	sh(t, `ip route add 172.16.0.0/16 via 10.4.7.22; ip netns exec far ip route add local 172.16.0.0/16 dev lo
		ip -6 route add fc00:ac::/32 via fc00:a:4:7::16; ip netns exec far ip -6 route add local fc00:ac::/32 dev lo
		ip netns exec far iptables -A INPUT -d 172.16.3.0/24 -j DROP`)
	before := descriptors(t)
	many := probe.Open(t.Context())
	t.Cleanup(many.Close)
	var asked sync.WaitGroup
	var answered, silent atomic.Int64
	for i := range 1000 {
		dst, src := netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), here
		if i%4 == 0 {
			src = firewalltest.Addr(inet.IPv6, here)
			dst = netip.MustParseAddr(fmt.Sprintf("fc00:ac::%x", i+1))
		}
		asked.Go(func() {
			wait, again := 5*time.Second, 6 // a busy kernel drops what waits for a neighbour
			if dst.Is4() && dst.As4()[2] == 3 {
				wait, again = 3*time.Second, 1
			}
			for range again {
				switch a, err := many.Ping(src, dst, probe.Small, wait); {
				case err != nil:
					t.Errorf("%v: %v", dst, err)
				case a.Echo && a.From == dst:
					answered.Add(1)
				case a.Answered:
					t.Errorf("%v: %+v", dst, a)
				default:
					continue
				}
				return
			}
			silent.Add(1)
		})
	}
	time.Sleep(time.Second)
	if now := descriptors(t); now > before+10 {
		t.Errorf("%d descriptors, and %d before", now, before)
	}
	asked.Wait()
	if answered.Load() != 826 || silent.Load() != 174 || many.Sent() < 1000 { // 232 in the silent network, of which a quarter has IPv6
		t.Errorf("%d answers, %d silent, %d sent", answered.Load(), silent.Load(), many.Sent())
	}
	sent, ended := many.Sent(), make(chan error)
	go func() { // while it waits
		_, err := many.Ping(here, netip.MustParseAddr("172.16.3.1"), probe.Small, time.Hour)
		ended <- err
	}()
	for many.Sent() == sent {
		time.Sleep(time.Millisecond)
	}
	many.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// descriptors counts those of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
