package monitor

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

const mtu = 1450

var (
	peer    = netip.MustParsePrefix("172.7.22.0/24")
	host    = netip.MustParseAddr("10.4.7.22")
	tunnel  = Path{Since: epoch}
	direct  = Path{Since: epoch, Direct: true, Via: host}
	byUDP   = Path{Since: epoch, Hops: 2}
	routers = netip.MustParseAddr("10.4.7.1")
)

// world answers packets.
type world func(q probe.Query) probe.Heard

func expired(from netip.Addr) probe.Heard {
	return probe.Heard{Answer: probe.Answer{Answered: true, From: from, Refusal: probe.Expired}, RTT: time.Millisecond}
}

func echo(q probe.Query) probe.Heard {
	return probe.Heard{Answer: probe.Answer{Answered: true, From: q.Dst, Echo: true}, RTT: time.Millisecond}
}

// sound is a peer whose host answers all.
func sound(q probe.Query) probe.Heard {
	if q.TTL > 0 {
		return expired(peer.Addr())
	}
	return echo(q)
}

func dead(probe.Query) probe.Heard { return probe.Heard{} }

// lookAt makes a look, as a round does, at a time.
func lookAt(r *record, now time.Time, p Path, w world) []count {
	var answers []answer
	ask := func(packets []packet) (silent bool) {
		silent = true
		for _, x := range packets {
			h := w(x.Query)
			a := answer{x, h, reached(peer, p, h.Answer)}
			silent = silent && !a.reached && !a.Held
			answers = append(answers, a)
		}
		return silent
	}
	if ask(r.packets(peer, p, mtu)) {
		ask(again(peer, p))
	}
	return r.look(now, p, mtu, answers)
}

func fresh() *record { return &record{since: epoch, state: status.Well} }

func TestWhatAPeerIs(t *testing.T) {
	narrow := func(to int) world {
		return func(q probe.Query) probe.Heard {
			if q.Size > to {
				return probe.Heard{}
			}
			return sound(q)
		}
	}
	for _, tt := range []struct {
		name  string
		path  Path
		w     world
		looks int
		want  string
		mtu   int
	}{
		{"all is well", tunnel, sound, 5, status.Well, mtu},
		{"well by udp", byUDP, sound, 5, status.Well, mtu},
		{"it answers by its public IP", direct, func(q probe.Query) probe.Heard {
			if q.TTL > 0 {
				return expired(host)
			}
			return probe.Heard{}
		}, 5, status.Well, mtu},
		{"it answers pings alone", tunnel, func(q probe.Query) probe.Heard {
			if q.TTL > 0 {
				return probe.Heard{}
			}
			return echo(q)
		}, 5, status.Well, mtu},
		{"it answers pings of its docker0 alone, by another address than its public IP", direct, func(q probe.Query) probe.Heard {
			if q.TTL > 0 {
				return expired(routers)
			}
			return echo(q)
		}, 5, status.Well, mtu},
		{"dead, and not called so yet", tunnel, dead, looksToSilence - 1, status.Well, 0},
		{"dead", tunnel, dead, looksToSilence, status.Silent, 0},
		{"another router answers", direct, func(q probe.Query) probe.Heard {
			if q.TTL > 0 {
				return expired(routers)
			}
			return probe.Heard{}
		}, looksToSilence, status.Silent, 0},
		{"this host itself says that nobody is there", direct, func(q probe.Query) probe.Heard {
			return probe.Heard{Answer: probe.Answer{Answered: true, From: netip.MustParseAddr("10.4.7.21"), Refusal: probe.NoHost}}
		}, looksToSilence, status.Silent, 0},
		{"there is no such container, says the peer", direct, func(q probe.Query) probe.Heard {
			return probe.Heard{Answer: probe.Answer{Answered: true, From: host, Refusal: probe.NoHost}}
		}, 5, status.Well, mtu},
		{"its host answers, and passes nothing on yet", direct, func(q probe.Query) probe.Heard {
			if q.Dst == host {
				return echo(q)
			}
			return probe.Heard{}
		}, 10, status.Well, 0},
		{"our own firewall keeps packets here", tunnel, func(probe.Query) probe.Heard { return probe.Heard{Held: true} }, 10, status.Well, 0},
		{"short packets alone, not called so yet", tunnel, narrow(1300), looksToNarrow - 1, status.Well, 0},
		{"short packets alone", tunnel, narrow(1300), 14, status.Narrow, 1300},
		{"the shortest alone", tunnel, narrow(84), 14, status.Narrow, 84},
		{"a byte too few", tunnel, narrow(mtu - 1), 14, status.Narrow, mtu - 1},
		{"a router says that they are too long", tunnel, func(q probe.Query) probe.Heard {
			if q.Size > 1400 {
				return probe.Heard{Answer: probe.Answer{Answered: true, From: routers, Refusal: probe.TooLong}}
			}
			return sound(q)
		}, 14, status.Narrow, 1400},
	} {
		r, now := fresh(), epoch.Add(time.Minute)
		began := now
		for range tt.looks {
			lookAt(r, now, tt.path, tt.w)
			now = now.Add(every)
		}
		p := r.shown(peer)
		if p.State != tt.want || p.PathMTU != tt.mtu || p.Narrow != (tt.want == status.Narrow) {
			t.Errorf("%s: %+v", tt.name, p)
		}
		// Whether long packets arrive is judged from the second look on: the first finds out what is answered.
		if tt.want != status.Well && (p.Since.Before(began) || p.Since.After(began.Add(every))) || tt.want == status.Well && !p.Since.IsZero() {
			t.Errorf("%s: since %v", tt.name, p.Since)
		}
		// It is mended.
		for range 10 {
			lookAt(r, now, tt.path, sound)
			now = now.Add(every)
		}
		if p := r.shown(peer); p.State != status.Well || p.PathMTU != mtu || r.suspect() {
			t.Errorf("%s, mended: %+v", tt.name, p)
		}
	}
}

// TestOldDirectPeer: a host that does not pass anything on for long is no newcomer.
func TestOldDirectPeer(t *testing.T) {
	r, now := fresh(), epoch.Add(youth)
	for range looksToSilence {
		lookAt(r, now, direct, func(q probe.Query) probe.Heard {
			if q.Dst == host {
				return echo(q)
			}
			return probe.Heard{}
		})
	}
	if r.state != status.Silent {
		t.Errorf("%+v", r)
	}
}

// TestFewPacketsAreLost: a packet that is lost now and then makes nobody lossy, and a longer
// break of two looks neither.
func TestFewPacketsAreLost(t *testing.T) {
	r, now := fresh(), epoch.Add(time.Minute)
	for range 20 {
		for i := range 7 {
			w := sound
			if i < 2 {
				w = dead
			}
			lookAt(r, now, tunnel, w)
			now = now.Add(every)
			if r.state != status.Well {
				t.Fatalf("%+v", r)
			}
		}
	}
}

// TestLoss: a path that loses a third is seen to, and called so without a break; one that
// loses nothing any more is well again.
func TestLoss(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 0))
		lossy := func(q probe.Query) probe.Heard {
			if random.Float64() < 0.3 {
				return probe.Heard{}
			}
			return sound(q)
		}
		r, now := fresh(), epoch.Add(time.Minute)
		seen, changes, lost, sent := 0, 0, 0, 0
		for look := range 200 {
			before := r.state
			for _, c := range lookAt(r, now, tunnel, lossy) {
				sent++
				if c.lost {
					lost++
				}
			}
			now = now.Add(every)
			if r.state != before {
				changes++
			}
			if r.state == status.Lossy && seen == 0 {
				seen = look + 1
			}
		}
		if seen == 0 || seen > 40 || changes > 12 {
			t.Errorf("seed %d: seen after %d looks, %d changes", seed, seen, changes)
		}
		if share := float64(lost) / float64(sent); share < 0.2 || share > 0.4 {
			t.Errorf("seed %d: %d of %d packets lost", seed, lost, sent)
		}
		for range 12 {
			lookAt(r, now, tunnel, sound)
			now = now.Add(every)
		}
		if r.state != status.Well {
			t.Errorf("seed %d: %+v once mended", seed, r)
		}
	}
}

// TestPathGrows finds out that longer packets arrive than before, though not the longest.
func TestPathGrows(t *testing.T) {
	r, now, least := fresh(), epoch.Add(time.Minute), 1200
	w := func(q probe.Query) probe.Heard {
		if q.Size > least {
			return probe.Heard{}
		}
		return sound(q)
	}
	for _, least = range []int{1200, 1400, 1300, 1301} {
		for range 30 {
			lookAt(r, now, tunnel, w)
			now = now.Add(every)
		}
		if p := r.shown(peer); p.State != status.Narrow || p.PathMTU != least {
			t.Errorf("at %d: %+v", least, p)
		}
	}
}

func TestPackets(t *testing.T) {
	six := netip.MustParsePrefix("fd00:7:0:22::/64")
	for _, tt := range []struct {
		peer netip.Prefix
		p    Path
		w    way
		want probe.Query
	}{
		{peer, tunnel, through, probe.Query{Dst: addr("172.7.22.2"), Size: 84, TTL: 1}},
		{peer, byUDP, through, probe.Query{Dst: addr("172.7.22.2"), Size: 84, TTL: 3}},
		{peer, tunnel, device, probe.Query{Dst: addr("172.7.22.0"), Size: 84}},
		{peer, direct, device, probe.Query{Dst: addr("172.7.22.1"), Size: 84}},
		{peer, direct, outside, probe.Query{Dst: host, Size: 84}},
		{six, tunnel, through, probe.Query{Dst: addr("fd00:7:0:22::2"), Size: 84, TTL: 1}},
	} {
		if got := query(tt.peer, tt.p, tt.w, probe.Small); got != tt.want {
			t.Errorf("%v %+v %v: %+v", tt.peer, tt.p, tt.w, got)
		}
	}
	if n := len(fresh().packets(peer, tunnel, mtu)); n != 1 {
		t.Errorf("%d packets to a peer that is well", n)
	}
}
