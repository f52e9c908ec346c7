package lab

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// lostAfter is the time without an answer after which a ping counts as lost. The kernel's clock
// decides when the answer came, not the moment at which it is read.
const lostAfter = 2 * time.Second

// Stats are the results of a Pinger.
type Stats struct {
	Sent, Lost int
	Rows       int // of lost pings, with answers in between
	// Gap is the longest time without connection: from the first ping of a
	// row of lost ones to the next ping that was answered.
	Gap time.Duration
	// First is when the first lost one was sent, and Refused is what the own network stack said of
	// the first that it did not take; nil: it took all.
	First   time.Time
	Refused error
	// Dropped is what the machine, with all its labs, dropped from the first ping to Stop.
	Dropped Dropped
	// Median is that of the times that the answers took.
	Median time.Duration
}

func (s Stats) String() string {
	if s.Lost == 0 {
		return fmt.Sprintf("%d pings sent, all answered", s.Sent)
	}
	said := fmt.Sprintf("%d pings sent, %d lost in %d rows, longest gap %v, first at %s",
		s.Sent, s.Lost, s.Rows, s.Gap.Round(time.Millisecond), s.First.UTC().Format("15:04:05.000"))
	if s.Refused != nil {
		said += ": " + s.Refused.Error()
	}
	return said + "; " + s.Dropped.String()
}

// Plus is what both have seen.
func (s Stats) Plus(o Stats) Stats {
	if s.Lost == 0 || o.Lost > 0 && o.First.Before(s.First) {
		s, o = o, s
	}
	return Stats{
		Sent: s.Sent + o.Sent, Lost: s.Lost + o.Lost, Rows: s.Rows + o.Rows, Gap: max(s.Gap, o.Gap),
		First: s.First, Refused: cmp.Or(s.Refused, o.Refused),
		Dropped: s.Dropped.or(o.Dropped),
	}
}

// Ping ends the test unless a single ping is answered.
func (n *Node) Ping(to Target) {
	n.lab.t.Helper()
	if !n.answered(to, lostAfter, lostAfter) {
		n.lab.t.Fatalf("%s gets no answer from %s (%v)", n, to, to.Address())
	}
}

// Reach pings until there is an answer and returns how long that took. It ends
// the test if there is none within the given time.
func (n *Node) Reach(to Target, within time.Duration) time.Duration {
	n.lab.t.Helper()
	start := time.Now()
	if !n.TryReach(to, within) {
		n.lab.t.Fatalf("%s has not reached %s (%v) within %v", n, to, to.Address(), within)
	}
	return time.Since(start)
}

// TryReach is Reach, but may fail.
func (n *Node) TryReach(to Target, within time.Duration) bool {
	n.lab.t.Helper()
	return n.answered(to, 20*time.Millisecond, within)
}

// answered pings until any of the pings is answered.
func (n *Node) answered(to Target, interval, within time.Duration) bool {
	n.lab.t.Helper()
	p := n.newPinger(to)
	defer p.conn.Close()
	answered := false
	p.onAnswer = func() {
		answered = true
		p.waitUntil(past)
	}
	for end := time.Now().Add(within); !answered && time.Now().Before(end); {
		p.send()
		p.waitUntil(time.Now().Add(interval))
		p.receive()
	}
	return answered
}

func (p *Pinger) stats(end time.Time) Stats {
	s := Stats{Sent: len(p.pings)}
	var since time.Time // the first of the present row of lost pings
	var took []time.Duration
	for i, g := range p.pings {
		if g.answered {
			took = append(took, g.took)
			since = time.Time{}
			continue
		}
		if s.Lost++; s.Lost == 1 {
			s.First = g.sent
		}
		s.Refused = cmp.Or(s.Refused, g.refused)
		if since.IsZero() {
			since = g.sent
			s.Rows++
		}
		until := end
		if i+1 < len(p.pings) {
			until = p.pings[i+1].sent
		}
		s.Gap = max(s.Gap, until.Sub(since))
	}
	if len(took) > 0 {
		slices.Sort(took)
		s.Median = took[len(took)/2]
	}
	return s
}
