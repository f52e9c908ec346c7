package kernel_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// watched is a real kernel with a Watcher at work.
type watched struct {
	machine
	*kernel.Watcher
	marks int
}

func watch(t *testing.T) *watched { return watchIn(t, tongues()[0]) }

func watchIn(t *testing.T, l tongue) *watched {
	m := linuxOf(t, l.family)
	w := &watched{machine: l.in(m)}
	if l.family == inet.IPv6 { // nor are there addresses that it gives by itself
		for _, of := range []string{"default", "ens33", "wire"} {
			writeFile(t, "/proc/sys/net/ipv6/conf/"+of+"/addr_gen_mode", "1")
		}
		m.sh(t, "ip addr flush dev ens33 scope link")
	}
	w.sh(t, formerDevice)
	// The kernel tells of a new interface's carrier, and of IPv6 on it, later.
	for _, dev := range []string{"ens33", "flannel.1"} {
		if l.family == inet.IPv4 {
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+dev+"/disable_ipv6", []byte("1"), 0)
		}
	}
	eventually(t, "ens33's carrier", func() bool { return strings.Contains(output(t, "ip link show ens33"), "state UP") })
	var err error
	if w.Watcher, err = w.Conn.(*kernel.Netlink).Watch(); err != nil {
		t.Fatal(err)
	}
	return w
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

// run starts the Watcher; it ends with the test.
func (w *watched) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("goes on after its context ended")
		}
	})
}

func (w *watched) signalled() bool {
	select {
	case <-w.Changed():
		return true
	default:
		return false
	}
}

// after says what commands led to. That the Watcher has seen all of it is known
// by an interface that comes afterwards and does not matter.
func (w *watched) after(t *testing.T, commands string) (signal, routing bool) {
	t.Helper()
	before := w.Routing()
	w.sh(t, commands)
	w.marks++
	mark := fmt.Sprint("mark-", w.marks)
	w.sh(t, "ip link add "+mark+" type bridge")
	eventually(t, "the announcement of "+mark, func() bool { return w.Knows(mark) })
	return w.signalled(), w.Routing() != before
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

func TestWatcher(t *testing.T) {
	w := watch(t)
	w.Filter([]string{"flannel.1", "flannel.2"}, []string{"ens33"})
	w.run(t)
	const nothing, change, routing, some = "nothing", "change", "change of routing", "one of these changes"
	for _, c := range []struct{ hand, leads string }{
		{`ip route add 172.7.22.0/24 via 10.4.7.22 proto 77`, change},
		{`ip route replace 172.7.22.0/24 via 10.4.7.23 proto 77`, change},
		{`ip route replace 172.7.22.0/24 via 10.4.7.99`, routing},
		{`ip route del 172.7.22.0/24`, routing},
		{`ip route add 172.7.23.0/24 via 10.4.7.99 proto static`, routing},
		{`ip route add 172.7.23.0/24 via 10.4.7.99 table 100`, nothing},
		{`ip route add default via 10.4.7.254`, routing},

		{`ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent`, change},
		{`ip neigh del 172.7.22.0 dev flannel.1`, change},
		{`bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent`, change},
		{`bridge fdb del 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self`, change},
		{`ip neigh add 10.4.7.22 lladdr 0a:39:13:5c:8e:16 dev ens33 nud reachable`, nothing},
		{`ip neigh replace 10.4.7.22 lladdr 0a:39:13:5c:8e:17 dev ens33 nud stale`, nothing},
		{`ip neigh del 10.4.7.22 dev ens33`, nothing},

		{`ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77`, change},
		{`ip route add 172.7.24.0/24 nhid {22} proto 77`, change},
		{`ip nexthop replace id {22} via 10.4.7.99 dev ens33`, change},
		{`ip nexthop del id {22}`, change}, // and the route silently
		{`ip nexthop add id 5 via 10.4.7.22 dev ens33`, nothing},
		{`ip route add 172.7.24.0/24 nhid 5`, routing},
		{`sysctl -q -w net.ipv4.nexthop_compat_mode=0`, nothing},
		{`ip nexthop replace id 5 via 10.4.7.23 dev ens33`, routing}, // and the route silently
		{`ip nexthop del id 5`, routing},                             // and the route silently

		{`ip link add docker0 type bridge`, nothing},
		{`ip link set docker0 up`, nothing},
		{`ip link set docker0 mtu 1400`, nothing},
		{`ip addr add 172.7.21.1/24 dev docker0`, routing},
		{`ip neigh add 172.7.21.2 lladdr 0a:39:13:5c:8e:16 dev docker0 nud permanent`, nothing},
		{`ip link add vxlan7 type vxlan id 7 dstport 4789
			ip link set vxlan7 up
			bridge fdb add 0a:39:13:5c:8e:16 dev vxlan7 dst 10.4.7.22 self permanent`, nothing},
		{`ip link del vxlan7`, nothing},

		// From here on the kernel tells of the NIC and the device also later.
		{`ip addr add 10.4.7.121/24 dev ens33`, routing},
		{`ip addr del 10.4.7.121/24 dev ens33`, routing},
		{`ip addr flush dev flannel.1`, routing},
		{`ip link set flannel.1 mtu 1400`, routing},
		{`ip link set flannel.1 alias x`, routing},
		{`offload off flannel.1`, routing},
		{`offload on flannel.1`, routing},
		{`ip link set flannel.1 down`, routing},
		{`ip link set flannel.1 address 0a:00:00:00:00:99`, routing},
		{`ip link set flannel.1 name other`, routing},
		{`ip link set other alias y`, nothing},
		{`ip link set other name flannel.1`, routing},
		{`ip link del flannel.1`, routing},
		{formerDevice, routing},
		{`ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent`, some},
		{`ip link set ens33 mtu 1400`, routing},
		{`ip link set ens33 down`, routing},
		{`ip link set ens33 up`, routing},
	} {
		signal, routes := w.after(t, ids(c.hand))
		got := map[[2]bool]string{{false, false}: nothing, {true, false}: change, {true, true}: routing}[[2]bool{signal, routes}]
		if got != c.leads && (c.leads != some || got == nothing) {
			t.Errorf("%s\nleads to %q, not to %q", c.hand, got, c.leads)
		}
	}
}

// Without a carrier the kernel drops next hop objects and their routes, and tells of the
// carrier alone, a little later.
func TestWatcherTellsOfTheCarrier(t *testing.T) {
	w := watch(t)
	w.Filter(nil, []string{"ens33"})
	w.run(t)
	for _, hand := range []string{`ip link set wire down`, `ip link set wire up`} {
		w.after(t, ``)
		before := w.Routing()
		w.sh(t, hand)
		eventually(t, "a signal of "+hand, func() bool { return w.signalled() && w.Routing() != before })
	}
}

// TestWatcherKnowsOurWrites: what we wrote is no news, and what becomes of it by
// other hands is.
func TestWatcherKnowsOurWrites(t *testing.T) {
	w := watch(t)
	w.Filter([]string{"flannel.1"}, []string{"ens33"})
	w.run(t)
	if _, err := w.Links(); err != nil {
		t.Fatal(err)
	}
	subnet := netip.MustParsePrefix("172.7.22.0/24")
	route := kernel.Route{Dst: subnet, Via: netip.MustParseAddr("10.4.7.22"), Dev: "ens33"}
	neighbour := kernel.Neighbour{Dev: "flannel.1", Addr: subnet.Addr(), MAC: kernel.MAC{0x0a, 0x39, 0x13, 0x5c, 0x8e, 0x16}}
	hop := kernel.Nexthop{ID: idOf(23), Hop: kernel.Hop{Via: ipOf(23), Dev: "ens33"}}
	by := kernel.Route{Dst: subnetOf(23), Nexthop: hop.ID}
	ops := []kernel.Op{
		{Action: kernel.Add, Object: route}, {Action: kernel.Replace, Object: neighbour},
		{Action: kernel.Delete, Object: kernel.FoundRoute{Route: route, Protocol: kernel.Protocol}},
		{Action: kernel.Add, Object: hop}, {Action: kernel.Add, Object: by}, {Action: kernel.Replace, Object: hop},
		{Action: kernel.Delete, Object: hop}, // and the route with it
	}
	for i, err := range w.Do(ops...) {
		if err != nil {
			t.Fatalf("%v: %v", ops[i], err)
		}
	}
	if signal, _ := w.after(t, ``); signal {
		t.Error("what we wrote ourselves is news")
	}
	if signal, _ := w.after(t, `ip neigh del 172.7.22.0 dev flannel.1`); !signal {
		t.Error("that our neighbour was deleted is no news")
	}
}

// Interfaces that come and go, as those of containers do, leave nothing behind.
func TestWatcherForgetsInterfaces(t *testing.T) {
	w := watch(t)
	w.run(t)
	for range 3 {
		w.sh(t, `ip link add docker0 type bridge`)
		eventually(t, "docker0", func() bool { return w.Knows("docker0") })
		w.sh(t, `ip link del docker0`)
		eventually(t, "the end of docker0", func() bool { return !w.Knows("docker0") })
	}
}

// As long as nobody said what matters, everything does.
func TestWatcherReportsAllAtFirst(t *testing.T) {
	w := watch(t)
	w.run(t)
	for _, hand := range []string{`ip link add docker0 type bridge`, `ip link set docker0 up`, `ip link del docker0`} {
		for w.signalled() {
		}
		w.sh(t, hand)
		eventually(t, "a signal of "+hand, w.signalled)
	}
}

// What happened between Watch and Run is not missed.
func TestWatcherMissesNothingBeforeItRuns(t *testing.T) {
	w := watch(t)
	w.Filter(nil, []string{"ens33"})
	w.sh(t, `ip link set ens33 down`)
	w.run(t)
	eventually(t, "a signal", w.signalled)
}

// More changes than the buffer holds: the Watcher says that something changed,
// though it cannot know what, and goes on.
func TestWatcherSurvivesAFlood(t *testing.T) {
	w := watch(t)
	if err := w.ShrinkBuffer(); err != nil {
		t.Fatal(err)
	}
	w.Filter([]string{"flannel.1"}, []string{"ens33"})
	var flood []string
	for i := range 200 { // in a table that does not matter
		flood = append(flood, fmt.Sprintf("ip route add 192.0.2.%d/32 via 10.4.7.99 table 100", i))
	}
	w.sh(t, strings.Join(flood, "\n"))
	w.run(t)
	eventually(t, "a signal", w.signalled)
	if w.Routing() == 0 {
		t.Error("the routing may have changed, and Routing does not say so")
	}
	for range 3 {
		eventually(t, "no more signals", func() bool { return !w.signalled() })
		w.sh(t, "ip route replace 172.7.22.0/24 via 10.4.7.22 proto 77")
		eventually(t, "a signal after the flood", w.signalled)
		w.sh(t, "ip route del 172.7.22.0/24")
		eventually(t, "a signal after the flood", w.signalled)
	}
}

// TestOthersNeighboursWakeNobody: of the hosts beneath the tunnel the kernel tells nothing, for
// as long as it is by the external interface that they are reached.
func TestOthersNeighboursWakeNobody(t *testing.T) {
	w := watch(t)
	told := func(dev string) int {
		t.Helper()
		if _, err := w.Neighbours(); err != nil {
			t.Fatal(err)
		}
		w.sh(t, fmt.Sprintf(`ip neigh add 10.4.7.99 lladdr 0a:39:13:5c:8e:16 dev %[1]s nud reachable
			ip neigh replace 10.4.7.99 lladdr 0a:39:13:5c:8e:17 dev %[1]s nud stale
			ip neigh del 10.4.7.99 dev %[1]s`, dev))
		n, err := w.Neighbours()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := told("ens33"); n == 0 {
		t.Error("nothing is heard of a neighbour before it is known what matters")
	}
	w.Filter([]string{"flannel.1"}, []string{"ens33"})
	if n := told("ens33"); n != 0 {
		t.Errorf("of a neighbour beneath the tunnel %d messages are heard", n)
	}
	if n := told("flannel.1"); n < 3 {
		t.Errorf("of a neighbour in the tunnel %d messages are heard", n)
	}
	w.Filter([]string{"flannel.1", "ens33"}, nil)
	if n := told("ens33"); n < 3 {
		t.Errorf("of a device that is ours now %d messages are heard", n)
	}
}
