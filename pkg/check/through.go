package check

import (
	"fmt"
	"net/netip"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// A peer's own addresses, docker0's too, answer where the peer forwards nothing.
// So a container's address is tried, and one that no container has. For the second
// the peer asks on its bridge and then says that there is no such host, and it asks
// only once a packet has passed all its rules: FORWARD comes before the output,
// where the neighbour is looked for. What the kernel answers (Linux 6.1; a container
// has .2):
//
//	on the peer                      TTL ends there  .2           .254
//	all is well                      expired         echo         no host, after 3 s
//	no container                     expired         no host      no host
//	ip_forward=0, or the device's    -               -            -
//	FORWARD drops, or -o docker0     expired         -            -
//	FORWARD rejects                  expired         forbidden    forbidden
//	-i docker0 drops                 expired         -            no host
//	docker0 does not forward         expired         -            no host
//	raw drops what is for .2         -               -            no host
//	docker0 is down, or not there    no network      no network   no network
//	the same, and a default route    expired         by another router, or -
//
// An echo to docker0's address comes back in all of these but where it is not there.
//
// IPv6 is the same but for two things: a bridge that is down has no address any more, and
// only net.ipv6.conf.all.forwarding decides, not that of a device (Linux 6.18).

const (
	neighbourTime = 4 * time.Second // in which a kernel gives a neighbour up: three tries, one a second (arp(7))
	secondTry     = time.Second     // after which a packet may be lost
	// forgotten is when a neighbour that is gone has failed, counted from the end of
	// the first tries on: it is probed after five seconds, three times.
	forgotten = 8*time.Second + 500*time.Millisecond - neighbourTime - secondTry
)

// unused is the address of a subnet that a container has last.
func unused(p netip.Prefix) netip.Addr { return inet.Last(p).Prev() }

// through finds out whether a peer passes on what is for its containers; by TCP too,
// where that gets as far as the peer.
func (p Prober) through(f Facts, peer status.Peer, src netip.Addr, trials []*trial, tcp bool) []Finding {
	container, none, err := p.behind(f, src, peer)
	if err != nil {
		return []Finding{{Level: Unknown, Text: err.Error()}}
	}
	if container.Echo {
		if tcp {
			return p.tcpThrough(f, peer, src)
		}
		return nil
	}
	bridge, step := trials[0].wait(), trials[len(trials)-1]
	there := f.checkThere(peer)
	a := container
	if !a.Answered {
		a = none
	}
	switch {
	case a.Refusal == probe.Forbidden || a.Refusal == probe.NoPort:
		return []Finding{fault([]string{there + ": which rule?"},
			"%v does not pass on what is for its containers: it says that a firewall forbids it", peer.PublicIP).
			because(Rejected)}
	case a.Refusal == probe.NoNetwork && bridge.Echo:
		return []Finding{fault([]string{there}, "%v has no way to its own containers, though it has the address %v: %s; "+
			"is the bridge there down?", peer.PublicIP, bridge.dst, a.Text).because(BridgeDown)}
	case a.Refusal == probe.NoNetwork:
		return []Finding{{Level: Note, Fix: []string{there}, reason: NoBridge, Text: fmt.Sprintf(
			"%v has no bridge for containers: %s", peer.PublicIP, a.Text)}}
	case container.Answered:
		return nil
	case none.Answered:
		return p.silent(f, peer, src)
	}
	switch {
	case !step.wait().Answered:
		fix := []string{there}
		if f.family == inet.IPv4 { // of which nothing else is lost by it
			fix = []string{"sysctl -w " + f.words().forwarding + "=1   # on the peer " + peer.PublicIP.String(), there}
		}
		return []Finding{fault(fix, "%v does not pass on what is for its containers: it answers itself, and seems to "+
			"forward nothing", peer.PublicIP).because(NotForwarding)}
	case bridge.Echo:
		return []Finding{fault([]string{there + ": which rule?"},
			"%v does not pass on what is for its containers, though it forwards: a rule of its firewall seems to drop it, "+
				"or its bridge is down", peer.PublicIP).because(Dropped)}
	}
	return []Finding{{Level: Unknown, Fix: []string{there}, reason: NotSeen, Text: fmt.Sprintf(
		"whether %v passes on what is for its containers was not seen: neither they nor its bridge %v answer",
		peer.PublicIP, bridge.dst)}}
}

// behind is what comes back from a container's address, and, where that is
// nothing, from an address that no container has.
func (p Prober) behind(f Facts, src netip.Addr, peer status.Peer) (there, none probe.Answer, err error) {
	ask := func(dst netip.Addr) *trial {
		t := newTrial(dst, false, func() (probe.Answer, error) { return p.inside(f, src, dst, peer) })
		t.begin()
		return t
	}
	first := ask(container(peer.Subnet))
	select {
	case <-first.done:
	case <-time.After(secondTry):
	}
	if first.over() && (first.Answered || first.err != nil) {
		return first.Answer, none, first.err
	}
	second, other := ask(container(peer.Subnet)), ask(unused(peer.Subnet))
	for _, t := range []*trial{first, second} {
		if <-t.done; t.Answered || t.err != nil {
			return t.Answer, none, t.err
		}
	}
	<-other.done
	return there, other.Answer, other.err
}

// inside pings an address behind a peer for as long as the peer may look for it. No
// router but the peer may pass it on: where another one answers, the peer has sent it
// elsewhere, by its default route as a rule.
func (p Prober) inside(f Facts, src, dst netip.Addr, peer status.Peer) (probe.Answer, error) {
	a, err := p.Network.Step(src, dst, f.between(peer)+1, neighbourTime)
	switch {
	case a.From == peer.PublicIP || peer.Subnet.Contains(a.From):
	case a.From.IsValid() && !f.local(a.From):
		a.Refusal, a.Text = probe.NoNetwork, fmt.Sprintf("what is for them goes on to %v", a.From)
	default:
		a = probe.Answer{} // none, or this host's own
	}
	return a, err
}

// tcpThrough tries TCP where a container answers pings.
func (p Prober) tcpThrough(f Facts, peer status.Peer, src netip.Addr) []Finding {
	dst := container(peer.Subnet)
	if a, err := p.Network.Connect(src, dst, 3*probeTime); err != nil || a.Answered {
		return nil
	}
	return []Finding{{Level: Unknown, Fix: []string{f.checkThere(peer)}, reason: NoTCPInside, Text: fmt.Sprintf(
		"the container %v answers pings, and not even refuses TCP to port %d: a rule on %v drops it, or the container does",
		dst, probe.Discard, peer.PublicIP)}}
}

// silent is about a container that its host finds, and that does not answer. Its
// host may only remember one that is gone: it finds that out within eight seconds
// of the first packet, and takes three more to say so.
func (p Prober) silent(f Facts, peer status.Peer, src netip.Addr) []Finding {
	dst := container(peer.Subnet)
	if a, err := p.Network.Connect(src, dst, forgotten); err == nil && a.Answered {
		return nil
	}
	if a, err := p.inside(f, src, dst, peer); err == nil && a.Answered {
		return nil
	}
	return []Finding{{Level: Unknown, Fix: []string{f.checkThere(peer)}, reason: ContainerSilent, Text: fmt.Sprintf(
		"%v finds the container %v, which answers neither pings nor TCP: a rule there drops them, or what it answers, "+
			"or the container does", peer.PublicIP, dst)}}
}
