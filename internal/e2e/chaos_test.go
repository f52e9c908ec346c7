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
	"testing"
	"time"

	"flanneld/internal/lab"
)

// TestChaos throws faults at eight hosts, up to three at a time, and checks
// after each round that everybody has what was theirs. `make chaos` runs it for
// longer, with other seeds. CHAOS_NEXTHOPS=1 has all routes written by next hop objects.
// CHAOS_MODE=wireguard begins with that.
func TestChaos(t *testing.T) { chaos(t, lab.Stacks[0]) }

func chaos(t *testing.T, s lab.Stack) {
	seconds, seed := fromEnv(t, "CHAOS_SECONDS", 30), fromEnv(t, "CHAOS_SEED", 1)
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	var options []func(*lab.FlanneldOptions)
	nexthops := fromEnv(t, "CHAOS_NEXTHOPS", 0) != 0
	if nexthops {
		binary := lab.BinaryFrom(t, 0)
		options = append(options, func(o *lab.FlanneldOptions) { o.Binary = binary })
	}
	first := vxLAN
	if os.Getenv("CHAOS_MODE") == byWireGuard.name {
		first = byWireGuard.of(nil)
	}
	c := startOnThree(t, s, first, 8, options...)
	lost := tally{}
	var carried time.Time // when a mode was at work last whose packets daemons carry
	t.Logf("seed %d, %d s", seed, seconds)
	for end, round := time.Now().Add(time.Duration(seconds)*time.Second), 1; time.Now().Before(end) && !t.Failed(); round++ {
		chosen := choose(random, nexthops)
		hosts := random.Perm(len(c.hosts))
		var names []string
		lossy, stops := false, false
		for i, f := range chosen {
			names = append(names, f.name+" on "+c.hosts[hosts[i]].Name)
			lossy = lossy || f.where == ofHost
			stops = stops || f.stopsCarrying()
		}
		what, before := strings.Join(names, " + "), c.mode()
		seeds := []uint64{random.Uint64(), random.Uint64(), random.Uint64()}
		stats := c.underPings(func() {
			var all sync.WaitGroup
			for i, f := range chosen {
				all.Go(func() { f.do(c, c.hosts[hosts[i]], rand.New(rand.NewPCG(seeds[i], 0))) })
			}
			all.Wait()
			c.everybodyHasTheirs(what)
		})
		sum, after := total(stats), c.mode()
		t.Logf("round %2d: %-15s %-70s %v", round, after.name, what, sum)
		// What a daemon carries itself waits for it, until all have left that mode.
		if before.carried() || after.carried() || slices.ContainsFunc(chosen, func(f fault) bool { return f.name == manyConfigs }) {
			carried = time.Now()
		}
		lossy = lossy || stops && time.Since(carried) < 30*time.Second
		lost.add(chosen, lossy, sum)
		if !lossy && sum.Lost > 0 {
			t.Errorf("round %d lost packets: replay with CHAOS_SEED=%d\n%s", round, seed, strings.Join(losers(stats), "\n"))
		}
	}
	c.everybodyRests()
	t.Log(lost)
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// choose draws up to three faults that can happen together: one of etcd's at
// most, and each on a host of its own. A daemon that starts follows the config that it
// reads then; in the midst of many that is another one than the others wait for.
func choose(random *rand.Rand, nexthops bool) (chosen []fault) {
	all, etcd := faults(), false
	if nexthops {
		all = append(all, nexthopFaults...)
	}
	for _, i := range random.Perm(len(all))[:1+random.IntN(3)] {
		if all[i].where == ofEtcd && etcd {
			continue
		}
		etcd = etcd || all[i].where == ofEtcd
		chosen = append(chosen, all[i])
	}
	if slices.ContainsFunc(chosen, func(f fault) bool { return f.name == configStorm || f.name == manyConfigs }) {
		chosen = slices.DeleteFunc(chosen, func(f fault) bool { return f.name == restarted || f.name == killed })
	}
	return chosen
}

// tally is what was lost in the rounds with each fault.
type tally map[string]loss

type loss struct {
	rounds int
	lab.Stats
}

// add counts a round. In a lossy one pings are lost by a host's fault, so that
// it says nothing of the others.
func (l tally) add(chosen []fault, lossy bool, s lab.Stats) {
	for _, f := range chosen {
		if lossy && f.where != ofHost {
			continue
		}
		was := l[f.name]
		l[f.name] = loss{was.rounds + 1, was.Plus(s)}
	}
}

func (l tally) String() string {
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-28s %6s  %s\n", "fault", "rounds", "loss")
	for _, name := range slices.Sorted(maps.Keys(l)) {
		fmt.Fprintf(&table, "%-28s %6d  %v\n", name, l[name].rounds, l[name].Stats)
	}
	return table.String()
}

func total(stats map[string]lab.Stats) (all lab.Stats) {
	for _, s := range stats {
		all = all.Plus(s)
	}
	return all
}

// losers are those of stats who have lost any, and what.
func losers(stats map[string]lab.Stats) (who []string) {
	for name, s := range stats {
		if s.Lost > 0 {
			who = append(who, name+": "+s.String())
		}
	}
	slices.Sort(who)
	return who
}

// startOnThree is a cluster of hosts from hdss7-21 on, with three etcd members. The
// config is IPv4's.
func startOnThree(t *testing.T, s lab.Stack, config string, hosts int, options ...func(*lab.FlanneldOptions)) *cluster {
	t.Helper()
	c := &cluster{Lab: lab.New(t), t: t, stack: s}
	for i := range 3 {
		c.stores = append(c.stores, c.Host(fmt.Sprintf("etcd-%d", i+1), s.Addrs(7, 11+i)))
	}
	c.etcd = c.EtcdOn(lab.EtcdOptions{}, c.stores...)
	c.etcd.Set(configKey, of(s, config))
	for i := range hosts {
		c.joinAs(fmt.Sprintf("hdss7-%d", 21+i), func(h *lab.Host, o *lab.FlanneldOptions) {
			o.Args = append(o.Args, "--healthz-port=2401")
			o.Env = append(o.Env, "PATH="+hangingIPTables(c, h)+":"+os.Getenv("PATH"))
			for _, change := range options {
				change(o)
			}
		})
	}
	for _, n := range c.hosts {
		n.daemon.WaitReady()
		n.box = n.Container("c1")
	}
	c.connected(soon)
	return c
}
