package subnet

import (
	"maps"
	"net/netip"
	"time"
)

// A store is degraded while leases may be missing from it though their holders
// live: it was reset, restored or away. Then what vanishes is retained.

// retainedLease is one that has vanished and still counts for peers.
type retainedLease struct {
	Lease
	until time.Time // at least, unless its holder comes back
	fresh bool      // a degraded store does not prolong it
}

// RetainTime is how long the routes of leases that vanished stay when the store
// was reset or away: ample for every holder to hear of it and register again.
const RetainTime = 5 * time.Minute

// grace is how long a lease counts that vanished from a store that is not degraded:
// ample for a living holder to take it again before anybody misses it, even
// while etcd elects another leader.
const grace = 5 * time.Second

// degrade notes that leases may be missing though their holders live.
func (r *replica) degrade(reason string, now time.Time) {
	if r.degradedBy == "" {
		r.degradedBy = reason
	}
	r.degradedUntil, r.fresh = now.Add(RetainTime), map[string]bool{}
	for key, l := range r.retained { // what vanished just before may have gone by the same cause
		l.fresh = false
		r.retained[key] = l
	}
}

// degraded also holds as long as this host has not got its own lease back.
func (r *replica) degraded(now time.Time) bool {
	return now.Before(r.degradedUntil) || !r.degradedUntil.IsZero() && r.oursMissing()
}

func (r *replica) oursMissing() bool { return r.ours.IsValid() && !r.names(r.ours) }

// retain keeps a lease that is not in the store any more.
func (r *replica) retain(l Lease, now time.Time) {
	if _, there := r.leases[l.Key]; there || l.Subnet == r.ours || r.names(l.Subnet) {
		return
	}
	if r.retained == nil {
		r.retained = map[string]retainedLease{}
	}
	r.retained[l.Key] = retainedLease{l, now.Add(grace), r.fresh[l.Key]}
}

// releaseExpired lets go of what was retained for long enough. changed says that
// there was such a lease, next how long until the next may go.
func (r *replica) releaseExpired(now time.Time) (changed bool, next time.Duration) {
	switch {
	case r.degradedUntil.IsZero():
	case r.oursMissing() && r.degradedBy != "":
		r.degradedUntil = now.Add(RetainTime) // the others may have no better luck
	case !now.Before(r.degradedUntil):
		r.degradedUntil, r.degradedBy, r.fresh, changed = time.Time{}, "", nil, true
	}
	next = lookAgain
	if !r.degradedUntil.IsZero() {
		next = min(next, max(r.degradedUntil.Sub(now), time.Second))
	}
	degraded := r.degraded(now)
	for key, h := range r.retained {
		switch {
		case now.Before(h.until):
			next = min(next, h.until.Sub(now))
		case !degraded || h.fresh:
			delete(r.retained, key)
			changed = true
		}
	}
	return changed, next
}

// releaseOverlapping no longer retains what overlaps a lease that is there.
func (r *replica) releaseOverlapping(p netip.Prefix) {
	if r.lengths.only(p.Bits()) {
		delete(r.retained, Key(p))
		return
	}
	maps.DeleteFunc(r.retained, func(_ string, l retainedLease) bool { return l.overlaps(p) })
}
