package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// mode is a value of the config key, and what shows that a host has it.
type mode struct {
	name    string
	backend string // the config key's object
	near    string // the device that leads to a host on the same link
	far     string // to one behind a router; "" where there is no way
	six     string // near of IPv6; "" where it carries none
}

var (
	byHostGW    = mode{"host-gw", `{"Type":"host-gw"}`, "ens33", "", "ens33"}
	byVXLAN     = mode{"vxlan", `{"Type":"vxlan"}`, "flannel.1", "flannel.1", "flannel-v6.1"}
	byDirect    = mode{"vxlan, direct", `{"Type":"vxlan","DirectRouting":true}`, "ens33", "flannel.1", "ens33"}
	byUDP       = mode{"udp", `{"Type":"udp"}`, "flannel0", "flannel0", ""}
	byWireGuard = mode{"wireguard", `{"Type":"wireguard"}`, "flannel-wg", "flannel-wg", "flannel-wg-v6"}
	byOneDevice = mode{"wireguard, auto", `{"Type":"wireguard","Mode":"auto"}`, "flannel-wg", "flannel-wg", "flannel-wg"}

	modes     = []mode{byHostGW, byVXLAN, byDirect, byUDP, byWireGuard}
	dualModes = []mode{byHostGW, byVXLAN, byDirect, byWireGuard, byOneDevice}
)

// carried tells whether packets are carried by the daemon: here, as the kernel has no WireGuard.
// Where it has, a daemon that ends takes nothing along in that mode either.
func (m mode) carried() bool {
	return m.name == byUDP.name || strings.HasPrefix(m.name, byWireGuard.name)
}

// mode is the one that the config key names.
func (c *cluster) mode() mode {
	c.t.Helper()
	var config struct {
		Backend struct {
			Type          string
			DirectRouting bool
		}
	}
	if err := json.Unmarshal([]byte(c.etcd.Get(configKey).Value), &config); err != nil {
		c.t.Fatal(err)
	}
	if config.Backend.DirectRouting {
		return byDirect
	}
	for _, m := range modes {
		if strings.EqualFold(config.Backend.Type, m.name) {
			return m
		}
	}
	c.t.Fatalf("the config key names %q", config.Backend.Type)
	return mode{}
}

// walkOf is a round trip through modes in which each ordered pair comes once: at each mode the
// way goes on by one that is left, and what is left out is put in where it begins (Hierholzer).
func walkOf(modes []mode, random *rand.Rand) []mode {
	left := make([][]int, len(modes))
	for i := range modes {
		for _, j := range random.Perm(len(modes)) {
			if j != i {
				left[i] = append(left[i], j)
			}
		}
	}
	var walk []mode
	for stack := []int{0}; len(stack) > 0; {
		at := stack[len(stack)-1]
		if n := len(left[at]); n > 0 {
			stack = append(stack, left[at][n-1])
			left[at] = left[at][:n-1]
			continue
		}
		stack = stack[:len(stack)-1]
		walk = append(walk, modes[at])
	}
	slices.Reverse(walk)
	return walk
}

// drawn is a part of a walk: all of it where SWITCHES=all, and otherwise so many steps, by a seed
// that the log names.
func drawn(t *testing.T, modes []mode, steps int) []mode {
	t.Helper()
	seed := uint64(fromEnv(t, "SWITCHES_SEED", int(time.Now().Unix())))
	walk := walkOf(modes, rand.New(rand.NewPCG(seed, 0)))
	if os.Getenv("SWITCHES") != "all" {
		walk = walk[:steps+1]
	}
	t.Logf("SWITCHES_SEED=%d", seed)
	return walk
}

// of is the mode as a config key of a cluster's families.
func (m mode) of(s lab.Stack) string { return families(s).Config(m.backend) }

// leads is the device by which a host sends to another's container.
func (n *node) leads(to *node, f inet.Family) string {
	out, err := n.Try("ip", "-o", "route", "get", to.box.In(f).Address().String())
	if err != nil {
		return "none: " + err.Error()
	}
	_, after, _ := strings.Cut(out, " dev ")
	return strings.Fields(after + " none")[0]
}

// far tells by their names whether a router is between two hosts.
func far(a, b *node) bool {
	x, _, _ := strings.Cut(a.Name, "-")
	y, _, _ := strings.Cut(b.Name, "-")
	return x != y
}

// by says which of a cluster's ways are not as a mode has them; nil: none.
func (c *cluster) by(m mode) (err error) {
	c.pairs(func(a, b *node) {
		for _, f := range a.families() {
			want := m.near
			switch {
			case f == inet.IPv6:
				want = m.six
			case far(a, b):
				want = m.far
			}
			if got := a.leads(b, f); want != "" && got != want && err == nil {
				err = fmt.Errorf("%s sends to %s by %s and not by %s", a, b, got, want)
			}
		}
	})
	return err
}

const switchedLine = "Switched to the new config"

// switchTo changes the config key, and returns once all have followed and have settled a little.
func (c *cluster) switchTo(m mode) {
	c.t.Helper()
	before := map[*node]int{}
	for _, n := range c.hosts {
		before[n] = strings.Count(n.daemon.Log(), switchedLine)
	}
	c.etcd.Set(configKey, m.of(c.stack))
	lab.Eventually(c.t, 2*soon, "all to follow to "+m.name, func() error {
		for _, n := range c.hosts {
			if strings.Count(n.daemon.Log(), switchedLine) == before[n] {
				return fmt.Errorf("%s has not switched", n)
			}
		}
		return c.by(m)
	})
	time.Sleep(500 * time.Millisecond)
}

// pause is how long pings of what is between two hosts wait for each other. The daemon, here with the race
// detector, takes longer than the kernel for what it carries itself: at a ping per millisecond the queues of a busy
// machine run over by themselves.
func pause(between ...mode) time.Duration {
	if slices.ContainsFunc(between, mode.carried) {
		return 10 * time.Millisecond
	}
	return time.Millisecond
}

// underDensePings runs what under a ping every so often between the first container and each of the others
// by all families together, from either side in turn, as the answers come back anyway. It names who has lost any.
func (c *cluster) underDensePings(all []*node, every time.Duration, what func()) (sum lab.Stats, who []string) {
	c.t.Helper()
	pingers := map[string]*lab.Pinger{}
	for i, b := range all[1:] {
		a := all[0]
		if i%2 == 1 {
			a, b = b, a
		}
		for _, f := range a.families() {
			pingers[a.Name+" to "+b.Name+" by "+f.String()] = a.box.PingEvery(time.Duration(len(a.families()))*every, b.box.In(f))
		}
	}
	time.Sleep(100 * time.Millisecond)
	what()
	stats := stopped(pingers)
	return total(stats), losers(stats)
}

// onThree is a cluster of three hosts, the last one behind a router.
func onThree(t *testing.T, first mode) *cluster {
	c := behindRouter(t, first.of(nil))
	for _, name := range []string{"hdss7-21", "hdss7-22"} {
		c.join(name)
	}
	n := c.newNode("hdss8-23", 8, 23)
	n.daemon = n.Flanneld()
	c.hosts = append(c.hosts, n)
	for _, n := range c.hosts {
		n.daemon.WaitReady()
		n.box = n.Container("c1")
	}
	return c
}

// reachable are the hosts that reach each other in both of two modes.
func (c *cluster) reachable(a, b mode) (all []*node) {
	for _, n := range c.hosts {
		if far(n, c.hosts[0]) && (a.far == "" || b.far == "") {
			continue
		}
		all = append(all, n)
	}
	return all
}

// While the config key goes from any mode to any other, no packet is lost between hosts that both of them join.
func TestSwitchModes(t *testing.T) {
	walk := drawn(t, modes, 5)
	c := onThree(t, walk[0])
	lab.Eventually(t, soon, "the first mode", func() error { return c.by(walk[0]) })
	c.walk(walk)
}

func (c *cluster) walk(walk []mode) {
	c.t.Helper()
	var report strings.Builder
	for i, to := range walk[1:] {
		from := walk[i]
		all := c.reachable(from, to)
		for _, n := range all[1:] {
			for _, f := range n.families() {
				all[0].box.Reach(n.box.In(f), soon)
			}
		}
		began := time.Now()
		sum, who := c.underDensePings(all, pause(from, to), func() { c.switchTo(to) })
		fmt.Fprintf(&report, "%-15s to %-15s %6.1f s  %v\n", from.name, to.name, time.Since(began).Seconds(), sum)
		for _, w := range who {
			c.t.Errorf("%s to %s: %s", from.name, to.name, w)
		}
	}
	c.t.Log("\n" + report.String())
}

// The same in dual stack, where WireGuard has a device of each family or one for both.
func TestSwitchModesOfBoth(t *testing.T) {
	both := lab.Stacks[2]
	walk := drawn(t, dualModes, 2)
	c := startWith(t, both, walk[0].of(both), "hdss7-21", "hdss7-22", "hdss7-23")
	c.walk(walk)
}

// A host has one key for both of WireGuard's devices, so the devices of two hosts could mix each other up
// while they change from one for both families to one for each, or back.
func TestSwitchDevicesOfBoth(t *testing.T) {
	both := lab.Stacks[2]
	walk := []mode{byOneDevice, byWireGuard, byOneDevice, byWireGuard}
	c := startWith(t, both, walk[0].of(both), "hdss7-21", "hdss7-22")
	c.walk(walk)
}

// One host hears nothing of a change for long, as etcd is out of its reach, and the daemon of another has
// ended: the one that changes reaches both as before, and loses nothing when the first follows, nor when the other one
// starts as the last.
func TestSwitchOfOne(t *testing.T) {
	c := onThree(t, byVXLAN)
	lab.Eventually(t, soon, "the first mode", func() error { return c.by(byVXLAN) })
	first, late, stopped := c.hosts[0], c.hosts[1], c.hosts[2]
	var report strings.Builder
	under := func(moment string, mayLose bool, what func()) {
		t.Helper()
		sum, who := c.underDensePings(c.hosts, pause(byVXLAN, byWireGuard), what)
		fmt.Fprintf(&report, "%-50s %v\n", moment, sum)
		for _, w := range who {
			if !mayLose {
				t.Errorf("%s: %s", moment, w)
			}
		}
	}
	etcd := strings.Split(strings.TrimPrefix(c.etcd.Endpoints()[0], "http://"), ":")[0]
	const rule = " OUTPUT -p tcp -d %s -j REJECT --reject-with tcp-reset"
	late.Shell(fmt.Sprintf("iptables -I"+rule, etcd))
	stopped.daemon.Stop()
	under("one changes alone, for long", false, func() {
		c.etcd.Set(configKey, byWireGuard.of(nil))
		first.daemon.WaitLog(switchedLine)
		time.Sleep(18 * time.Second) // longer than a setup that nobody needs stays; shorter than what makes etcd doubted
	})
	for _, to := range []*node{late, stopped} {
		if got := first.leads(to, inet.IPv4); got != byVXLAN.near {
			t.Errorf("%s sends to %s by %s", first, to, got)
		}
	}
	under("the late one follows", false, func() {
		late.Shell(fmt.Sprintf("iptables -D"+rule, etcd))
		late.daemon.WaitLog(switchedLine)
		lab.Eventually(t, soon, "the way to the late one", func() error {
			if got := first.leads(late, inet.IPv4); got != byWireGuard.near {
				return fmt.Errorf("%s sends to it by %s", first, got)
			}
			return nil
		})
		time.Sleep(time.Second)
	})
	under("a daemon starts into the new mode", true, func() {
		stopped.daemon.Restart()
		stopped.daemon.WaitReady()
		c.connected(soon)
		time.Sleep(time.Second)
	})
	c.haveRightPeers()
	t.Log("\n" + report.String())
}

// The config key changes faster than hosts follow, and slower but in the midst of each change.
func TestSwitchStorm(t *testing.T) {
	seed := uint64(fromEnv(t, "SWITCHES_SEED", int(time.Now().Unix())))
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("SWITCHES_SEED=%d", seed)
	c := onThree(t, byVXLAN)
	lab.Eventually(t, soon, "the first mode", func() error { return c.by(byVXLAN) })
	for _, storm := range []struct {
		what    string
		configs int
		pause   func() time.Duration
	}{
		{"30 configs in 3 s", 30, func() time.Duration { return 100 * time.Millisecond }},
		{"a config every 0.5 to 4 s", 5, func() time.Duration { return time.Duration(500+random.IntN(3500)) * time.Millisecond }},
	} {
		sum, who := c.underDensePings(c.hosts, pause(modes...), func() {
			for range storm.configs {
				c.etcd.Set(configKey, modes[1+random.IntN(len(modes)-1)].of(nil)) // one behind a router has no host-gw
				time.Sleep(storm.pause())
			}
			last := modes[1+random.IntN(len(modes)-1)]
			c.etcd.Set(configKey, last.of(nil))
			time.Sleep(2 * time.Second) // until which nobody follows it
			lab.Eventually(t, 2*soon, "all to follow to "+last.name, func() error { return c.by(last) })
			time.Sleep(time.Second)
		})
		t.Logf("%s: %v", storm.what, sum)
		for _, w := range who {
			t.Errorf("%s: %s", storm.what, w)
		}
	}
	// A daemon that starts anew in the midst of a change has all back by itself.
	for _, i := range random.Perm(len(modes) - 1)[:1] {
		to := modes[1+i]
		sum, _ := c.underDensePings(c.hosts, pause(modes...), func() {
			c.etcd.Set(configKey, to.of(nil))
			time.Sleep(time.Duration(random.IntN(6000)) * time.Millisecond)
			c.hosts[1].daemon.Restart()
			c.hosts[1].daemon.WaitReady()
			lab.Eventually(t, 2*soon, "all to follow to "+to.name, func() error { return c.by(to) })
			c.connected(soon)
		})
		t.Logf("a restart while all change to %s: %v", to.name, sum)
	}
}
