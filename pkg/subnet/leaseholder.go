package subnet

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"
)

// Claim is what this host wants of the store: a lease under this config that
// says this of the host.
type Claim struct {
	Config Config
	Attrs  Attrs
	Addrs  []netip.Addr // of the external interface: where the subnet file's lease has one of them, it is ours
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
	wait  time.Duration
}

type action int

const (
	wait action = iota
	put
	refresh
	remove
)

// leaseHolder decides about this host's own lease. It does no I/O: next looks at
// the replica and names the one write that is due, and what became of a write
// shows in the replica. A lease counts as held only once the replica shows it,
// because only then every earlier claim to the same addresses shows as well.
type leaseHolder struct {
	margin   time.Duration // renew this long before the lease expires
	previous netip.Prefix  // the subnet file's, the first choice of a new host

	own       Lease                     // zero: none
	candidate netip.Prefix              // being created; kept until it shows or is refused
	refused   map[netip.Prefix]struct{} // somebody else was first, though the replica does not show it yet
	warned    bool                      // said why the subnet file's subnet is not taken
	full      bool                      // said that no subnet is free

	written   uint64    // index of our last write; 0: its outcome is unknown
	announce  bool      // the lease is to be written though it says what it should
	contested bool      // another host wrote our lease; our answer is due
	answered  time.Time // when we last gave one
	complain  time.Time // say no more of it before this
}

// Two hosts with one public IP share a lease, and cannot tell by its content.
// So a host that finds its lease at start writes it once: the other, at work
// already, sees a write that is not its own, and answers it likewise.
const (
	answerEvery   = time.Minute
	complainEvery = 10 * time.Minute
)

// next names what is due at now.
func (h *leaseHolder) next(r *replica, c Claim, now time.Time) step {
	if h.own.Subnet.IsValid() {
		if s, ok := h.maintain(r, c, now); ok {
			return s
		}
	}
	return h.acquire(r, c, now)
}

// maintain looks after the lease that is held; false means that it is not any more.
func (h *leaseHolder) maintain(r *replica, c Claim, now time.Time) (step, bool) {
	subnet := h.own.Subnet
	current, exists := r.leases[subnet]
	other, overlaps := r.overlapping(subnet)
	mine := exists && (c.ours(current.Attrs) || current.Attrs == h.own.Attrs)
	switch {
	case !c.Config.Fits(subnet):
		klog.Warningf("lease of %v does not fit the config any more: taking another subnet; restart this host's containers to move them", subnet)
		h.own = Lease{}
		return step{}, false

	case exists && !mine:
		klog.Errorf("lease of %v now belongs to %v: this host gives it up and takes another; restart its containers to move them", subnet, current.PublicIP)
		h.own = Lease{}
		return step{}, false

	case overlaps && (!exists || other.Created < current.Created):
		klog.Errorf("lease of %v overlaps %v, which %v leased earlier: this host gives its own up and takes another; restart its containers to move them",
			subnet, other.Subnet, other.PublicIP)
		h.own = Lease{}
		if exists {
			return step{do: remove, entry: Entry{Key: Key(subnet), Modified: current.Modified}}, true
		}
		return step{}, false

	case !exists: // or turned into what names no holder
		return step{do: put, entry: Entry{Key: Key(subnet), Value: c.Attrs.Marshal(), TTL: LeaseTTL, Modified: r.malformedAt[subnet]}}, true
	}

	h.adopt(current, now)
	left := h.untilRenewal(now)
	ttl := LeaseTTL
	if current.Expires.IsZero() { // a reservation stays one
		ttl = 0
	}
	entry := Entry{Key: Key(subnet), Value: c.Attrs.Marshal(), TTL: ttl, Modified: h.own.Modified}
	switch {
	case current.Attrs != c.Attrs || h.announce:
		if h.contested {
			if again := h.answered.Add(answerEvery); now.Before(again) {
				return step{wait: again.Sub(now)}, true
			}
			h.answered = now
		}
		return step{do: put, entry: entry}, true
	case ttl > 0 && left <= 0:
		return step{do: refresh, entry: entry}, true
	case ttl > 0:
		return step{wait: min(left, lookAgain)}, true
	}
	return step{wait: lookAgain}, true
}

// adopt takes over what the replica shows of our lease.
func (h *leaseHolder) adopt(current Lease, now time.Time) {
	switch {
	case h.own.Subnet != current.Subnet:
		klog.Infof("holding the lease of %v%s", current.Subnet, until(current))
		h.announce, h.contested = h.candidate != current.Subnet, false
	case h.own.Modified == current.Modified:
		return
	case current.Attrs == h.own.Attrs && current.Expires.IsZero() != h.own.Expires.IsZero():
		klog.Infof("the lease of %v became %s", current.Subnet, kindOf(current))
	case h.written != 0 && h.written != current.Modified:
		h.noteForeignWrite(current, now)
	default:
		h.announce, h.contested = false, false
	}
	h.own, h.candidate, h.refused, h.written = current, netip.Prefix{}, nil, current.Modified
}

// noteForeignWrite notes that somebody else wrote our lease.
func (h *leaseHolder) noteForeignWrite(current Lease, now time.Time) {
	h.announce, h.contested = true, true
	if now.Before(h.complain) {
		return
	}
	h.complain = now.Add(complainEvery)
	klog.Errorf("lease of %v was written by somebody else with this host's public IP %v: another host seems to use the same address, "+
		"so traffic reaches only one of them; give each its own with --public-ip or --iface", current.Subnet, current.PublicIP)
}

func kindOf(l Lease) string {
	if l.Expires.IsZero() {
		return "a reservation"
	}
	return "one that expires"
}

func until(l Lease) string {
	switch {
	case l.Expires.IsZero():
		return ", a reservation without expiry"
	case l.ExpiryUnknown:
		return ", whose expiry is unknown"
	}
	return " until " + l.Expires.Format(time.RFC3339)
}

// renewed takes over the reply to a renewal.
func (h *leaseHolder) renewed(e Entry, now time.Time) {
	h.own.Modified, h.own.Expires, h.own.ExpiryUnknown = e.Modified, expiry(e, now), false
	klog.Infof("renewed the lease of %v%s", h.own.Subnet, until(h.own))
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

// acquire finds the subnet that this host should hold: the one leased to its
// public IP, else the one in its subnet file, else a free one.
func (h *leaseHolder) acquire(r *replica, c Claim, now time.Time) step {
	if own, ok := h.leasedToUs(r, c); ok {
		h.adopt(own, now)
		s, held := h.maintain(r, c, now)
		if held {
			return s
		}
	}
	if subnet, ok := h.choose(r, c); ok {
		h.candidate, h.full = subnet, false
		return step{do: put, entry: Entry{Key: Key(subnet), Value: c.Attrs.Marshal(), TTL: LeaseTTL}}
	}
	if !h.full {
		klog.Errorf("every subnet of %v from %v to %v is leased: waiting for a free one; widen SubnetMin and SubnetMax, or delete the leases of hosts that are gone",
			c.Config.Network, c.Config.SubnetMin, c.Config.SubnetMax)
	}
	h.full = true
	return step{wait: lookAgain}
}

// ours tells by its content whether a lease is this host's: by its address, or
// by the MAC of this host's VTEP, which nobody else has.
func (c Claim) ours(a Attrs) bool {
	return a.PublicIP == c.Attrs.PublicIP || a.BackendData != "" && a.BackendData == c.Attrs.BackendData && a.BackendType == c.Attrs.BackendType
}

// leasedToUs finds a lease that is ours and may be used.
func (h *leaseHolder) leasedToUs(r *replica, c Claim) (Lease, bool) {
	var found []Lease
	for _, l := range r.leases {
		// Another address of ours is evidence only beside the subnet file:
		// behind NAT many hosts have the same.
		moved := l.Subnet == h.previous && slices.Contains(c.Addrs, l.PublicIP)
		if !moved && !c.ours(l.Attrs) || !c.Config.Fits(l.Subnet) {
			continue
		}
		if other, overlaps := r.overlapping(l.Subnet); overlaps && other.Created < l.Created {
			continue
		}
		found = append(found, l)
	}
	if len(found) == 0 {
		return Lease{}, false
	}
	// Several: a crash between two attempts left one behind, or the host had
	// another address. The one in use is in the subnet file.
	rank := func(l Lease) int {
		switch {
		case l.Subnet == h.previous:
			return 0
		case l.PublicIP == c.Attrs.PublicIP:
			return 1
		}
		return 2
	}
	return slices.MinFunc(found, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Subnet.Compare(b.Subnet))
	}), true
}

func (h *leaseHolder) choose(r *replica, c Claim) (netip.Prefix, bool) {
	if h.free(r, c, h.candidate) { // an attempt with unknown outcome goes on with the same subnet
		return h.candidate, true
	}
	if h.free(r, c, h.previous) {
		return h.previous, true
	}
	h.explainPrevious(r, c)
	var taken []netip.Prefix
	for _, l := range r.all() {
		taken = append(taken, l.Subnet)
	}
	for p := range h.refused {
		taken = append(taken, p)
	}
	// Hosts that start together choose among the same few: each time that we
	// came too late we look eight times as wide, up to 51,200 subnets.
	free := c.Config.Free(taken, 100<<min(3*len(h.refused), 9))
	if len(free) == 0 {
		return netip.Prefix{}, false
	}
	return free[rand.N(len(free))], true
}

func (h *leaseHolder) free(r *replica, c Claim, p netip.Prefix) bool {
	_, leased := r.leases[p]
	_, overlaps := r.overlapping(p)
	_, refused := h.refused[p]
	return c.Config.Fits(p) && !leased && !overlaps && !refused
}

// explainPrevious says once why the subnet file's subnet is not taken.
func (h *leaseHolder) explainPrevious(r *replica, c Claim) {
	if !h.previous.IsValid() || h.warned {
		return
	}
	h.warned = true
	if holder, leased := r.leases[h.previous]; leased {
		klog.Warningf("subnet file names %v, which is leased to %v: taking another subnet; if that host is gone, stop flanneld, delete the key %s and start again",
			h.previous, holder.PublicIP, Key(h.previous))
		return
	}
	klog.Warningf("subnet file names %v, which is not free or does not fit the config (%v, /%d, %v to %v): taking another subnet",
		h.previous, c.Config.Network, c.Config.SubnetLen, c.Config.SubnetMin, c.Config.SubnetMax)
}

// refuse notes that somebody else was first at a candidate; false where the key
// was none.
func (h *leaseHolder) refuse(key string) bool {
	if key != Key(h.candidate) {
		return false
	}
	if h.refused == nil {
		h.refused = map[netip.Prefix]struct{}{}
	}
	h.refused[h.candidate], h.candidate = struct{}{}, netip.Prefix{}
	return true
}
