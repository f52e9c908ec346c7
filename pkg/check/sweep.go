package check

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"flanneld/pkg/inet"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// Sweep tries the paths to thousands of peers, and tells them by what is wrong.
type Sweep struct {
	Network  probe.Network // of which many packets wait at a time
	Dropped  func() int    // as a Prober's
	Sessions Sessions
	// Progress is told how many of the peers that packets are sent to are known, by several
	// goroutines; nil: nobody wants to know.
	Progress func(done, total int)
}

const (
	// peersPerSecond is how many peers of each family the first packet is sent to. Each may be a
	// new neighbour of this host: a kernel keeps 1,024 (net.ipv4.neigh.default.gc_thresh3), and
	// gives up none that is younger than five seconds. So 800 may be new, and the others stay.
	// Of what a peer is asked it has to refuse six packets at the most, its own limit
	// for one asker at a time (net.ipv4.icmp_ratelimit; the kernel's XRLIM_BURST_FACTOR).
	peersPerSecond = 160
	// peersAtOnce bounds what waits: a peer without containers takes four seconds to say so, and
	// one that is quiet 13 s. Each needs a descriptor at the most.
	peersAtOnce = 1000
)

// target is a peer of a family, and what is known of it.
type target struct {
	status.Peer
	view   Facts     // its family's
	found  []Finding // by the steps of the path
	answer []Finding // what the packets show
	probed bool
}

// Run looks at this host as [Run] does, and at each peer. When ctx ends, it tells what it knows by then.
func (s Sweep) Run(ctx context.Context, f Facts, peers []status.Peer) *Report {
	began := time.Now()
	views := f.views(f.askedFor())
	f.before = f.walk(views)
	var all, open []*target
	for _, p := range carried(peers) {
		// Of a family that is not in use there is no view.
		all = append(all, &target{Peer: p, view: views[inet.Of(p.Subnet.Addr())]})
	}
	f.lookAlong(ctx, all)
	ways := f.passable(views)
	for _, t := range all {
		if ways[t.view.family] && t.view.obstacle(t.found) == "" {
			open = append(open, t)
		}
	}
	before := s.Dropped()
	s.try(ctx, open)
	s.tryAgain(ctx, f, open)
	if s.Dropped() > before {
		s.askForReversePath(ctx, open)
	}
	r := newReport(f, peers, all)
	r.Took, r.Interrupted = time.Since(began).Seconds(), ctx.Err() != nil
	return r
}

// lookAlong has the steps of the path look at each peer.
func (f Facts) lookAlong(ctx context.Context, all []*target) {
	several := len(f.inUse()) > 1
	var path []pathStep
	for _, step := range pathSteps() {
		if step.only == nil || step.only(f) {
			path = append(path, step)
		}
	}
	for _, t := range all {
		if ctx.Err() != nil {
			return
		}
		v := t.view
		if v.Status == nil {
			continue
		}
		for _, step := range path {
			v.before = slices.Concat(f.before, t.found)
			t.found = append(t.found, worthAWord(step.name, step.one(v, t.Peer, several))...)
		}
	}
}

// worthAWord are the findings of a step that are about something.
func worthAWord(step string, found []Finding) (out []Finding) {
	for _, x := range found {
		if x.Level != OK && x.Level != Skipped {
			out = append(out, x)
		}
	}
	if len(out) > 0 {
		out = named(step, out, nil)
	}
	return out
}

// passable are the families by which something may leave this host: nothing that it lacks explains
// why none of their peers would answer.
func (f Facts) passable(views map[inet.Family]Facts) map[inet.Family]bool {
	out := map[inet.Family]bool{}
	for family, v := range views {
		out[family] = v.Status != nil && v.Status.Lease != nil && v.Status.Host != nil && v.obstacle(f.before) == ""
	}
	return out
}

// try sends packets to peers, to each family's at its own pace, and waits for what comes of it.
func (s Sweep) try(ctx context.Context, all []*target) {
	var done atomic.Int64
	var trying sync.WaitGroup
	slots := make(chan struct{}, peersAtOnce)
	for _, family := range inet.Families() {
		trying.Go(func() {
			pace := rate.NewLimiter(peersPerSecond, 1)
			for _, t := range all {
				if t.view.family != family {
					continue
				}
				if pace.Wait(ctx) != nil {
					return
				}
				slots <- struct{}{}
				trying.Go(func() {
					defer func() { <-slots }()
					s.look(ctx, t)
					if n := int(done.Add(1)); s.Progress != nil {
						s.Progress(n, len(all))
					}
				})
			}
		})
	}
	trying.Wait()
}

// look tries the path to one peer.
func (s Sweep) look(ctx context.Context, t *target) {
	p := Prober{Network: s.Network, Dropped: func() int { return 0 }, inTurn: true}
	found := p.peer(t.view, t.Peer, "")
	if ctx.Err() == nil { // otherwise there was no time to wait for answers
		t.answer, t.probed = worthAWord("probe", found), true
	}
}

// silent are the reasons for which a peer may be found where packets got lost by chance.
var silent = []Reason{
	HostSilent, NotPassedOn, NetworkDrops, RouterDrops, NoTunnel, TunnelSilent, NotByKey, PathMTU, NoTCP,
}

// isSilent reports whether no packet, or not each, was answered.
func (t *target) isSilent() bool {
	return slices.ContainsFunc(t.answer, func(x Finding) bool { return slices.Contains(silent, x.reason) })
}

// tryAgain tries silent peers once more: something may have been lost by chance. Before that those
// of WireGuard have time to shake hands.
func (s Sweep) tryAgain(ctx context.Context, f Facts, all []*target) {
	var quiet []*target
	for _, t := range all {
		if t.isSilent() {
			quiet = append(quiet, t)
		}
	}
	s.try(ctx, s.shakeHands(ctx, f, quiet))
}

// shakeHands waits for sessions, and returns the peers that no lack of one explains.
func (s Sweep) shakeHands(ctx context.Context, f Facts, quiet []*target) (rest []*target) {
	var peers []status.Peer
	for _, t := range quiet {
		if t.Session != nil {
			peers = append(peers, t.Peer)
		}
	}
	if len(peers) == 0 {
		return quiet
	}
	limit, send := rate.NewLimiter(probe.PacketsPerSecond, 1), s.Sessions.Send
	s.Sessions.Send = func(to netip.Addr) {
		if limit.Wait(ctx) == nil {
			send(to)
		}
	}
	now := map[netip.Prefix]status.Peer{}
	for _, p := range s.Sessions.Run(ctx, &f, peers) {
		now[p.Subnet] = p
	}
	if ctx.Err() != nil {
		return nil
	}
	for _, t := range quiet {
		if p, waited := now[t.Subnet]; waited {
			t.Session, t.view.Silent = p.Session, f.Silent
			asked := *t.view.Status
			asked.Time = f.Status.Time
			t.view.Status = &asked
			if found := worthAWord("handshake", findHandshake(t.view, t.Peer)); len(found) > 0 {
				t.found, t.answer = append(t.found, found...), nil
				continue
			}
		}
		rest = append(rest, t)
	}
	return rest
}

// askForReversePath finds out whether it is rp_filter of this host that makes peers silent, as it
// has dropped something meanwhile. One of each kind tells: the counter is one for all.
func (s Sweep) askForReversePath(ctx context.Context, all []*target) {
	p := Prober{Network: s.Network, Dropped: s.Dropped}
	for _, reason := range silent {
		var like []*target
		for _, t := range all {
			if t.view.family == inet.IPv4 && len(t.answer) > 0 && t.answer[0].reason == reason {
				like = append(like, t)
			}
		}
		if len(like) == 0 || ctx.Err() != nil {
			continue
		}
		found := p.peer(like[0].view, like[0].Peer, "")
		if len(found) == 0 || found[0].reason != ReversePath || ctx.Err() != nil {
			continue
		}
		for _, t := range like {
			t.answer = worthAWord("probe", []Finding{p.lost(t.view, t.Peer, gateway(t.Subnet), "", true)})
		}
	}
}
