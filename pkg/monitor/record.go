package monitor

import (
	"math/bits"
	"net/netip"
	"time"

	"flanneld/pkg/probe"
	"flanneld/pkg/status"
)

// Path is how packets get to a peer.
type Path struct {
	Since  time.Time  // that it has been so
	Direct bool       // without a tunnel
	Via    netip.Addr // who has the next hop's address, which is the peer's host where Direct
	Hops   int        // that a TTL is less when packets come out at the peer
}

// way is to what packets are sent.
type way int

const (
	through way = iota // an address that a container may have: the peer's host answers as the TTL ends there
	device             // the address of the peer's end of the tunnel, or its docker0's: it answers a ping
	outside            // the public IP of a direct peer, which says nothing of its containers'
)

const (
	remembered = 32 // packets, by which loss is judged

	looksToSilence = 3 // in a row in which nothing answers
	looksToSound   = 2 // in a row in which something does, and that end this
	lossesToLossy  = 3 // of the packets remembered, which one look does not make
	answersToWell  = 20
	answersToClean = 12 // the same of a peer that has lost too few for a name
	looksToNarrow  = 4  // in a row in which a small packet arrives, and a full one does not

	// youth is how long a direct peer's host may answer and not pass on what is for
	// containers: it does not, before dockerd was started.
	youth = 5 * time.Minute
)

// record is what is known of a peer.
type record struct {
	since time.Time // of the path that this is about
	asked time.Time // the last time
	first time.Time // sign that something is wrong; zero: nothing is
	state string    // as status has it

	history uint32 // of the latest packets; the last is bit 0, and 1 is lost
	n       int    // packets in it
	answers int    // in a row

	answered way // that was the last to answer
	known    bool
	rtt      time.Duration // of the last answer

	silent int // looks in a row without any answer
	sound  int // looks in a row with one
	short  int // looks in a row with a small one's alone
	full   int // looks in a row with a full one's

	most      int // bytes of the longest packet that arrived
	low, high int // bytes of one that arrived, and of one that did not, while r.short; 0: none did so
}

// suspect tells whether a peer is to be looked at again soon.
func (r *record) suspect() bool { return r.state != status.Well || !r.first.IsZero() }

// lost are the packets without an answer, of those remembered.
func (r *record) lost() int { return bits.OnesCount32(r.history) }

// packet is one of a look at a peer.
type packet struct {
	probe.Query
	way  way
	full bool // of the MTU of containers
	size bool // it is asked only whether one of this size arrives
}

// repeats is how many more packets a peer gets of which one was lost.
const repeats = 3

// first are the packets of a look: one of full size to who is well.
func (r *record) packets(peer netip.Prefix, p Path, mtu int) []packet {
	by := r.answered
	out := []packet{{Query: query(peer, p, by, mtu), way: by, full: true}}
	if !r.suspect() {
		return out
	}
	if r.short > 0 || r.state == status.Narrow {
		for _, size := range r.sizes(mtu) {
			out = append(out, packet{Query: query(peer, p, by, size), way: by, size: true})
		}
		return append(out, packet{Query: query(peer, p, by, probe.Small), way: by})
	}
	more := repeats
	if r.silent > 0 {
		more = 1
	}
	for range more {
		out = append(out, packet{Query: query(peer, p, by, probe.Small), way: by})
	}
	return out
}

// again are those of a second look at a peer that has answered none of the first: small, and
// to all that may answer.
func again(peer netip.Prefix, p Path) []packet {
	ways := []way{through, device}
	if p.Direct {
		ways = append(ways, outside)
	}
	var out []packet
	for _, w := range ways {
		out = append(out, packet{Query: query(peer, p, w, probe.Small), way: w})
	}
	return out
}

func query(peer netip.Prefix, p Path, w way, size int) probe.Query {
	docker := peer.Addr().Next()
	switch {
	case w == through:
		return probe.Query{Dst: docker.Next(), Size: size, TTL: 1 + p.Hops}
	case w == outside:
		return probe.Query{Dst: p.Via, Size: size}
	case p.Direct:
		return probe.Query{Dst: docker, Size: size}
	}
	return probe.Query{Dst: peer.Addr(), Size: size}
}

// sizes are those by which the longest packet that arrives is looked for, a step a look. Once
// it is found, it and the next longer one are tried: the path may change.
func (r *record) sizes(mtu int) []int {
	low, high := max(r.low, probe.Small), r.high
	if high == 0 {
		high = mtu
	}
	switch {
	case high > low+1:
		return []int{(low + high) / 2}
	case low > probe.Small:
		return []int{low, high}
	}
	return []int{high}
}

// reached tells whether an answer shows that the packet arrived at the peer's host.
func reached(peer netip.Prefix, p Path, a probe.Answer) bool {
	switch {
	case !a.Answered || a.Refusal == probe.TooLong:
		return false
	case a.Echo, peer.Contains(a.From):
		return true
	}
	return p.Direct && a.From == p.Via
}

// answer is what became of a packet.
type answer struct {
	packet
	probe.Heard
	reached bool
}

// look takes up what a look has brought, and returns the packets that count.
func (r *record) look(now time.Time, p Path, mtu int, answers []answer) (counted []count) {
	var full, small *answer // that arrived
	var tried bool          // a full one was sent
	var tooLong bool
	for i := range answers {
		switch a := &answers[i]; {
		case a.Held:
			continue
		case a.full:
			tried = true
			tooLong = a.Refusal == probe.TooLong
			if a.reached {
				full = a
			}
		case a.size:
			r.narrowDown(a.Size, a.reached)
		case a.reached && (small == nil || small.way == outside):
			small = a
		}
	}
	if !tried || full == nil && small != nil && small.way == outside && now.Sub(p.Since) < youth {
		return nil // this host did not let it go, or the peer does not pass on anything yet
	}
	if small != nil && small.way == outside {
		small = nil
	}
	push := func(a *answer) {
		c := count{lost: a == nil}
		if a != nil {
			c.rtt = a.RTT
			if a.RTT > 0 {
				r.rtt = a.RTT
			}
		}
		r.push(c.lost)
		counted = append(counted, c)
	}
	switch {
	case full != nil:
		if r.state != status.Narrow {
			for range min(r.short, looksToNarrow) { // so it was lost, and not too long
				push(nil)
			}
			r.short, r.low, r.high = 0, 0, 0
		}
		r.known, r.full, r.most = true, r.full+1, mtu
		push(full)
	case small != nil && (!r.known || small.way != r.answered):
		r.answered, r.known, r.full = small.way, true, 0
		push(small)
	case small != nil:
		r.short, r.full = r.short+1, 0
		if tooLong {
			r.short++
		}
		push(small)
	default:
		r.full = 0
		push(nil) // and one alone, so that what keeps off two looks makes no peer lossy
	}
	for i := range answers { // those that were sent beside
		a := &answers[i]
		pushed := a == full || full == nil && a == small
		if full == nil && small == nil || pushed || a.full || a.size || a.Held || a.way != r.answered {
			continue
		}
		if a.reached {
			push(a)
		} else {
			push(nil)
		}
	}
	if full == nil && small == nil {
		r.silent, r.sound = r.silent+1, 0
	} else {
		r.silent, r.sound = 0, r.sound+1
	}
	r.judge(now)
	return counted
}

// count is a packet that counts for loss.
type count struct {
	lost bool
	rtt  time.Duration
}

func (r *record) push(lost bool) {
	r.history <<= 1
	r.answers++
	if lost {
		r.history |= 1
		r.answers = 0
	}
	r.n = min(r.n+1, remembered)
}

// narrowDown takes up that a packet of a size arrived, or did not.
func (r *record) narrowDown(size int, arrived bool) {
	switch {
	case arrived && size >= r.high:
		r.low, r.high = size, 0 // longer ones may as well
	case arrived:
		r.low = max(r.low, size)
	case size <= r.low:
		r.low, r.high = 0, size
	default:
		r.high = size
	}
}

// judge says what a peer is. It is called something only once that was seen twice at least.
func (r *record) judge(now time.Time) {
	wrong := r.lost() > 0 || r.short > 0 || r.silent > 0
	if wrong && r.first.IsZero() {
		r.first = now
	}
	switch {
	case r.silent >= looksToSilence:
		r.state = status.Silent
	case r.state == status.Silent:
		if r.sound >= looksToSound { // what was lost while it was silent is over
			r.clean()
		}
	case r.short >= looksToNarrow && r.state != status.Narrow:
		r.state = status.Narrow
	case r.state == status.Narrow:
		if r.full >= looksToSound {
			r.clean()
		}
	case r.lost() >= lossesToLossy:
		r.state = status.Lossy
		if r.answers >= answersToWell {
			r.clean()
		}
	case r.state == status.Lossy:
		if r.answers >= answersToWell {
			r.clean()
		}
	case r.answers >= answersToClean && r.short == 0:
		r.clean()
	}
}

// clean forgets what was wrong.
func (r *record) clean() {
	r.state, r.first = status.Well, time.Time{}
	r.history, r.short, r.low, r.high = 0, 0, 0, 0
}

// shown is what a status says of it.
func (r *record) shown(peer netip.Prefix) status.Probe {
	p := status.Probe{
		Subnet: peer, Last: r.asked, Sent: r.n, Lost: r.lost(), RTT: r.rtt.Seconds(), PathMTU: r.most, State: r.state,
	}
	if r.state == status.Narrow {
		p.Narrow, p.PathMTU = true, max(r.low, probe.Small)
	}
	if r.state != status.Well {
		p.Since = r.first
	}
	return p
}
