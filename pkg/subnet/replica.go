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
	lengths   lengths           // of the leases' subnets, those held included
	malformed map[string]string // key → what is wrong with the entry

	ours  netip.Prefix // the subnet that this host works with, or did before it started
	doubt time.Time    // until then a lease that vanishes may be one whose holder lives
	said  bool         // of the doubt
	held  map[netip.Prefix]heldLease
	fresh map[netip.Prefix]bool // written since the doubt began: when they go, they go

	garbled map[netip.Prefix]uint64 // index of malformed entries: whom they belong to, nobody can tell
}

// heldLease is one that has vanished and still counts for peers.
type heldLease struct {
	Lease
	until time.Time // at least, unless its holder comes back
	fresh bool      // doubt does not prolong it
}

// HoldTime is how long the routes of leases that vanished stay when the store
// was reset or away: ample for every holder to hear of it and register again.
const HoldTime = 5 * time.Minute

// grace is how long a lease counts that vanished from a store in its senses:
// ample for a living holder to take it again before anybody misses it, even
// while etcd elects another leader.
const grace = 5 * time.Second

// replace takes over a full list that was received at now.
func (r *replica) replace(s Snapshot, now time.Time) {
	before := *r
	r.cluster, r.config, r.leases, r.malformed, r.garbled = s.Cluster, "", make(map[netip.Prefix]Lease, len(s.Entries)), map[string]string{}, nil
	for _, e := range s.Entries {
		r.put(e, now)
	}
	switch {
	case r.oursMissing():
		r.suspect("this host's lease of "+r.ours.String()+" is gone", now)
	case before.listed && s.Index < before.index:
		r.suspect("its index went back", now)
	case before.listed && s.Cluster != before.cluster:
		r.suspect("it is another cluster", now)
	}
	if !before.listed && r.ours.IsValid() && !r.doubtful(now) {
		r.doubt = now.Add(grace) // this host cannot know what vanished just before it started
	}
	r.index, r.listed = s.Index, true
	for _, l := range before.leases {
		r.hold(l, now)
	}
}

// suspect notes that leases may be missing though their holders live.
func (r *replica) suspect(reason string, now time.Time) {
	if !r.said {
		klog.Warningf("etcd may have lost leases (%s): routes of those that are missing stay for %v", reason, HoldTime)
	}
	r.doubt, r.said, r.fresh = now.Add(HoldTime), true, map[netip.Prefix]bool{}
}

// doubtful also holds as long as this host has not got its own lease back.
func (r *replica) doubtful(now time.Time) bool {
	return now.Before(r.doubt) || !r.doubt.IsZero() && r.oursMissing()
}

func (r *replica) oursMissing() bool {
	_, there := r.leases[r.ours]
	return r.ours.IsValid() && !there
}

// hold keeps a lease that is not in the store any more.
func (r *replica) hold(l Lease, now time.Time) {
	if _, there := r.leases[l.Subnet]; there || l.Subnet == r.ours {
		return
	}
	if r.held == nil {
		r.held = map[netip.Prefix]heldLease{}
	}
	r.held[l.Subnet] = heldLease{l, now.Add(grace), r.fresh[l.Subnet]}
}

// settle lets go of what was held for long enough. changed says that there was
// such a lease, next how long until the next may go.
func (r *replica) settle(now time.Time) (changed bool, next time.Duration) {
	switch {
	case r.doubt.IsZero():
	case r.oursMissing() && r.said:
		r.doubt = now.Add(HoldTime) // the others may have no better luck
	case !now.Before(r.doubt):
		if r.said {
			klog.Infof("etcd is trusted again: routes of %d leases that are still missing go", len(r.held))
		}
		r.doubt, r.said, r.fresh, changed = time.Time{}, false, nil, true
	}
	next = lookAgain
	if !r.doubt.IsZero() {
		next = min(next, max(r.doubt.Sub(now), time.Second))
	}
	doubtful := r.doubtful(now)
	for subnet, h := range r.held {
		switch {
		case now.Before(h.until):
			next = min(next, h.until.Sub(now))
		case !doubtful || h.fresh:
			delete(r.held, subnet)
			changed = true
		}
	}
	return changed, next
}

// apply takes over changes that were received at now.
func (r *replica) apply(events []Event, now time.Time) {
	for _, ev := range events {
		if ev.Deleted {
			r.lose(ev.Key, now)
		} else {
			r.put(ev.Entry, now)
			if subnet, err := ParseKey(ev.Key); err == nil && r.fresh != nil {
				r.fresh[subnet] = true
			}
		}
		r.index = max(r.index, ev.Modified)
	}
}

// lose is drop for a key that was deleted or has expired.
func (r *replica) lose(key string, now time.Time) {
	subnet, err := ParseKey(key)
	lease, known := r.leases[subnet]
	r.drop(key)
	switch {
	case err != nil || !known:
	case subnet == r.ours:
		r.suspect("this host's lease of "+subnet.String()+" is gone", now)
	default:
		r.hold(lease, now)
	}
}

func (r *replica) drop(key string) {
	if key == ConfigKey {
		r.config = ""
	}
	delete(r.malformed, key)
	if subnet, err := ParseKey(key); err == nil {
		delete(r.leases, subnet)
		delete(r.garbled, subnet)
	}
}

func (r *replica) put(e Entry, now time.Time) {
	switch {
	case e.Key == ConfigKey:
		r.config = e.Value
	case strings.HasPrefix(e.Key, LeaseDir+"/"):
		lease, err := parseLease(e, now)
		if err != nil {
			r.lose(e.Key, now) // a lease that turned malformed is no lease any more
			r.malformed[e.Key] = err.Error()
			if subnet, err := ParseKey(e.Key); err == nil {
				r.garble(subnet, e.Modified)
			}
			return
		}
		r.drop(e.Key)
		r.leases[lease.Subnet] = lease
		r.lengths.include(lease.Subnet.Bits())
		r.release(lease.Subnet)
	}
}

func (r *replica) garble(subnet netip.Prefix, index uint64) {
	if r.garbled == nil {
		r.garbled = map[netip.Prefix]uint64{}
	}
	r.garbled[subnet] = index
}

// all are the leases that count for peers, in the order of their subnets: those
// in the store, and those held.
func (r *replica) all() []Lease {
	all := make([]Lease, 0, len(r.leases)+len(r.held))
	for _, l := range r.leases {
		all = append(all, l)
	}
	for _, h := range r.held {
		all = append(all, h.Lease)
	}
	slices.SortFunc(all, func(a, b Lease) int { return a.Subnet.Compare(b.Subnet) })
	return all
}

// release ends the hold on what overlaps a lease that is there.
func (r *replica) release(p netip.Prefix) {
	delete(r.held, p)
	if !r.lengths.only(p.Bits()) {
		maps.DeleteFunc(r.held, func(held netip.Prefix, _ heldLease) bool { return held.Overlaps(p) })
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
