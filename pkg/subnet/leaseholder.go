package subnet

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/inet"
)

// Claim is what this host wants of the store: a lease under this config that
// says this of the host.
type Claim struct {
	Config Config
	Attrs  Attrs
	Self   Self // beside what Attrs and the subnet file say

	// Reserved are addresses and networks that this host needs: no subnet that
	// overlaps one is leased. One that is held already is kept.
	Reserved []netip.Prefix
}

// reserves tells whether a subnet may not be leased, as this host or a peer is
// reached by an address in it.
func (c Claim) reserves(p netip.Prefix) bool { return slices.ContainsFunc(c.Reserved, p.Overlaps) }

// reservesAddress is reserves for a lease that there is already. A network around it
// is no reason to leave it: hosts whose network is as wide as the cluster's, or holds a
// part of it, have worked that way.
func (c Claim) reservesAddress(p netip.Prefix) bool {
	return slices.ContainsFunc(c.Reserved, func(r netip.Prefix) bool { return r.IsSingleIP() && p.Contains(r.Addr()) })
}

// LeaseTTL is the lifetime of every lease, as flannel has it.
const LeaseTTL = 24 * time.Hour

// lookAgain bounds every wait: timers stand still while a machine sleeps, so
// the clock on the wall is looked at this often.
const lookAgain = time.Minute

// step is what to do next about this host's lease: nothing until a time, or
// one write.
type step struct {
	do    action
	entry Entry
	old   Entry // that goes with a replacement
	wait  time.Duration

	unsettled bool // there is something to write, after the wait
}

type action int

const (
	wait action = iota
	put
	replace
	refresh
	remove
)

// leaseHolder decides about this host's own lease. It does no I/O: next looks at
// the replica and names the one write that is due, and what became of a write
// shows in the replica. A lease counts as held only once the replica shows it,
// because only then every earlier claim to the same addresses shows as well.
type leaseHolder struct {
	margin   time.Duration // renew this long before the lease expires
	previous Subnets       // the subnet file's, the first choice of a new host

	own       Lease                     // zero: none; it may lack a family that was just asked for
	good      Subnets                   // of it, those that this host may use
	candidate Subnets                   // being created; kept until they show or are refused
	made      time.Time                 // when the key that we hold showed, where we created it
	refused   map[netip.Prefix]struct{} // somebody else was first, though the replica does not show it yet
	explained bool                      // said why the subnet file's subnet is not taken
	full      bool                      // no subnet was free at the last try

	written        uint64    // index of our last write; 0: its outcome is unknown
	announce       bool      // the lease is to be written though it says what it should
	contested      bool      // another host wrote our lease; our answer is due
	answered       time.Time // when we last gave one
	answers        int       // since it is contested
	contestedUntil time.Time // at least: it is reported until then
	questioned     time.Time // when another host last wrote our lease as it is, which was no contest

	asked  question
	living map[string]netip.Addr // by key, the holders that have answered, so that hints were wrong
	left   netip.Addr            // the public IP that our lease had before we gave it another

	paths paths

	lost lostWrites

	tidied  string               // the key with which tidy is done
	dropped map[string]time.Time // keys that it has tried to remove, and when it tries again; zero: never
}

// held is the lease with the subnets that this host may use.
func (h *leaseHolder) held() Lease { return h.own.only(h.good) }

// moveContainers is what to do where a host gets another subnet.
const moveContainers = "restart this host's containers, which moves them"

// Two hosts with one public IP share a lease, and cannot tell by its content.
// So a host that finds its lease at start writes it once: the other, at work
// already, sees a write that is not its own, and answers it likewise.
const (
	answerEvery   = time.Minute
	answersAtOnce = 3
	contestedFor  = 10 * time.Minute
)

// lostWrites are writes in a row that ended in a conflict.
type lostWrites struct {
	key      string // of the last one
	modified uint64
	inARow   int
}

// mostLost is how many subnets in a row may turn out to be taken before that is
// no bad luck any more.
const mostLost = 10

// lose notes a conflict, and tells whether it is no progress: the same write was
// lost before, though everything was listed in between, or too many others were.
func (l *lostWrites) lose(e Entry) (stuck bool) {
	again := l.inARow > 0 && l.key == e.Key && l.modified == e.Modified
	*l = lostWrites{e.Key, e.Modified, l.inARow + 1}
	return again || l.inARow > mostLost
}

// next names what is due at now.
func (h *leaseHolder) next(r *replica, c Claim, now time.Time) step {
	h.forget(r, c)
	if h.own.Subnet.IsValid() {
		if s, ok := h.maintain(r, c, now); ok {
			return h.tidy(r, c, s, now)
		}
	}
	return h.acquire(r, c, now)
}

// tidy removes what this host has no more use for: what it held in a former Network, the
// key that its present one took the place of, and what it created a moment after another
// host had leased that by another key. It does so once for each key that it takes, when
// nothing else is due. A reservation is an operator's, and stays.
func (h *leaseHolder) tidy(r *replica, c Claim, due step, now time.Time) step {
	if due.do != wait || h.contested || h.tidied == h.own.Key || len(c.Config.Lacking(h.own.Subnets())) > 0 {
		return due
	}
	self, done := h.self(c), h.own.Key
	for key, l := range r.leases {
		again, tried := h.dropped[key]
		if now.Before(again) {
			done = ""
		}
		tried = tried && (again.IsZero() || now.Before(again))
		if key == h.own.Key || self.Evidence(&l) != Proof || l.Expires.IsZero() || tried {
			continue
		}
		covered, useless := false, true
		for _, p := range l.Subnets().All() {
			half, used := c.Config.For(inet.Of(p.Addr()))
			other, overlaps := r.overlapping(p, h.notOther(c, key))
			lost := overlaps && older(&other, &l)
			held := h.own.Subnets().has(p)
			covered, useless = covered || held, useless && (lost || !used || half.Outside(p))
		}
		if !covered && !useless { // of two with one subnet, the end of either takes its route away at flannel's hosts
			continue
		}
		klog.InfoS("Removing a lease of this host's that it has no more use for",
			"key", h.paths.key(key), "network", c.Config.Network)
		if h.dropped == nil {
			h.dropped = map[string]time.Time{}
		}
		h.dropped[key] = time.Time{} // whatever becomes of it: it ends by itself; but see dropFailed
		// Who takes a subnet's route away by the key that goes has it again by the one that stays.
		h.announce = h.announce || covered
		return step{do: remove, entry: Entry{Key: key, Modified: l.Modified}}
	}
	h.tidied = done
	return due
}

// dropFailed has tidy try again to remove a key that must not end by itself, as it shares a
// subnet with the one that is held.
func (h *leaseHolder) dropFailed(key string, now time.Time) {
	if s, err := ParseKey(key); err == nil && h.own.Subnets().shares(s) {
		h.dropped[key] = now.Add(lookAgain)
	}
}

// maintain looks after the lease that is held; false means that it is not any more.
func (h *leaseHolder) maintain(r *replica, c Claim, now time.Time) (step, bool) {
	if h.candidate != (Subnets{}) {
		if made, there := r.leases[h.candidate.Key()]; there && h.evidence(c, &made) == Proof {
			h.adopt(made, now) // in the place of the present one
		}
	}
	subnets := h.own.Subnets()
	current, exists := r.leases[h.own.Key]
	if !exists {
		current = h.own
		current.Created = math.MaxUint64 // whatever is there came first
	}
	mine := h.evidence(c, &current) != NoEvidence || current.Attrs == h.own.Attrs
	first := func() Lease { // of those that another host has
		other, _ := r.overlappingAny(c.Config.fitting(subnets), h.notOther(c, h.own.Key))
		return other
	}
	good := h.goodOf(r, c, &current)
	h.good = good
	switch {
	case c.Config.fitting(subnets) == Subnets{}:
		klog.ErrorS(nil, "Lease does not fit the config any more: taking another subnet",
			"subnet", subnets, "advice", moveContainers)
		h.own = Lease{}
		return step{}, false

	case exists && !mine:
		klog.ErrorS(nil, "Lease belongs to another host now: taking another subnet",
			"subnet", subnets, "publicIP", current.PublicIP, "advice", moveContainers)
		h.own = Lease{}
		return step{}, false

	case exists && h.takenBack(r, c, &current, now):
		klog.ErrorS(nil, "Lease's holder lives at the former address, and this host is its copy: taking another subnet",
			"subnet", subnets, "publicIP", current.PublicIP, "advice", moveContainers)
		h.deny(&current)
		h.own = Lease{}
		return step{}, false

	case good == Subnets{}:
		other := first()
		klog.ErrorS(nil, "Lease overlaps one that another host took earlier: giving it up and taking another subnet",
			"subnet", subnets, "other", other.Subnets(), "publicIP", other.PublicIP, "advice", moveContainers)
		h.own = Lease{}
		if exists {
			return step{do: remove, entry: Entry{Key: current.Key, Modified: current.Modified}}, true
		}
		return step{}, false

	case !exists: // or turned into what names no holder
		entry := Entry{
			Key: h.own.Key, Value: h.own.Value(c.Attrs), TTL: LeaseTTL, Modified: r.malformedAt[h.own.Key],
		}
		h.tidied, h.dropped = "", nil // a store that was put back has again what was removed
		if old, there := h.before(r, c); there {
			return step{do: replace, entry: entry, old: old}, true
		}
		return step{do: put, entry: entry}, true
	}

	h.adopt(current, now)
	left := h.untilRenewal(now)
	ttl := LeaseTTL
	if current.Expires.IsZero() { // a reservation stays one
		ttl = 0
	}
	entry := Entry{Key: h.own.Key, Value: h.own.Value(c.Attrs), TTL: ttl, Modified: h.own.Modified}
	if !current.Says(c.Attrs) || h.announce {
		if h.contested {
			if again := h.answered.Add(answerEvery); h.answers >= answersAtOnce && now.Before(again) {
				return step{wait: again.Sub(now)}, true
			}
			h.answered, h.answers = now, h.answers+1
		} else if was := h.address(c, &current); current.PublicIP != was {
			h.left = current.PublicIP
		}
		return step{do: put, entry: entry}, true
	}
	if len(c.Config.Lacking(good)) > 0 {
		if young := seenByAll - now.Sub(h.made); young > 0 {
			return step{wait: young, unsettled: true}, true
		}
		if s, due := h.complete(r, c, good, now); due {
			if good != c.Config.fitting(subnets) {
				other := first()
				klog.ErrorS(nil, "Lease overlaps one that another host took earlier: taking another subnet of that family",
					"subnet", subnets, "other", other.Subnets(), "publicIP", other.PublicIP, "advice", moveContainers)
			}
			return s, true
		}
	}
	switch {
	case ttl > 0 && left <= 0:
		return step{do: refresh, entry: entry}, true
	case ttl > 0:
		return step{wait: min(left, lookAgain)}, true
	}
	return step{wait: lookAgain}, true
}

// seenByAll is ample for other hosts to see a key that is new. Who has created one for the
// same subnet a moment later sees that he was: had the key been replaced by then, which
// makes it the younger one, both would work with the subnet.
const seenByAll = time.Second

// complete gives a lease the families that it lacks, by a key in its place that has its good
// subnets and others beside: they are leased at each moment. What another lease of ours has comes
// before new ones.
func (h *leaseHolder) complete(r *replica, c Claim, good Subnets, now time.Time) (step, bool) {
	with := good
	for f, p := range good {
		// The new key would come after one that names p as well, and so lose p.
		_, later := r.overlapping(p, h.notOther(c, h.own.Key))
		switch {
		case later && f == inet.IPv4.Index(): // which containers work with
			return step{}, false
		case later:
			with[f] = netip.Prefix{}
		}
	}
	for _, l := range h.leasedToUs(r, c) {
		has := h.goodOf(r, c, &l)
		if h.evidence(c, &l) != Proof {
			continue
		}
		if len(c.Config.Lacking(has)) == 0 && has.covers(with) {
			h.adopt(l, now)
			return h.maintain(r, c, now)
		}
		for _, f := range c.Config.Lacking(with) {
			if _, later := r.overlapping(has.Of(f), h.notOther(c, l.Key)); !later {
				with[f.Index()] = has.Of(f)
			}
		}
	}
	s := h.create(r, c, with)
	if s.do != put {
		return step{}, false
	}
	if !h.own.Expires.IsZero() { // a reservation is an operator's
		s.do, s.old = replace, Entry{Key: h.own.Key, Modified: h.own.Modified}
	}
	return s, true
}

// before is the key that the lease held took the place of, where a store has that again.
func (h *leaseHolder) before(r *replica, c Claim) (Entry, bool) {
	self := h.self(c)
	for key, l := range r.leases {
		if self.Evidence(&l) == Proof && !l.Expires.IsZero() && h.own.Subnets().covers(l.Subnets()) {
			return Entry{Key: key, Modified: l.Modified}, true
		}
	}
	return Entry{}, false
}

// address is the public IP that this host would give a lease.
func (h *leaseHolder) address(c Claim, l *Lease) netip.Addr { return l.merge(c.Attrs).PublicIP }

// adopt takes over what the replica shows of our lease.
func (h *leaseHolder) adopt(current Lease, now time.Time) {
	switch {
	case h.own.Key != current.Key:
		klog.InfoS("Holding a lease", "subnet", current.Subnets(), "key", h.paths.key(current.Key), "expires", current.Ends())
		h.announce, h.contested = h.candidate != current.Subnets(), false
		if h.made = (time.Time{}); !h.announce {
			h.made = now
		}
		h.contestedUntil, h.questioned = time.Time{}, time.Time{}
	case h.own.Modified == current.Modified:
		return
	case current.Attrs == h.own.Attrs && current.Expires.IsZero() != h.own.Expires.IsZero():
		klog.InfoS("Lease became a reservation, or stopped being one", "subnet", current.Subnets(), "expires", current.Ends())
	case h.written != 0 && h.written != current.Modified:
		h.noteForeignWrite(current, now)
	default:
		h.announce, h.contested = false, false
	}
	h.own, h.candidate, h.refused, h.written = current, Subnets{}, nil, current.Modified
}

// noteForeignWrite notes that somebody else wrote our lease, which is to be answered. Once and
// as it is, a copy of this host asks so whether we live; who holds it too writes again, as we do.
func (h *leaseHolder) noteForeignWrite(current Lease, now time.Time) {
	h.announce = true
	if now.After(h.contestedUntil) {
		h.answers = 0
		if current.Attrs == h.own.Attrs && now.Sub(h.questioned) > answerEvery {
			h.questioned = now
			klog.InfoS("Another host asks whether this lease's holder lives: answering",
				"subnet", current.Subnets(), "publicIP", current.PublicIP, "key", h.paths.key(current.Key))
			return
		}
	}
	h.contested = true
	h.contestedUntil = now.Add(contestedFor)
}

// recordRenewal takes over the reply to a renewal.
func (h *leaseHolder) recordRenewal(e Entry, now time.Time) {
	h.own.Modified, h.own.Expires, h.own.ExpiryUnknown = e.Modified, expiry(e, now), false
	klog.InfoS("Renewed the lease", "subnet", h.own.Subnets(), "expires", h.own.Ends())
}

// apart is how far this host's two clocks may part before a lease is renewed
// for it.
const apart = 10 * time.Second

// untilRenewal is how long the lease needs no renewal. The monotonic clock
// stands still in suspend, and the wall clock can be wrong and set right: where
// they have parted, renewing is cheaper than to find out which to believe, and
// makes both right. So it is where the store does not tell the expiry.
func (h *leaseHolder) untilRenewal(now time.Time) time.Duration {
	left, byWall := h.own.Expires.Sub(now), h.own.Expires.Round(0).Sub(now.Round(0))
	if h.own.ExpiryUnknown || (left-byWall).Abs() > apart {
		return 0
	}
	return left - h.margin
}
