package subnet

import (
	"errors"
	"maps"
	"net/netip"
	"time"

	"k8s.io/klog/v2"
)

// question is whether the holder of a lease lives to which no more than hints lead. It is
// put by writing the lease as it is: a holder that lives sees a write that is not its own,
// and answers it.
type question struct {
	key      string
	modified uint64    // index of our write; 0: it is to be done
	until    time.Time // the answer's deadline; or, where the write failed, when it is done again
}

// askTime is ample for an answer. One that comes later still counts: see takenBack.
const askTime = 5 * time.Second

// answer is whose a lease is.
type answer int

const (
	isOpen   answer = iota // not known yet
	isOurs                 // it may be taken
	isTheirs               // its holder lives, and is among the living
)

// ask finds out whether a lease may be taken.
func (h *leaseHolder) ask(l Lease, c Claim, now time.Time) (due step, is answer) {
	q := &h.asked
	if h.evidence(c, &l) == Proof {
		*q = question{}
		return due, isOurs
	}
	if q.key != l.Key {
		*q = question{key: l.Key}
		klog.InfoS("Lease seems to be this host's, under another address: asking whether its holder lives",
			"subnet", l.Subnet, "publicIP", l.PublicIP, "key", h.paths.key(l.Key), "wait", askTime)
	}
	switch {
	case q.modified > 0 && l.Modified > q.modified:
		klog.ErrorS(nil, "Lease's holder lives, and this host is its copy: not taking its subnet",
			"subnet", l.Subnet, "publicIP", l.PublicIP, "key", h.paths.key(l.Key), "advice", moveContainers)
		h.deny(&l)
		return due, isTheirs
	case now.Before(q.until):
		return step{wait: q.until.Sub(now), unsettled: true}, isOpen
	case q.modified > 0:
		return due, isOurs
	}
	ttl := LeaseTTL
	if l.Expires.IsZero() {
		ttl = 0
	}
	return step{do: put, entry: Entry{Key: l.Key, Value: l.Value(l.Attrs), TTL: ttl, Modified: l.Modified}}, isOpen
}

// wroteQuestion notes what became of the write that asks.
func (h *leaseHolder) wroteQuestion(stored Entry, err error, now time.Time) {
	switch {
	case errors.Is(err, ErrConflict): // nothing was written
	case err != nil: // it may have been, and answered; the next answer takes its time
		h.asked.until = now.Add(answerEvery)
	default:
		h.asked.modified, h.asked.until = stored.Modified, now.Add(askTime)
	}
}

// asks tells the write that asks from those of our own lease.
func (h *leaseHolder) asks(due step) bool {
	return due.do == put && !h.own.Subnet.IsValid() && due.entry.Key == h.asked.key
}

// deny notes that a lease's holder lives.
func (h *leaseHolder) deny(l *Lease) {
	if h.living == nil {
		h.living = map[string]netip.Addr{}
	}
	h.living[l.Key], h.asked = l.PublicIP, question{}
}

// forget drops answers of those who do not hold the lease any more: it is gone, or
// another host's, or ours.
func (h *leaseHolder) forget(r *replica, c Claim) {
	if len(h.living) == 0 {
		return
	}
	self := h.self(c)
	maps.DeleteFunc(h.living, func(key string, holder netip.Addr) bool {
		l, there := r.leases[key]
		return !there || l.PublicIP != holder || self.holds(&l)
	})
}

// takenBack tells that another host, whose address our lease has now, is to keep it: it has put
// the address back that the lease had before us, and so is its holder, who lives. Where neither
// knows that any more, as both have been started anew, the lower address keeps it, once it has been
// written again and again. A store that was restored has an old address too, and proves nothing.
func (h *leaseHolder) takenBack(r *replica, c Claim, current *Lease, now time.Time) bool {
	ours := h.address(c, current)
	if current.PublicIP == ours || h.written == 0 || current.Modified <= h.written || r.degraded(now) {
		return false
	}
	return current.PublicIP == h.left || h.answers >= mostAnswers && current.PublicIP.Less(ours)
}

// mostAnswers are those that a host gives to one of a higher address before it knows that this
// host lives, and will not stop.
const mostAnswers = 2

// copied tells that a living holder's lease has our VTEP's MAC: a lease with the same
// would lead packets astray, so nothing is leased before there is another.
func (h *leaseHolder) copied(r *replica, c Claim) bool {
	self := h.self(c)
	for key := range h.living {
		l, there := r.leases[key]
		if !there || self.holds(&l) {
			continue
		}
		for _, ours := range []Endpoint{c.Attrs.first(), c.Attrs.IPv6} {
			if mac := ours.VTEP(); mac != "" && (l.VTEP() == mac || l.IPv6.VTEP() == mac) {
				return true
			}
		}
	}
	return false
}
