package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
)

// crowd is a healthy host with n peers.
func crowd(n int) Facts {
	f := healthy()
	p, route := f.Status.Peers[0], f.Routes[0]
	f.Status.Peers, f.Routes, f.Entries, f.Paths = nil, f.Routes[1:], kernel.Entries{}, map[netip.Addr]Path{}
	f.Status.Network.Network = netip.MustParsePrefix("172.0.0.0/8")
	f.Env.Network, f.Firewall = f.Status.Network.Network, nil
	for i := range n {
		a := netip.AddrFrom4([4]byte{172, byte(16 + i/256), byte(i), 0})
		p.Subnet, p.Via, p.PublicIP = netip.PrefixFrom(a, 24), a, netip.AddrFrom4([4]byte{10, 8, byte(i / 256), byte(i)})
		mac := kernel.MAC{0x0a, 0, 0, 0, byte(i / 256), byte(i)}
		p.MAC = mac.String()
		route.Dst, route.Via = p.Subnet, p.Via
		f.Status.Peers, f.Routes = append(f.Status.Peers, p), append(f.Routes, route)
		f.Entries.Neighbours = append(f.Entries.Neighbours, kernel.FoundNeighbour{Neighbour: kernel.Neighbour{Addr: p.Via, MAC: mac}, Permanent: true})
		f.Entries.FDB = append(f.Entries.FDB, kernel.FoundFDB{FDB: kernel.FDB{Dev: "flannel.1", MAC: mac, Dst: p.PublicIP}, Permanent: true})
	}
	return f
}

// plight is how a peer is in a world.
type plight int

const (
	fine plight = iota
	dead
	mute // its tunnel
	blocking
	idle // without a container
	bare // without a bridge
)

// world is a network of peers, some of which are broken. An answer takes a millisecond.
type world struct {
	is      map[netip.Addr]plight // by the host's address, and by each within its subnet
	waiting atomic.Int64          // packets without an answer
	most    atomic.Int64

	mu     sync.Mutex
	firsts map[netip.Addr]time.Time // when a peer's bridge was sent the first packet
	sent   int
	lose   map[netip.Addr]int // so many packets to an address get lost
}

func newWorld(f Facts, is func(i int) plight) *world {
	w := &world{is: map[netip.Addr]plight{}, firsts: map[netip.Addr]time.Time{}, lose: map[netip.Addr]int{}}
	for i, p := range f.Status.Peers {
		for _, a := range []netip.Addr{p.PublicIP, p.Subnet.Addr(), gateway(p.Subnet), container(p.Subnet), unused(p.Subnet)} {
			w.is[a] = is(i)
		}
	}
	return w
}

func (w *world) packet(dst netip.Addr, answers bool, wait time.Duration) bool {
	w.most.Store(max(w.most.Load(), w.waiting.Add(1)))
	defer w.waiting.Add(-1)
	w.mu.Lock()
	w.sent++
	if _, known := w.firsts[dst]; !known {
		w.firsts[dst] = time.Now()
	}
	if w.lose[dst] > 0 {
		w.lose[dst]--
		answers = false
	}
	w.mu.Unlock()
	if answers {
		wait = time.Millisecond
	}
	time.Sleep(wait)
	return answers
}

func (w *world) Ping(_, dst netip.Addr, _ int, wait time.Duration) (probe.Answer, error) {
	inside := dst.As4()[0] == 172
	is := w.is[dst]
	if w.packet(dst, is != dead && (is != mute || !inside), wait) {
		if is == bare && inside && dst.As4()[3] == 1 {
			return probe.Answer{Answered: true, From: dst.Prev(), Refusal: probe.NoNetwork, Text: string(probe.NoNetwork)}, nil
		}
		return probe.Answer{Answered: true, Echo: true, From: dst}, nil
	}
	return probe.Answer{}, nil
}

func (w *world) Step(_, dst netip.Addr, hops int, wait time.Duration) (probe.Answer, error) {
	is := w.is[dst]
	from := netip.AddrFrom4([4]byte{dst.As4()[0], dst.As4()[1], dst.As4()[2], 0})
	answer := probe.Answer{Answered: true, Echo: true, From: dst}
	switch {
	case hops == 0:
		answer = probe.Answer{Answered: true, From: from, Refusal: probe.Expired}
	case is == idle:
		answer = probe.Answer{Answered: true, From: from, Refusal: probe.NoHost}
		time.Sleep(3 * time.Second)
	case is == bare:
		answer = probe.Answer{Answered: true, From: from, Refusal: probe.NoNetwork, Text: string(probe.NoNetwork)}
	}
	if w.packet(dst, is == fine || is == idle || is == bare, wait) {
		return answer, nil
	}
	return probe.Answer{}, nil
}

func (w *world) Connect(_, dst netip.Addr, wait time.Duration) (probe.Answer, error) {
	if is := w.is[dst]; w.packet(dst, is != dead && is != mute, wait) {
		return probe.Answer{Answered: true, Echo: true, From: dst}, nil
	}
	return probe.Answer{}, nil
}

func (w *world) ProbeUDP(_ netip.Addr, to netip.AddrPort, wait time.Duration) (probe.Answer, error) {
	w.packet(to.Addr(), false, wait)
	return probe.Answer{}, nil
}

// bounded wants few new peers in any second, and few packets that wait.
func (w *world) bounded(t *testing.T, f Facts) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if most := w.most.Load(); most > 2*peersAtOnce {
		t.Errorf("%d packets wait for answers", most)
	}
	if perPeer := float64(w.sent) / float64(len(f.Status.Peers)); perPeer > 10 {
		t.Errorf("%.1f packets for each peer", perPeer)
	}
	in := map[int64]int{}
	for _, p := range f.Status.Peers {
		in[w.firsts[gateway(p.Subnet)].Unix()]++
	}
	for second, n := range in {
		if n > peersPerSecond+1 {
			t.Errorf("%d new peers in second %d", n, second)
		}
	}
}

func never() int { return 0 }

// Each cause is told once, with all of its peers, and those that concern the most come first.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crowd(500)
		w := newWorld(f, func(i int) plight {
			switch {
			case i%10 == 3:
				return dead
			case i%100 == 4:
				return mute
			case i == 77:
				return blocking
			case i%5 == 1:
				return idle
			}
			return fine
		})
		f.Status.Peers[3].Since = f.Now.Add(-2 * time.Minute)
		f.Status.Peers[3].Expires = f.Now.Add(20 * time.Hour)
		f.Status.Probes = &status.Probes{Peers: []status.Probe{
			{Subnet: f.Status.Peers[4].Subnet, Lost: 3, Since: f.Now.Add(-time.Minute)}, {Subnet: f.Status.Peers[3].Subnet},
		}}
		var last, calls atomic.Int64
		progress := func(done, total int) { last.Store(int64(done)); calls.Add(1) }
		began := time.Now()
		r := Sweep{Network: w, Dropped: never, Progress: progress}.Run(t.Context(), f, f.Status.Peers)
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(neighbourTime) // for what is under way
		w.bounded(t, f)
		if want := (Summary{Peers: 500, Reached: 444, NotReached: 56, Causes: 3}); r.Summary != want {
			t.Errorf("%+v", r.Summary)
		}
		var told []string
		for _, c := range r.Causes {
			told = append(told, fmt.Sprintf("%s %d", c.Reason, len(c.Peers)))
		}
		if diff := cmp.Diff([]string{"host-silent 50", "tunnel-silent 5", "not-forwarding 1"}, told); diff != "" {
			t.Error(diff)
		}
		first, second := r.Causes[0].Peers[0], r.Causes[1].Peers[0]
		if first.Way != f.Status.Peers[3].Since || !first.Since.IsZero() || first.Renewed != f.Now.Add(20*time.Hour-subnet.LeaseTTL) || first.PublicIP != f.Status.Peers[3].PublicIP {
			t.Errorf("%+v", first)
		}
		if second.Since != f.Now.Add(-time.Minute) {
			t.Errorf("%+v", second)
		}
		if calls.Load() < 500 {
			t.Errorf("%d calls", calls.Load())
		}
		for _, x := range r.Host {
			if x.Level != OK {
				t.Errorf("%+v", x)
			}
		}
	})
}

// A packet that is lost by chance is no cause.
func TestSweepTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crowd(30)
		w := newWorld(f, func(int) plight { return fine })
		p := f.Status.Peers[7]
		w.lose = map[netip.Addr]int{p.PublicIP: 2, gateway(p.Subnet): 2, p.Subnet.Addr(): 3, container(p.Subnet): 1}
		r := Sweep{Network: w, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
		if r.Summary != (Summary{Peers: 30, Reached: 30}) {
			t.Errorf("%+v", r)
		}
		time.Sleep(neighbourTime) // for what is under way
		w.mu.Lock()
		defer w.mu.Unlock()
		for a, n := range w.lose {
			if n > 0 {
				t.Errorf("%d packets to %v were not sent", n, a)
			}
		}
	})
}

// What keeps all from being reached is told once, and nobody is sent anything.
func TestSweepBehindAFault(t *testing.T) {
	f := crowd(300)
	f.Links[1].Up = false
	w := newWorld(f, func(int) plight { return dead })
	r := Sweep{Network: w, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
	if w.sent > 0 || r.Summary != (Summary{Peers: 300, NotProbed: 300}) || !faulty(r.Host) {
		t.Errorf("%d packets, %+v", w.sent, r.Summary)
	}
	if got := r.headline(); !strings.Contains(got, "0 of 300 peers reached") || !strings.Contains(got, "300 not tried before this host is right") {
		t.Error(got)
	}
}

// A route that is not as it should be is that peer's cause, and no packet is wasted on it.
func TestSweepWithoutARoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crowd(20)
		f.Routes = append(f.Routes[:3:3], f.Routes[5:]...) // the first is docker0's
		w := newWorld(f, func(int) plight { return fine })
		r := Sweep{Network: w, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
		if r.Summary != (Summary{Peers: 20, Reached: 18, NotReached: 2, Causes: 1}) || len(r.Causes) != 1 || r.Causes[0].Step != "route" || len(r.Causes[0].Peers) != 2 {
			t.Errorf("%+v", r.Causes)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.firsts) == 0 || !w.firsts[gateway(f.Status.Peers[2].Subnet)].IsZero() {
			t.Error("a packet was sent without a route")
		}
	})
}

// What was not looked at when the user ended it is counted, and nothing is made up.
func TestSweepInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crowd(900)
		w := newWorld(f, func(i int) plight {
			if i == 5 {
				return dead
			}
			return fine
		})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		r := Sweep{Network: w, Dropped: never}.Run(ctx, f, f.Status.Peers)
		s := r.Summary
		if !r.Interrupted || s.NotReached != 1 || s.NotProbed < 200 || s.Reached < 500 || s.Reached+s.NotReached+s.NotProbed != 900 {
			t.Errorf("%+v", s)
		}
		if got := r.headline(); !strings.HasPrefix(got, "interrupted: ") || !strings.HasSuffix(got, " not looked at") {
			t.Error(got)
		}
		if found := r.Findings(); Worst(found) != Fault || found[len(found)-1].Level != Unknown {
			t.Errorf("%+v", found)
		}
	})
}

// However the peers are, each has one state.
func TestSweepCounts(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(0, 20).Draw(r, "peers")
		weights := rapid.SliceOfN(rapid.IntRange(0, 5), 1, 8).Draw(r, "plights")
		synctest.Test(t, func(t *testing.T) {
			f := crowd(n)
			w := newWorld(f, func(i int) plight { return plight(weights[i%len(weights)]) })
			report := Sweep{Network: w, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
			time.Sleep(neighbourTime) // for what is under way
			w.mu.Lock()
			defer w.mu.Unlock()
			bad := 0
			for i := range n {
				if is := plight(weights[i%len(weights)]); is == dead || is == mute || is == blocking {
					bad++
				}
			}
			if s := report.Summary; s.Peers != n || s.NotReached != bad || s.Reached != n-bad {
				t.Errorf("%+v, want %d of %d not reached", s, bad, n)
			}
		})
	})
}

// Peers of both families count as one host, and each family has its own pace.
func TestSweepOfBothFamilies(t *testing.T) {
	t.Run("one host", func(t *testing.T) {
		four, six := netip.MustParsePrefix("172.7.22.0/24"), netip.MustParsePrefix("fc00:7:0:22::/64")
		of := func(p netip.Prefix) status.Peer { return status.Peer{Subnet: p, Key: "subnets/both"} }
		var s Summary
		s.count([]status.Peer{of(four), of(six)}, []*target{{Peer: of(four), probed: true}, {Peer: of(six), probed: true, answer: []Finding{{Level: Fault}}}})
		if s != (Summary{Peers: 1, NotReached: 1}) {
			t.Errorf("%+v", s)
		}
	})
	eachFamily(t, func(t *testing.T, family inet.Family) {
		f := asIn(family, healthy())
		n := &network{answers: answersIn(family, map[string]probe.Answer{"10.4.7.22": {Answered: true, Echo: true}})}
		r := Sweep{Network: n, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
		if len(r.Causes) != 1 || r.Causes[0].Reason != TunnelSilent || r.Summary.NotReached != 1 {
			t.Errorf("%+v", r)
		}
	})
}

// What this host cannot do is one finding.
func TestSweepWithoutRights(t *testing.T) {
	f := crowd(40)
	n := &network{fail: errors.New("open a raw socket at 172.7.21.1: operation not permitted")}
	r := Sweep{Network: n, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
	if len(r.Causes) != 1 || r.Causes[0].Level != Unknown || len(r.Causes[0].Peers) != 40 || r.Summary.NotKnown != 40 || Worst(r.Findings()) != Unknown {
		t.Errorf("%+v", r)
	}
}

// rp_filter counts for all, so one of each kind is asked alone.
func TestSweepFindsReversePath(t *testing.T) {
	f := crowd(30)
	answers := map[string]probe.Answer{}
	for _, p := range f.Status.Peers {
		answers[p.PublicIP.String()] = probe.Answer{Answered: true, Echo: true}
	}
	var dropped atomic.Int64
	r := Sweep{Network: &network{answers: answers}, Dropped: func() int { return int(dropped.Add(1)) }}.Run(t.Context(), f, f.Status.Peers)
	if len(r.Causes) != 1 || r.Causes[0].Reason != ReversePath || len(r.Causes[0].Peers) != 30 {
		t.Errorf("%+v", r.Causes)
	}
}

// WireGuard's sessions are waited for before a peer is found silent.
func TestSweepOfWireGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := crowd(10)
		f.Status.Time = f.Now
		f.Status.Device.Kind = status.WireGuard
		f.Status.Network.Backend = status.WireGuard
		f.Links[1].Kind, f.Links[1].Type = nil, "wireguard"
		for i := range f.Status.Peers {
			f.Status.Peers[i].Session = &status.Session{}
		}
		w := newWorld(f, func(i int) plight {
			if i < 2 {
				return mute
			}
			return fine
		})
		var sent atomic.Int64
		s := Sweep{Network: w, Dropped: never, Sessions: Sessions{
			Ask:  func(context.Context) (status.Status, error) { return *f.Status, nil },
			Send: func(netip.Addr) { sent.Add(1) },
		}}
		views := f.views(f.inUse())
		var quiet []*target
		for _, p := range f.Status.Peers[:2] {
			quiet = append(quiet, &target{Peer: p, view: views[inet.IPv4], answer: []Finding{{Level: Fault, reason: TunnelSilent}}})
		}
		if rest := s.shakeHands(t.Context(), f, quiet); len(rest) != 0 || sent.Load() != 2 || !faulty(quiet[0].found) || quiet[0].found[0].Step != "handshake" || quiet[1].answer != nil {
			t.Errorf("%d rest, %d sent, %+v", len(rest), sent.Load(), quiet[0].found)
		}
	})
}

// With the backend alloc flanneld carries nothing.
func TestSweepOfAlloc(t *testing.T) {
	f := crowd(5)
	for i := range f.Status.Peers {
		f.Status.Peers[i].Mode = status.External
	}
	w := newWorld(f, func(int) plight { return dead })
	r := Sweep{Network: w, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
	if w.sent != 0 || r.Summary != (Summary{Peers: 5, External: 5}) || !strings.HasPrefix(r.headline(), "5 peers: packets travel as the operator's own routing") {
		t.Errorf("%+v: %s", r.Summary, r.headline())
	}
	if text, err := json.Marshal(r); err != nil || !strings.Contains(string(text), `"causes":[]`) { // jq goes through it
		t.Errorf("%s, %v", text, err)
	}
	f.Status = nil
	f.Daemon = status.ErrNoDaemon
	if r := (Sweep{Network: w, Dropped: never}).Run(t.Context(), f, nil); r.headline() != "no peer is known" || Worst(r.Findings()) != Fault {
		t.Errorf("%+v", r)
	}
}

func TestReportPrint(t *testing.T) {
	at := func(d time.Duration) time.Time { return now.Add(-d) }
	victim := func(n int, v Victim) Victim {
		v.Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 7, byte(n), 0}), 24)
		v.PublicIP = netip.AddrFrom4([4]byte{10, 4, 7, byte(n)})
		return v
	}
	var many []Victim
	for n := range 1200 {
		many = append(many, victim(n%250, Victim{Renewed: at(3*time.Hour + time.Duration(n)*time.Minute), Way: at(time.Hour)}))
	}
	r := &Report{
		Time: now, Took: 31.4, Summary: Summary{Peers: 4000, Reached: 2797, NotReached: 1202, NotKnown: 1, Causes: 4},
		Host: []Finding{{Step: "daemon", Level: OK, Text: "runs"}, {Step: "docker", Level: Fault, Text: "docker0 is down", Fix: []string{"ip link set docker0 up"}}},
		Causes: []Cause{
			{HostSilent, "probe", Fault, "no answer from 172.7.0.1, nor from its host 10.4.7.0 itself", []string{"ping 10.4.7.0", "flanneld check"}, many},
			{TunnelSilent, "probe", Fault, "no answer through the tunnel", []string{"iptables"}, []Victim{victim(7, Victim{Since: at(time.Minute)}), victim(8, Victim{Since: at(72 * time.Hour)}), victim(9, Victim{})}},
			{"handshake", "handshake", Fault, "no handshake", nil, []Victim{victim(7, Victim{Way: at(90 * time.Second), Handshake: at(5 * time.Minute), Renewed: at(time.Hour)})}},
			{"route", "route", Fault, "no route", []string{"restart"}, []Victim{victim(7, Victim{Way: at(90 * time.Second), Renewed: at(time.Hour)})}},
			{NoTCPInside, "probe", Unknown, "no TCP", nil, []Victim{victim(9, Victim{Handshake: at(5 * time.Second)})}},
		},
	}
	const want = `2,797 of 4,000 peers reached in 31 s; 1,202 not: 4 causes; 1 not known
FAULT    docker     docker0 is down
         fix:       ip link set docker0 up
FAULT    probe      no answer from 172.7.0.1, nor from its host 10.4.7.0 itself (and 1,199 more like this)
         peers:     172.7.0.0/24 (10.4.7.0), 172.7.1.0/24 (10.4.7.1), 172.7.2.0/24 (10.4.7.2) and 1,197 more
         since:     it renewed its lease, 3h0m to 22h59m ago, or later
         fix:       ping 10.4.7.0
                    flanneld check
FAULT    probe      no answer through the tunnel (and 2 more like this)
         peers:     172.7.7.0/24 (10.4.7.7), 172.7.8.0/24 (10.4.7.8), 172.7.9.0/24 (10.4.7.9)
         since:     1m0s to 3 days ago, as the running flanneld has seen (of 2)
         fix:       iptables
FAULT    handshake  no handshake
         peers:     172.7.7.0/24 (10.4.7.7)
         since:     its last handshake, 5m0s ago, or later
FAULT    route      no route
         peers:     172.7.7.0/24 (10.4.7.7)
         since:     not known; this has been the way to it for 1m30s
         fix:       restart
unknown  probe      no TCP
         peers:     172.7.9.0/24 (10.4.7.9)
`
	var b strings.Builder
	if err := r.Print(&b, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	for range 30 {
		r.Causes = append(r.Causes, Cause{Step: "route", Level: Fault, Text: "x", Peers: many[:1]})
	}
	b.Reset()
	if err := r.Print(&b, false); err != nil || !strings.Contains(b.String(), "15 more causes are in what flanneld check --all -o json prints\n") {
		t.Error(b.String())
	}
}

// Scripts find the same names.
func TestReportJSON(t *testing.T) {
	r := Report{
		Time: now, Took: 1.5, Summary: Summary{Peers: 2, Reached: 1, NotReached: 1, Causes: 1},
		Host:   []Finding{{Step: "daemon", Level: OK, Text: "runs"}},
		Causes: []Cause{{HostSilent, "probe", Fault, "no answer", []string{"ping"}, []Victim{{Subnet: far, PublicIP: peer, Text: "no answer", Since: now, Handshake: now, Renewed: now, Way: now}, {Subnet: own, Text: "no"}}}},
	}
	const want = `{"time":"2026-03-04T12:00:00Z","took_seconds":1.5,"interrupted":false,` +
		`"summary":{"peers":2,"reached":1,"not_reached":1,"not_known":0,"not_probed":0,"external":0,"causes":1},` +
		`"host":[{"step":"daemon","level":"ok","text":"runs"}],` +
		`"causes":[{"reason":"host-silent","step":"probe","level":"FAULT","text":"no answer","fix":["ping"],"peers":[` +
		`{"subnet":"172.7.22.0/24","public_ip":"10.4.7.22","text":"no answer","since":"2026-03-04T12:00:00Z","last_handshake":"2026-03-04T12:00:00Z","lease_renewed":"2026-03-04T12:00:00Z","way_since":"2026-03-04T12:00:00Z"},` +
		`{"subnet":"172.7.21.0/24","text":"no"}]}]}`
	got, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

// What there is none of is an empty list: scripts go through it.
func TestReportOfNothingJSON(t *testing.T) {
	f := crowd(0)
	got, err := json.Marshal(Sweep{Network: silence{}, Dropped: never}.Run(t.Context(), f, f.Status.Peers))
	if err != nil || !strings.Contains(string(got), `"causes":[]`) || strings.Contains(string(got), "null") {
		t.Errorf("%s, %v", got, err)
	}
}

// A closed port is one cause, whoever's packets it keeps out.
func TestCausesOfOneRule(t *testing.T) {
	f := crowd(300)
	f.Firewall = saved("filter", "INPUT -p udp -m udp --dport 8472 -j DROP")
	w := newWorld(f, func(int) plight { return fine })
	r := Sweep{Network: w, Dropped: never}.Run(t.Context(), f, f.Status.Peers)
	if len(r.Causes) != 1 || len(r.Causes[0].Peers) != 300 || r.Causes[0].Reason != "port" || w.sent > 0 {
		t.Errorf("%d causes, %d packets: %+v", len(r.Causes), w.sent, r.Summary)
	}
}

// What tells peers apart is taken out, and nothing else.
func TestLikeness(t *testing.T) {
	f := healthy()
	for text, want := range map[string]string{
		"ping 10.4.7.22   # is it up?":                                  "ping <host>   # is it up?",
		"flanneld check 172.7.21.0/24   # on the peer 10.4.7.22: does":  "flanneld check <own>   # on the peer <host>: does",
		"no answer from 172.7.22.1, nor 172.7.22.10 or 110.4.7.22":      "no answer from <inside>, nor <inside> or 110.4.7.22",
		"-s 10.4.7.22/32 -d 172.7.22.0/25 or 172.7.22.1/32":             "-s <host> -d <inside>/25 or <inside>",
		"iptables -I INPUT -s 10.4.7.0/24 -d 172.7.22.0/24, 172.7.22.0": "iptables -I INPUT -s 10.4.7.0/24 -d <subnet>, <inside>",
	} {
		for _, family := range inet.Families() {
			if family == inet.IPv6 && (strings.Contains(text, "iptables") || strings.Contains(text, "/25")) {
				continue // which is another program then, or another length
			}
			v := asIn(family, f)
			if got := likeness(v, v.Status.Peers[0])(as(family, text)); got != as(family, want) {
				t.Errorf("%v: %q, want %q", family, got, as(family, want))
			}
		}
	}
}

// FuzzLikeness reads any text, which addresses may be in.
func FuzzLikeness(f *testing.F) {
	facts := healthy()
	like := likeness(facts, facts.Status.Peers[0])
	f.Add("ping 10.4.7.22:::")
	f.Add(":172.7.22.1")
	f.Fuzz(func(t *testing.T, text string) {
		if got := like(text); strings.Contains(got, "10.4.7.22 ") && !strings.ContainsAny(text, "/.:0123456789abcdefABCDEF<>") {
			t.Errorf("%q", got)
		}
		if got := like("x " + text + " 10.4.7.22 y"); !strings.HasSuffix(got, " <host> y") {
			t.Errorf("%q", got)
		}
	})
}
