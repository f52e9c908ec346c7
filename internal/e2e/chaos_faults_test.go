package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// fault is something that goes wrong, and is over when do returns.
type fault struct {
	name  string
	where scope
	do    func(c *cluster, n *node, random *rand.Rand)
}

const (
	restarted   = "daemon restarted"
	killed      = "daemon killed"
	configStorm = "config storm"

	manyConfigs    = "many configs"
	keyRotated     = "WireGuard key rotated"
	frozen         = "daemon frozen"
	wipedAndKilled = "etcd wiped and daemon killed"
)

type scope int

const (
	ofDaemon scope = iota
	ofEtcd         // needs the store for itself
	ofHost         // severs a host or undoes its kernel state: pings may be lost while it lasts
)

// faults are all that can be made here.
func faults() []fault {
	all := slices.Concat(daemonFaults, etcdFaults, outsideFaults, hostFaults)
	if lab.StepsClocks {
		all = append(all, clockStepped)
	}
	return all
}

func pauseAround(from, to time.Duration, random *rand.Rand) {
	time.Sleep(from + time.Duration(random.Int64N(int64(to-from))))
}

var daemonFaults = []fault{
	{restarted, ofDaemon, func(_ *cluster, n *node, random *rand.Rand) {
		n.daemon.Stop()
		pauseAround(0, time.Second, random)
		n.daemon.Restart()
		n.daemon.WaitReady()
	}},
	{killed, ofDaemon, func(_ *cluster, n *node, random *rand.Rand) {
		n.daemon.Kill()
		pauseAround(0, time.Second, random)
		n.daemon.Restart()
		n.daemon.WaitReady()
	}},
	{frozen, ofDaemon, func(_ *cluster, n *node, random *rand.Rand) {
		n.daemon.Freeze()
		pauseAround(time.Second, 6*time.Second, random)
		n.daemon.Thaw()
	}},
	{keyRotated, ofDaemon, func(_ *cluster, n *node, random *rand.Rand) {
		if random.IntN(2) == 0 {
			_ = os.Remove(n.KeyFile()) // there is none where nothing has asked for it yet
			return
		}
		_, _ = n.Try(n.daemon.Program(), "wireguard", "rotate", "--wireguard-key-file="+n.KeyFile())
	}},
}

// stopsCarrying tells of faults that cost packets which daemons carry: it does not run meanwhile, or changes keys.
func (f fault) stopsCarrying() bool {
	return slices.Contains([]string{restarted, killed, frozen, wipedAndKilled, keyRotated}, f.name)
}

// clockStepped sets the clock on a daemon's wall; until the daemon's end.
var clockStepped = fault{"clock stepped", ofDaemon, func(_ *cluster, n *node, random *rand.Rand) {
	const most = 3 * 24 * time.Hour
	n.daemon.StepClock(time.Duration(random.Int64N(int64(2*most))) - most)
}}

var etcdFaults = []fault{
	{"etcd member killed", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		m := c.etcd.Members[random.IntN(len(c.etcd.Members))]
		m.Kill()
		pauseAround(time.Second, 3*time.Second, random)
		m.Start()
	}},
	{"etcd member frozen", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		m := c.etcd.Members[random.IntN(len(c.etcd.Members))]
		m.Signal(syscall.SIGSTOP)
		pauseAround(time.Second, 6*time.Second, random)
		m.Signal(syscall.SIGCONT)
	}},
	{"all of etcd stopped", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		c.etcd.Stop()
		pauseAround(time.Second, 4*time.Second, random)
		c.etcd.Start()
	}},
	{"etcd wiped", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		config := c.etcd.Get(configKey).Value
		c.etcd.Wipe()
		pauseAround(0, 2*time.Second, random)
		c.etcd.Set(configKey, config)
	}},
	{wipedAndKilled, ofEtcd, func(c *cluster, n *node, random *rand.Rand) {
		config := c.etcd.Get(configKey).Value
		n.daemon.Kill()
		c.etcd.Wipe()
		n.daemon.Restart()
		pauseAround(0, time.Second, random)
		c.etcd.Set(configKey, config)
		n.daemon.WaitReady()
	}},
	{"history overrun", ofEtcd, func(c *cluster, _ *node, _ *rand.Rand) { overrun(c, 150) }},
	{"hostile keys", ofEtcd, func(c *cluster, n *node, random *rand.Rand) {
		own := strconv.Itoa(n.number())
		keys := map[string]string{
			"0.0.0.0-0":               `{"PublicIP":"10.4.7.12"}`,
			"172.7." + own + ".0-25":  `{"PublicIP":"10.4.7.12","BackendType":"host-gw"}`,
			"172.7.250.0-24":          `{"PublicIP":"` + n.IP.String() + `"}`,
			"172.7.251.0-24":          `{"PublicIP":"$(reboot)"}`,
			"10.4.7.0-24":             `{"PublicIP":"10.4.7.12"}`,
			"garbage \x1b[2J":         "\x00\x01",
			"172.7.252.0-24/deeper/x": "{}",
		}
		if len(n.families()) > 1 {
			maps.Copy(keys, map[string]string{
				"0.0.0.0-0&::-0": leaseOf(n.families(), "host-gw", 12),
				"172.7." + own + ".0-24&fc00:7:0:253::-64": leaseOf(n.families(), "host-gw", 12), // this host's IPv4 subnet
				"172.7.254.0-24&fc00:7:0:" + own + "::-64": leaseOf(n.families(), "host-gw", 12), // and its IPv6 subnet
				"172.7.253.0-24&fc00:7:0:250::-64":         `{"PublicIP":"10.4.7.12","PublicIPv6":"$(reboot)","BackendType":"host-gw"}`,
				"172.7.254.0-24&fd00:4::-64":               leaseOf(n.families(), "host-gw", 12),
			})
		}
		for k, v := range keys {
			c.etcd.Set(leases+k, v)
		}
		pauseAround(0, time.Second, random)
		for k := range keys {
			c.etcd.Delete(leases + k)
		}
	}},
	{"own lease deleted", ofEtcd, func(c *cluster, n *node, _ *rand.Rand) {
		c.etcd.Delete(n.leaseKey())
	}},
	{"config deleted and switched", ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		c.etcd.Delete(configKey)
		pauseAround(0, time.Second, random)
		c.etcd.Set(configKey, c.anyMode(random).of(c.stack))
	}},
	{manyConfigs, ofEtcd, func(c *cluster, _ *node, random *rand.Rand) {
		for range 1 + random.IntN(6) {
			c.etcd.Set(configKey, c.anyMode(random).of(c.stack))
			pauseAround(0, 4*time.Second, random)
		}
	}},
}

// anyMode is one that carries all of a cluster's families.
func (c *cluster) anyMode(random *rand.Rand) mode {
	for {
		m := modes[random.IntN(len(modes))]
		if len(c.families()) == 1 && c.families()[0] == inet.IPv4 || m.six != "" {
			return m
		}
	}
}

// overrun lets etcd forget what was, by 8 times so many changes of other keys.
func overrun(c *cluster, each int) {
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := range each {
				c.etcd.Set(fmt.Sprintf("/other/%d", w), strconv.Itoa(i))
			}
		})
	}
	writers.Wait()
}

var hostFaults = []fault{
	{"host cut off", ofHost, func(_ *cluster, n *node, random *rand.Rand) {
		n.Cut()
		pauseAround(time.Second, 4*time.Second, random)
		n.Heal()
	}},
	{"NIC down and up", ofHost, func(_ *cluster, n *node, random *rand.Rand) {
		n.LinkDown()
		pauseAround(0, time.Second, random)
		n.LinkUp()
	}},
	{"kernel objects deleted", ofHost, func(_ *cluster, n *node, random *rand.Rand) {
		for range 3 {
			f := n.families()[random.IntN(len(n.families()))]
			_, _ = n.Try("sh", "-c", handfuls[f].fill([]string{
				"IP route flush proto 77", "ip link set DEVICE down", "ip link del DEVICE",
				"ip neigh flush nud permanent dev DEVICE", "ip addr flush dev DEVICE", "ip link set DEVICE mtu 900",
				"ip link del flannel0", "ip link del flannel-wg", "ip link set flannel-wg down",
			}[random.IntN(9)]))
			pauseAround(0, 500*time.Millisecond, random)
		}
	}},
}

// nexthopFaults are for daemons that write routes by next hop objects.
var nexthopFaults = []fault{
	{"next hop deleted by hand", ofHost, func(_ *cluster, n *node, random *rand.Rand) {
		for range 3 {
			if all := n.nexthops(); len(all) > 0 {
				_, _ = n.Try("ip", "nexthop", "del", "id", strings.Fields(all[random.IntN(len(all))])[1])
			}
			pauseAround(0, 500*time.Millisecond, random)
		}
	}},
	{"next hop edited by hand", ofHost, func(_ *cluster, n *node, random *rand.Rand) {
		for range 3 {
			if all := n.nexthops(); len(all) > 0 {
				id := strings.Fields(all[random.IntN(len(all))])[1]
				to := []string{"blackhole", "via 10.4.7.199 dev ens33", "via 10.4.7.199 dev ens33 proto 77"}[random.IntN(3)]
				_, _ = n.Try("sh", "-c", "ip nexthop replace id "+id+" "+to)
			}
			pauseAround(0, 500*time.Millisecond, random)
		}
	}},
	{"all next hops deleted by hand", ofHost, func(_ *cluster, n *node, _ *rand.Rand) {
		_, _ = n.Try("ip", "nexthop", "flush", "proto", "77")
	}},
	{"carrier lost", ofHost, func(_ *cluster, n *node, random *rand.Rand) {
		n.Unplug()
		pauseAround(0, time.Second, random)
		n.Plug()
	}},
}
