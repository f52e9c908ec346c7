package monitor

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/probe"
)

func sh(t *testing.T, script string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

var addr = netip.MustParseAddr

// TestGather sends over a real network, to a host that forwards to a docker0 with a shorter MTU.
func TestGather(t *testing.T) {
	sh(t, `sysctl -qw net.ipv6.conf.default.accept_dad=0; ip link set lo up; ip netns add far; ip netns exec far sysctl -qw net.ipv6.conf.default.accept_dad=0
		ip link add ens33 up type veth peer name eth0 netns far
		ip address add 10.4.7.21/24 dev ens33; ip address add fc00:a:4:7::15/64 dev ens33 nodad
		ip netns exec far sh -ec 'ip link set lo up; ip link set eth0 up; ip address add 10.4.7.22/24 dev eth0; ip address add fc00:a:4:7::16/64 dev eth0 nodad
			sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
			ip link add docker0 up mtu 1300 type bridge; ip address add 172.7.22.1/24 dev docker0; ip address add fc00:ac:7:16::1/64 dev docker0 nodad'
		ip route add 172.7.22.0/24 via 10.4.7.22; ip route add fc00:ac:7:16::/64 via fc00:a:4:7::16`)
	t.Cleanup(func() { sh(t, "ip netns del far; ip link del ens33 2>/dev/null || true") })
	sources := []netip.Addr{addr("172.7.21.1"), addr("10.4.7.21"), addr("fc00:7:0:21::1"), addr("fc00:a:4:7::15")} // the first of each are not here
	timed := false
	const wait = 2 * time.Second
	for _, peer := range []string{"172.7.22.", "fc00:ac:7:16::"} {
		far := map[inet.Family]netip.Addr{inet.IPv4: addr("10.4.7.22"), inet.IPv6: addr("fc00:a:4:7::16")}[inet.Of(addr(peer+"1"))]
		queries := []probe.Query{
			{Dst: addr(peer + "2"), Size: 1500, TTL: 1},
			{Dst: addr(peer + "1"), Size: 1500},
			{Dst: addr(peer + "3"), Size: 1400},
			{Dst: addr(peer + "1"), Size: 1501},
			{Dst: addr("10.9.9.9"), Size: probe.Small}, // no route
			{Dst: far, Size: probe.Small},
		}
		heard, err := probe.Gather(t.Context(), sources, queries, wait, true)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			answered, echo bool
			from           netip.Addr
			refusal        probe.Refusal
		}{
			{true, false, far, probe.Expired}, {true, true, addr(peer + "1"), ""}, {true, false, far, probe.TooLong}, {false, false, netip.Addr{}, probe.TooLong},
			{}, {true, true, far, ""},
		} {
			got := heard[i]
			if got.Answered != want.answered || got.Echo != want.echo || got.From != want.from || got.Refusal != want.refusal || got.Held {
				t.Errorf("%+v: %+v", queries[i], got)
			}
			if got.RTT > 0 && !want.answered || got.RTT >= wait {
				t.Errorf("%+v: a round trip of %v", queries[i], got.RTT)
			}
			timed = timed || got.RTT > 0
		}
	}
	if !timed {
		t.Error("no round trip is known")
	}
	sh(t, "iptables -A OUTPUT -p icmp -j DROP")
	held, err := probe.Gather(t.Context(), sources, []probe.Query{{Dst: addr("10.4.7.22"), Size: probe.Small}}, 0, false)
	sh(t, "iptables -F OUTPUT")
	if err != nil || !held[0].Held || !strings.Contains(held[0].Text, "iptables of this host drops it") {
		t.Errorf("%+v, %v", held, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := probe.Gather(ended, sources, []probe.Query{{Dst: addr("10.4.7.22"), Size: probe.Small}}, time.Hour, true); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := probe.Gather(t.Context(), sources[:1], []probe.Query{{Dst: addr("10.4.7.22"), Size: probe.Small}}, 0, false); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Error(err)
	}
}
