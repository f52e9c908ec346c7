package check

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/status"
)

// Prober tries paths.
type Prober struct {
	Network Network
	Dropped func() int // packets that rp_filter has dropped so far
}

const (
	probeTime    = 500 * time.Millisecond // for an answer
	tries        = 2
	small        = 84 // bytes, as ping sends them
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
	send func() (Answer, error)
	done chan struct{} // closed when what follows is known
	Answer
	err error
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

// trials are docker0's address on the peer, which is not there before docker,
// and, for a tunnel, the VTEP's, by TCP too. The firewall there may let in none
// of these, and the peer still says that it would pass on what is for a container.
func (p Prober) trials(src netip.Addr, peer status.Peer) []*trial {
	dst, vtep := gateway(peer.Subnet), peer.Subnet.Addr()
	all := []*trial{{dst: dst, ping: true, send: func() (Answer, error) { return p.ping(src, dst, small) }}}
	if peer.Mode == status.Tunnel {
		all = append(all,
			&trial{dst: vtep, ping: true, send: func() (Answer, error) { return p.ping(src, vtep, small) }},
			&trial{dst: vtep, send: func() (Answer, error) { return p.Network.Connect(src, vtep, tries*probeTime) }})
	}
	return append(all, &trial{dst: dst, send: func() (Answer, error) {
		a, err := p.Network.Step(src, container(peer.Subnet), 0, tries*probeTime)
		if direct := a.From == peer.PublicIP; direct != (peer.Mode == status.Direct) ||
			!direct && !peer.Subnet.Contains(a.From) {
			a = Answer{} // another router's, or by another way than the peer's containers answer
		}
		return a, err
	}})
}

func (p Prober) peer(f Facts, peer status.Peer, reason string) []Finding {
	src, dst := source(f), gateway(peer.Subnet)
	trials := p.trials(src, peer)
	before := p.Dropped()
	for _, t := range trials {
		t.done = make(chan struct{})
		go func() { // for as long as send waits
			defer close(t.done)
			t.Answer, t.err = t.send()
		}()
	}
	said := ""
	for _, t := range trials {
		<-t.done // a good answer spares waiting for the others
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
			said = fmt.Sprintf(": %v says that %s", orHere(t.From), t.Text)
		}
	}
	if reason != "" {
		return skipped("no answer from %v: fix what %s says first", dst, reason)
	}
	filtered := f.family == inet.IPv4 && p.Dropped() > before // IPv6 has no such filter
	return []Finding{p.lost(f, peer, dst, said, filtered)}
}

func orHere(a netip.Addr) string {
	if a.IsValid() {
		return a.String()
	}
	return "this host"
}

func (p Prober) ping(src, dst netip.Addr, size int) (a Answer, err error) {
	return p.pingFor(probeTime, src, dst, size)
}

func (p Prober) pingFor(wait time.Duration, src, dst netip.Addr, size int) (a Answer, err error) {
	for range tries {
		if a, err = p.Network.Ping(src, dst, size, wait); err != nil || a.Answered {
			return a, err
		}
	}
	return a, nil
}
