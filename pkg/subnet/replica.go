package subnet

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// replica is the store's content as far as this host has heard: the last full
// list with every later event applied.
type replica struct {
	listed    bool // a full list has arrived
	cluster   string
	index     uint64 // of the last list or event
	config    string
	leases    map[netip.Prefix]Lease
	lengths   lengths           // of the leases' subnets, those those retained included
	malformed map[string]string // key → what is wrong with the entry

	ours           netip.Prefix // the subnet that this host works with, or did before it started
	degradedUntil  time.Time    // until then a lease that vanishes may be one whose holder lives
	degradedLogged bool         // that the store is degraded
	retained       map[netip.Prefix]retainedLease
	fresh          map[netip.Prefix]bool // written since the store is degraded: when they go, they go

	malformedAt map[netip.Prefix]uint64 // index of malformed entries: whom they belong to, nobody can tell
}

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

// replace takes over a full list that was received at now.
func (r *replica) replace(s Snapshot, now time.Time) {
	before := *r
	r.cluster, r.config, r.leases, r.malformed, r.malformedAt = s.Cluster, "", make(map[netip.Prefix]Lease, len(s.Entries)), map[string]string{}, nil
	for _, e := range s.Entries {
		r.put(e, now)
	}
	switch {
	case r.oursMissing():
		r.degrade("this host's lease of "+r.ours.String()+" is gone", now)
	case before.listed && s.Index < before.index:
		r.degrade("its index went back", now)
	case before.listed && s.Cluster != before.cluster:
		r.degrade("it is another cluster", now)
	}
	if !before.listed && r.ours.IsValid() && !r.degraded(now) {
		r.degradedUntil = now.Add(grace) // this host cannot know what vanished just before it started
	}
	r.index, r.listed = s.Index, true
	for _, l := range before.leases {
		r.retain(l, now)
	}
}

// degrade notes that leases may be missing though their holders live.
func (r *replica) degrade(reason string, now time.Time) {
	if !r.degradedLogged {
		klog.Warningf("etcd may have lost leases (%s): routes of those that are missing stay for %v", reason, RetainTime)
	}
	r.degradedUntil, r.degradedLogged, r.fresh = now.Add(RetainTime), true, map[netip.Prefix]bool{}
}

// degraded also holds as long as this host has not got its own lease back.
func (r *replica) degraded(now time.Time) bool {
	return now.Before(r.degradedUntil) || !r.degradedUntil.IsZero() && r.oursMissing()
}

func (r *replica) oursMissing() bool {
	_, there := r.leases[r.ours]
	return r.ours.IsValid() && !there
}

// retain keeps a lease that is not in the store any more.
func (r *replica) retain(l Lease, now time.Time) {
	if _, there := r.leases[l.Subnet]; there || l.Subnet == r.ours {
		return
	}
	if r.retained == nil {
		r.retained = map[netip.Prefix]retainedLease{}
	}
	r.retained[l.Subnet] = retainedLease{l, now.Add(grace), r.fresh[l.Subnet]}
}

// releaseExpired lets go of what was retained for long enough. changed says that there was
// such a lease, next how long until the next may go.
func (r *replica) releaseExpired(now time.Time) (changed bool, next time.Duration) {
	switch {
	case r.degradedUntil.IsZero():
	case r.oursMissing() && r.degradedLogged:
		r.degradedUntil = now.Add(RetainTime) // the others may have no better luck
	case !now.Before(r.degradedUntil):
		if r.degradedLogged {
			klog.Infof("etcd is trusted again: routes of %d leases that are still missing go", len(r.retained))
		}
		r.degradedUntil, r.degradedLogged, r.fresh, changed = time.Time{}, false, nil, true
	}
	next = lookAgain
	if !r.degradedUntil.IsZero() {
		next = min(next, max(r.degradedUntil.Sub(now), time.Second))
	}
	degraded := r.degraded(now)
	for subnet, h := range r.retained {
		switch {
		case now.Before(h.until):
			next = min(next, h.until.Sub(now))
		case !degraded || h.fresh:
			delete(r.retained, subnet)
			changed = true
		}
	}
	return changed, next
}

// apply takes over changes that were received at now.
func (r *replica) apply(events []Event, now time.Time) {
	for _, ev := range events {
		if ev.Deleted {
			r.expire(ev.Key, now)
		} else {
			r.put(ev.Entry, now)
			if subnet, err := ParseKey(ev.Key); err == nil && r.fresh != nil {
				r.fresh[subnet] = true
			}
		}
		r.index = max(r.index, ev.Modified)
	}
}

// expire is drop for a key that was deleted or has expired.
func (r *replica) expire(key string, now time.Time) {
	subnet, err := ParseKey(key)
	lease, known := r.leases[subnet]
	r.drop(key)
	switch {
	case err != nil || !known:
	case subnet == r.ours:
		r.degrade("this host's lease of "+subnet.String()+" is gone", now)
	default:
		r.retain(lease, now)
	}
}

func (r *replica) drop(key string) {
	if key == ConfigKey {
		r.config = ""
	}
	delete(r.malformed, key)
	if subnet, err := ParseKey(key); err == nil {
		delete(r.leases, subnet)
		delete(r.malformedAt, subnet)
	}
}

func (r *replica) put(e Entry, now time.Time) {
	switch {
	case e.Key == ConfigKey:
		r.config = e.Value
	case strings.HasPrefix(e.Key, LeaseDir+"/"):
		lease, err := parseLease(e, now)
		if err != nil {
			r.expire(e.Key, now) // a lease that turned malformed is no lease any more
			r.malformed[e.Key] = err.Error()
			if subnet, err := ParseKey(e.Key); err == nil {
				r.noteMalformed(subnet, e.Modified)
			}
			return
		}
		r.drop(e.Key)
		r.leases[lease.Subnet] = lease
		r.lengths.include(lease.Subnet.Bits())
		r.releaseOverlapping(lease.Subnet)
	}
}

func (r *replica) noteMalformed(subnet netip.Prefix, index uint64) {
	if r.malformedAt == nil {
		r.malformedAt = map[netip.Prefix]uint64{}
	}
	r.malformedAt[subnet] = index
}

// all are the leases that count for peers, in the order of their subnets: those
// in the store, and those retained.
func (r *replica) all() []Lease {
	all := make([]Lease, 0, len(r.leases)+len(r.retained))
	for _, l := range r.leases {
		all = append(all, l)
	}
	for _, h := range r.retained {
		all = append(all, h.Lease)
	}
	slices.SortFunc(all, func(a, b Lease) int { return a.Subnet.Compare(b.Subnet) })
	return all
}

// releaseOverlapping no longer retains what overlaps a lease that is there.
func (r *replica) releaseOverlapping(p netip.Prefix) {
	delete(r.retained, p)
	if !r.lengths.only(p.Bits()) {
		maps.DeleteFunc(r.retained, func(other netip.Prefix, _ retainedLease) bool { return other.Overlaps(p) })
	}
}

// overlapping returns the lease that holds a part of p under another key, the
// one that came to be first where there are several.
func (r *replica) overlapping(p netip.Prefix) (first Lease, found bool) {
	if !p.IsValid() || r.lengths.only(p.Bits()) {
		return Lease{}, false
	}
	for subnet, lease := range r.leases {
		if subnet != p && subnet.Overlaps(p) && (!found || lease.Created < first.Created) {
			first, found = lease, true
		}
	}
	return first, found
}

// lengths notes which prefix lengths were included. Subnets of one length overlap
// only if they are the same: while there is no other, a large cluster need not
// be searched for overlaps at each change.
type lengths struct {
	any, several bool
	first        int
}

func (l *lengths) include(bits int) {
	l.several = l.several || l.any && bits != l.first
	if !l.any {
		l.any, l.first = true, bits
	}
}

// only says that everything included has this length.
func (l lengths) only(bits int) bool { return l.any && !l.several && l.first == bits }
