package agent_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/subnet/subnettest"
)

func configOf(kind string) string {
	return fmt.Sprintf(`{"Network":"172.7.0.0/16","Backend":{"Type":%q}}`, kind)
}

// newTunnelHost is a host with all backends; routed: behind a router. What it writes it tells news.
func newTunnelHost(t testing.TB, store *subnettest.Store, n int, routed bool, news chan struct{}) *host {
	h := newHost(t, store, n)
	h.backends, h.news = allBackends(), news
	if routed {
		h.ip = netip.MustParseAddr(fmt.Sprintf("10.4.%d.%d", n, n))
		h.kernel = kerneltest.New("ens33", 1500, h.ip.String()+"/24")
	}
	return h
}

// difference are the lines of one text that are not in another.
func difference(text, without string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool {
		return slices.Contains(strings.Split(without, "\n"), line)
	}), "\n")
}

// cluster is hosts between all of which packets are to arrive.
type cluster []*host

// watch lets time pass, and returns the first packet that was lost meanwhile; "": none.
func (c cluster) watch(d time.Duration) string {
	over := time.After(d)
	c[0].tell()
	for {
		select {
		case <-over:
			return ""
		case <-c[0].news:
		}
		synctest.Wait()
		for _, a := range c {
			for _, b := range c {
				if a == b {
					continue
				}
				if lost := carries(a, b); lost != "" {
					return fmt.Sprintf("packet from %v to %v is lost: %s", a.ip, b.ip, lost)
				}
			}
		}
	}
}

func (c cluster) stop() {
	for _, h := range c {
		h.stop()
	}
}

func (c cluster) state(store *subnettest.Store) string {
	var all []string
	for _, e := range store.Entries() {
		all = append(all, e.Key+" "+e.Value)
	}
	for _, h := range c {
		all = append(all, h.ip.String(), h.render())
	}
	return strings.Join(all, "\n")
}

// macs are drawn anew where a VTEP comes back.
var macs = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)

// form is the state without what differs between two runs, in an order that does not.
func (c cluster) form(store *subnettest.Store) string {
	lines := strings.Split(macs.ReplaceAllString(c.state(store), "MAC"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// done is ample for all of a change: that nothing of the former backend is left.
const done = time.Minute

// TestChangeBetweenAllBackends: each to each, on one link and between routed hosts, with one host that stays on the
// former backend for minutes.
func TestChangeBetweenAllBackends(t *testing.T) {
	kinds := []string{"host-gw", "vxlan", "wireguard", "udp"}
	for _, routed := range []bool{false, true} {
		for _, from := range kinds {
			for _, to := range kinds {
				if from == to || routed && (from == "host-gw" || to == "host-gw") {
					continue
				}
				t.Run(fmt.Sprintf("%s to %s, routed %v", from, to, routed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { testChange(t, configOf(from), configOf(to), routed) })
				})
			}
		}
	}
}

func testChange(t *testing.T, from, to string, routed bool) {
	random := rand.New(rand.NewPCG(1, 0))
	store := subnettest.NewStore()
	store.Set("config", from, 0)
	var all cluster
	news := make(chan struct{}, 1)
	for n := 21; n < 25; n++ {
		h := newTunnelHost(t, store, n, routed, news)
		h.lag = time.Duration(1+random.IntN(600)) * time.Millisecond
		all = append(all, h.start())
	}
	defer func() { all.stop() }()
	settle(10 * time.Second)
	steady := all.form(store)
	expect := func(moment string, d time.Duration) {
		t.Helper()
		if lost := all.watch(d); lost != "" {
			t.Fatalf("%s: %s\n%s", moment, lost, all.state(store))
		}
	}
	expect("before", time.Second)
	all[0].stay(from)
	store.Set("config", to, 0)
	expect("one stays behind", 3*time.Minute)
	all[0].stay("")
	expect("it follows", done)
	if names := tunnels(all[1]); len(names) > 1 {
		t.Errorf("in the end there are %v", names)
	}
	store.Set("config", from, 0)
	expect("back", done)
	if now := all.form(store); now != steady {
		t.Errorf("there and back again\n%s\nbecame\n%s", difference(steady, now), difference(now, steady))
	}
}

// TestAnyChange draws changes of the config key, hosts that follow them late, lags and slow writes, within the
// time that changes count on (propagation): no packet is lost. The draws are the same each time; others are had by
// -rapid.seed and -rapid.checks. Of 2,000 one or so loses a packet still, where the key changes three times in a second.
func TestAnyChange(t *testing.T) {
	if seed := flag.Lookup("rapid.seed"); seed.Value.String() == "0" {
		if err := seed.Value.Set("1"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = seed.Value.Set("0") }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		routed := rapid.Bool().Draw(rt, "routed")
		kinds := []string{"vxlan", "wireguard", "udp"}
		if !routed {
			kinds = append(kinds, "host-gw")
		}
		hosts := rapid.IntRange(2, 3).Draw(rt, "hosts")
		var lags, writes []time.Duration
		for range hosts {
			lags = append(lags, time.Duration(rapid.IntRange(1, 700).Draw(rt, "lag"))*time.Millisecond)
			writes = append(writes, time.Duration(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 1500)).Draw(rt, "a write takes"))*time.Millisecond)
		}
		type step struct {
			kind    string
			stays   []bool        // hosts that stay where they are for this step
			release time.Duration // after which these follow
			wait    time.Duration // until the next one
		}
		first := rapid.SampledFrom(kinds).Draw(rt, "first")
		var steps []step
		for range rapid.IntRange(1, 3).Draw(rt, "steps") {
			steps = append(steps, step{
				kind:    rapid.SampledFrom(kinds).Draw(rt, "kind"),
				stays:   rapid.SliceOfN(rapid.Bool(), hosts, hosts).Draw(rt, "stays"),
				release: time.Duration(rapid.IntRange(0, 60_000).Draw(rt, "release")) * time.Millisecond,
				wait:    time.Duration(rapid.IntRange(0, 40_000).Draw(rt, "wait")) * time.Millisecond,
			})
		}
		wrong, state := "", ""
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", configOf(first), 0)
			var all cluster
			news := make(chan struct{}, 1)
			for i := range hosts {
				h := newTunnelHost(t, store, 21+i, routed, news)
				h.lag = lags[i]
				h.client.Inject(func(op string) subnettest.Fault {
					if op == "Put" {
						time.Sleep(writes[i])
					}
					return subnettest.None
				})
				all = append(all, h.start())
			}
			defer func() { all.stop() }()
			settle(20 * time.Second)
			now := first
			watch := func(moment string, d time.Duration) bool {
				if wrong = all.watch(d); wrong != "" {
					wrong, state = moment+": "+wrong, all.state(store)
				}
				return wrong == ""
			}
			for i, s := range steps {
				for j, h := range all {
					if s.stays[j] {
						h.stay(configOf(now))
					}
				}
				store.Set("config", configOf(s.kind), 0)
				if !watch(fmt.Sprintf("step %d", i), s.release) {
					return
				}
				for _, h := range all {
					h.stay("")
				}
				if !watch(fmt.Sprintf("after step %d", i), s.wait) {
					return
				}
				now = s.kind
			}
			if !watch("in the end", done) {
				return
			}
			for _, h := range all {
				if names := tunnels(h); len(names) > 1 || len(names) == 0 && now != "host-gw" {
					wrong, state = fmt.Sprintf("%v has %v in the end", h.ip, names), all.state(store)
				}
			}
		})
		if wrong != "" {
			rt.Fatalf("%s\n%s", wrong, state)
		}
	})
}

// TestBackWhileOneStays: a cluster goes to another backend and at once back, and a host stays there. It sends by
// what is current with it, and is sent to by what is current here: each needs an end that it does not use itself.
func TestBackWhileOneStays(t *testing.T) {
	for _, routed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", configOf("udp"), 0)
			news := make(chan struct{}, 1)
			all := cluster{newTunnelHost(t, store, 21, routed, news), newTunnelHost(t, store, 22, routed, news)}
			for i, h := range all {
				h.lag = time.Duration(50+500*i) * time.Millisecond
				h.start()
			}
			defer func() { all.stop() }()
			settle(20 * time.Second)
			watch := func(d time.Duration) {
				if lost := all.watch(d); lost != "" {
					t.Errorf("routed %v: %s", routed, lost)
				}
			}
			store.Set("config", configOf("vxlan"), 0)
			watch(5200 * time.Millisecond)
			all[1].stay(configOf("vxlan"))
			store.Set("config", configOf("udp"), 0)
			watch(time.Minute)
			all[1].stay("")
			watch(time.Minute)
			if names := tunnels(all[0]); len(names) != 1 {
				t.Errorf("it has %v in the end", names)
			}
		})
	}
}

// TestPathsTurnOnce: a cluster goes back to what it has just left, and again. Each path turns once a change, also to
// peers whose lease is news: a connection that docker masquerades loses a packet each time its path turns.
func TestPathsTurnOnce(t *testing.T) {
	for _, backends := range [][2]string{{"host-gw", "vxlan"}, {"wireguard", "vxlan"}, {"udp", "host-gw"}} {
		synctest.Test(t, func(t *testing.T) {
			store := subnettest.NewStore()
			store.Set("config", configOf(backends[0]), 0)
			news := make(chan struct{}, 1)
			all := cluster{newTunnelHost(t, store, 21, false, news), newTunnelHost(t, store, 22, false, news)}
			for i, h := range all {
				h.lag = time.Duration(50+500*i) * time.Millisecond
				h.start()
			}
			defer func() { all.stop() }()
			settle(20 * time.Second)
			for round := range 6 {
				before, to := backends[round%2], backends[(round+1)%2]
				store.Set("config", configOf(to), 0)
				turns := all.turns(9 * time.Second)
				for i, h := range all {
					if len(turns[i]) != 2 {
						t.Errorf("%s to %s, change %d: the path from %v leads by %q", before, to, round+1, h.ip, turns[i])
					}
				}
			}
		})
	}
}

// turns lets time pass, and returns the devices by which each of two hosts reached the other.
func (c cluster) turns(d time.Duration) (by [2][]string) {
	over := time.After(d)
	for {
		for i, h := range c {
			if dev := h.deviceTo(c[1-i]); len(by[i]) == 0 || by[i][len(by[i])-1] != dev {
				by[i] = append(by[i], dev)
			}
		}
		select {
		case <-over:
			return by
		case <-c[0].news:
		}
		synctest.Wait()
	}
}

func (h *host) deviceTo(peer *host) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, _ := h.routeTo(peer)
	return r.Dev
}
