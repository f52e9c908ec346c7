package check

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// Prober tries paths.
type Prober struct {
	Network probe.Network
	Dropped func() int // packets that rp_filter has dropped so far

	inTurn bool // a peer that answers the first packet is sent no others beside it
}

const (
	probeTime    = 500 * time.Millisecond // for an answer
	tries        = 2
	probesAtOnce = 16
)

// Run tries the path to each peer. found are the other steps' findings: they say
// why there may be no answer.
func (p Prober) Run(f Facts, peers []status.Peer, found []Finding) []Finding {
	switch {
	case f.Status == nil || f.Status.Lease == nil || f.Status.Host == nil:
		return named("probe", skipped("there is no path yet"), nil)
	case len(peers) == 0:
		return named("probe", skipped("there is no peer"), nil)
	}
	if peers = carried(peers); len(peers) == 0 {
		return named("probe", skipped(external), nil)
	}
	families := f.inUse()
	views := f.views(families)
	answers := make([][]Finding, len(peers))
	slots := make(chan struct{}, probesAtOnce)
	var probing sync.WaitGroup
	for i, peer := range peers {
		v, known := views[inet.Of(peer.Subnet.Addr())]
		if !known || v.Status.Lease == nil || v.Status.Host == nil {
			continue
		}
		reason := v.obstacle(found)
		slots <- struct{}{}
		probing.Go(func() {
			defer func() { <-slots }()
			answers[i] = p.peer(v, peer, reason)
		})
	}
	probing.Wait()
	all := make([][]Finding, len(families))
	for i, family := range families {
		of, n := []Finding(nil), 0
		for j, peer := range peers {
			if inet.Of(peer.Subnet.Addr()) == family {
				of, n = append(of, answers[j]...), n+1
			}
		}
		if n == 0 {
			of = skipped("there is no peer")
		}
		all[i] = named("probe", merge(of), func() string {
			return fmt.Sprintf("%s answered, to packets of up to %d bytes, and passed on what is for containers",
				these(n), views[family].Status.Lease.MTU)
		})
	}
	return joined(families, all)
}

func these(n int) string {
	if n == 1 {
		return "the peer"
	}
	return fmt.Sprintf("all %d peers", n)
}

// source is the address that stands for a container of this host: docker0's,
// so that answers take a container's way.
func source(f Facts) netip.Addr {
	own := gateway(f.Status.Lease.Subnet)
	for _, l := range f.Links {
		if l.Has(own) {
			return own
		}
	}
	if f.Status.Device != nil {
		return f.Status.Device.Addr
	}
	return f.Status.Host.Address
}

// obstacle names the first step with a fault that keeps packets from a peer.
func (f Facts) obstacle(found []Finding) string {
	for _, x := range found {
		if _, blocks := declared(x.Step); blocks && x.Level == Fault && f.concerns(x) {
			return x.Step
		}
	}
	return ""
}

// trial is one packet that may be answered.
type trial struct {
	dst  netip.Addr
	ping bool // an echo to it says that longer ones may be tried
	send func() (probe.Answer, error)

	once sync.Once
	done chan struct{} // closed when what follows is known
	probe.Answer
	err error
}

// begin sends the packet, unless it was sent.
func (t *trial) begin() {
	t.once.Do(func() {
		go func() { // for as long as send waits
			defer close(t.done)
			t.Answer, t.err = t.send()
		}()
	})
}

// wait waits until what comes back is known.
func (t *trial) wait() *trial {
	t.begin()
	<-t.done
	return t
}

// newTrial is one that is yet to begin.
func newTrial(dst netip.Addr, ping bool, send func() (probe.Answer, error)) *trial {
	return &trial{dst: dst, ping: ping, send: send, done: make(chan struct{})}
}

// over reports whether what comes back is known.
func (t *trial) over() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// between is how many routers there are on the way to a peer's host, as the TTL counts them: by
// backend udp either end takes it down by one, as flannel's does.
func (f Facts) between(p status.Peer) int {
	if d := f.Status.Device; p.Mode == status.Tunnel && d != nil && d.Kind == status.UDP {
		return 2
	}
	return 0
}

// trials are docker0's address on the peer, which is not there before docker,
// and, for a tunnel, its device's, by TCP too. The firewall there may let in none
// of these, and the peer still says that it would pass on what is for a container.
func (p Prober) trials(f Facts, src netip.Addr, peer status.Peer) []*trial {
	dst, vtep := gateway(peer.Subnet), peer.Subnet.Addr()
	all := []*trial{newTrial(dst, true, func() (probe.Answer, error) { return p.ping(src, dst, probe.Small) })}
	if peer.Mode == status.Tunnel {
		all = append(all,
			newTrial(vtep, true, func() (probe.Answer, error) { return p.ping(src, vtep, probe.Small) }),
			newTrial(vtep, false, func() (probe.Answer, error) { return p.Network.Connect(src, vtep, tries*probeTime) }))
	}
	return append(all, newTrial(dst, false, func() (probe.Answer, error) {
		a, err := p.Network.Step(src, container(peer.Subnet), f.between(peer), tries*probeTime)
		if direct := a.From == peer.PublicIP; direct != (peer.Mode == status.Direct) ||
			!direct && !peer.Subnet.Contains(a.From) {
			a = probe.Answer{} // another router's, or by another way than the peer's containers answer
		}
		return a, err
	}))
}

func (p Prober) peer(f Facts, peer status.Peer, reason string) []Finding {
	src, dst := source(f), gateway(peer.Subnet)
	trials := p.trials(f, src, peer)
	before := p.Dropped()
	if !p.inTurn || !trials[0].wait().Echo {
		for _, t := range trials {
			t.begin()
		}
	}
	said := ""
	for _, t := range trials {
		t.wait() // a good answer spares waiting for the others
		switch {
		case t.err != nil && reason != "": // the source address may be missing
		case t.err != nil:
			return []Finding{{Level: Unknown, Text: t.err.Error()}}
		case t.Echo && t.ping && reason == "":
			found := p.thorough(f, peer, src, t.dst)
			return append(found, p.through(f, peer, src, trials, len(found) == 0)...)
		case t.Answered && (peer.Mode == status.Tunnel || t.From == peer.PublicIP):
			if reason != "" {
				return nil
			}
			return p.through(f, peer, src, trials, true) // it has no docker0 yet, and says so, or lets in no pings
		case t.Text != "" && said == "":
			said = saying(t.Answer)
		}
	}
	if reason != "" {
		return skipped("no answer from %v: fix what %s says first", dst, reason)
	}
	filtered := f.family == inet.IPv4 && p.Dropped() > before // IPv6 has no such filter
	return []Finding{p.lost(f, peer, dst, said, filtered)}
}

// saying completes a sentence by what came in place of an echo.
func saying(a probe.Answer) string { return fmt.Sprintf(": %v says that %s", orHere(a.From), a.Text) }

func orHere(a netip.Addr) string {
	if a.IsValid() {
		return a.String()
	}
	return "this host"
}

func (p Prober) ping(src, dst netip.Addr, size int) (a probe.Answer, err error) {
	return p.pingFor(probeTime, src, dst, size)
}

func (p Prober) pingFor(wait time.Duration, src, dst netip.Addr, size int) (a probe.Answer, err error) {
	for range tries {
		if a, err = p.Network.Ping(src, dst, size, wait); err != nil || a.Answered {
			return a, err
		}
	}
	return a, nil
}
