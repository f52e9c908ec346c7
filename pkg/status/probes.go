package status

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// Probes are what the daemon's standing probes of a sample of its peers have found.
type Probes struct {
	Every float64 `json:"every_seconds"` // a round of probes begins
	Peers []Probe `json:"peers"`         // that were probed lately, the worst first; bounded
}

// Probe is what is known of one peer, over the latest packets that were sent to it.
type Probe struct {
	Subnet   netip.Prefix `json:"subnet"`
	PublicIP netip.Addr   `json:"public_ip"`
	State    string       `json:"state"` // Well, Lossy, Narrow or Silent; what was seen once makes no other
	Last     time.Time    `json:"last"`  // a packet was sent
	Sent     int          `json:"sent_packets"`
	Lost     int          `json:"lost_packets"`
	RTT      float64      `json:"rtt_seconds,omitempty"`    // of the last answer; 0: there was none
	PathMTU  int          `json:"path_mtu_bytes,omitempty"` // the longest packet that got there; 0: none did
	Narrow   bool         `json:"narrow,omitempty"`         // PathMTU is less than the MTU of containers
	Since    time.Time    `json:"since,omitzero"`           // State's first sign; zero: it is well
}

// States of a Probe.
const (
	Well   = "well"
	Lossy  = "lossy"  // some packets get lost
	Narrow = "narrow" // packets as long as containers' may be do not get there
	Silent = "silent" // nothing was answered lately
)

// ProbeStates are all, the worst first.
func ProbeStates() []string { return []string{Silent, Lossy, Narrow, Well} }

// Well reports whether nothing is wrong: a packet that was lost once is no news.
func (p Probe) Well() bool { return p.State == Well }

// Loss is the share of packets that were lost, 0 to 1.
func (p Probe) Loss() float64 { return float64(p.Lost) / float64(max(p.Sent, 1)) }

// Worse compares probes by how bad they are, the worst first.
func Worse(a, b Probe) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.Loss(), a.Loss()), a.Since.Compare(b.Since),
		a.Subnet.Compare(b.Subnet))
}

func rank(p Probe) int {
	for i, s := range ProbeStates() {
		if p.State == s {
			return i
		}
	}
	return len(ProbeStates())
}

// Count is how many of the peers are in each state.
func (p *Probes) Count() map[string]int {
	of := map[string]int{}
	for _, x := range p.Peers {
		of[x.State]++
	}
	return of
}

// Among are the probes of those who are peers still, with their public IPs. They belong to
// the caller.
func (p *Probes) Among(peers []Peer) *Probes {
	if p == nil {
		return nil
	}
	of := make(map[netip.Prefix]netip.Addr, len(p.Peers))
	for _, x := range p.Peers {
		of[x.Subnet] = netip.Addr{}
	}
	still := make(map[netip.Prefix]bool, len(of))
	for _, x := range peers {
		if _, probed := of[x.Subnet]; probed {
			of[x.Subnet], still[x.Subnet] = x.PublicIP, true
		}
	}
	out := &Probes{Every: p.Every, Peers: make([]Probe, 0, len(p.Peers))}
	for _, x := range p.Peers {
		if still[x.Subnet] {
			x.PublicIP = of[x.Subnet]
			out.Peers = append(out.Peers, x)
		}
	}
	return out
}

// worstShown bounds how many peers are named.
const worstShown = 5

// probes shows how many peers have been probed, and names the worst.
func (p *printer) probes(all *Probes) {
	if all == nil {
		return
	}
	if len(all.Peers) == 0 {
		p.row(plain, "probes", "no peer was probed yet")
		return
	}
	of, colour := all.Count(), plain
	text := fmt.Sprintf("%d peers probed", len(all.Peers))
	if len(all.Peers) == 1 {
		text = "1 peer probed"
	}
	said := ", all well"
	for _, s := range []struct{ state, one, many string }{
		{Silent, "does not answer", "do not answer"}, {Lossy, "loses packets", "lose packets"},
		{Narrow, "gets no full packets", "get no full packets"},
	} {
		n := of[s.state]
		if n == 0 {
			continue
		}
		if colour == plain {
			said, colour = "", red
		}
		verb := s.many
		if n == 1 {
			verb = s.one
		}
		said += fmt.Sprintf(", %d %s", n, verb)
	}
	p.row(colour, "probes", text+said)
	for i, x := range all.Peers {
		if i == worstShown || x.Well() {
			break
		}
		p.row(red, "", p.worst(x))
	}
}

// worst says what is wrong with a peer, and what to type.
func (p *printer) worst(x Probe) (text string) {
	switch x.State {
	case Silent:
		text = "does not answer"
	case Lossy:
		text = fmt.Sprintf("lost %d of %d packets", x.Lost, x.Sent)
	default:
		text = fmt.Sprintf("gets packets of up to %d bytes", x.PathMTU)
	}
	return fmt.Sprintf("%v %s (for %s): flanneld check %[1]v", x.Subnet, text, p.age(x.Since))
}

// Change is a thing that became otherwise on this host.
type Change struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"` // a sentence for people
}
