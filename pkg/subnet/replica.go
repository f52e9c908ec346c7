package subnet

import (
	"maps"
	"net/netip"
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
	malformed map[string]string // key → what is wrong with the entry

	ours  netip.Prefix // the subnet that this host works with, or did before it started
	doubt time.Time    // until then a lease that vanishes may be one whose holder lives
	held  map[netip.Prefix]Lease
	fresh map[netip.Prefix]bool // written since the doubt began: when they go, they go
}

// HoldTime is how long the routes of leases that vanished stay when the store
// was reset or away: ample for every holder to hear of it and register again.
const HoldTime = 5 * time.Minute

// replace takes over a full list that was received at now.
func (r *replica) replace(s Snapshot, now time.Time) {
	before := *r
	r.cluster, r.config, r.leases, r.malformed = s.Cluster, "", map[netip.Prefix]Lease{}, map[string]string{}
	for _, e := range s.Entries {
		r.put(e, now)
	}
	_, oursListed := r.leases[r.ours]
	switch {
	case r.ours.IsValid() && !oursListed:
		r.suspect("this host's lease of "+r.ours.String()+" is gone", now)
	case before.listed && s.Index < before.index:
		r.suspect("its index went back", now)
	case before.listed && s.Cluster != before.cluster:
		r.suspect("it is another cluster", now)
	}
	r.index, r.listed = s.Index, true
	for _, l := range before.leases {
		r.hold(l, now)
	}
}

// suspect notes that leases may be missing though their holders live.
func (r *replica) suspect(reason string, now time.Time) {
	if !r.doubtful(now) {
		klog.Warningf("etcd may have lost leases (%s): routes of those that are missing stay for %v", reason, HoldTime)
	}
	r.doubt, r.fresh = now.Add(HoldTime), map[netip.Prefix]bool{}
}

func (r *replica) doubtful(now time.Time) bool { return now.Before(r.doubt) }

// hold keeps a lease that is not in the store any more, while in doubt.
func (r *replica) hold(l Lease, now time.Time) {
	if _, there := r.leases[l.Subnet]; there || !r.doubtful(now) || l.Subnet == r.ours || r.fresh[l.Subnet] {
		return
	}
	if r.held == nil {
		r.held = map[netip.Prefix]Lease{}
	}
	r.held[l.Subnet] = l
}

// settle ends the doubt when its time is over; true: it has just ended.
func (r *replica) settle(now time.Time) bool {
	if r.doubt.IsZero() || r.doubtful(now) {
		return false
	}
	klog.Infof("etcd is trusted again: routes of %d leases that are still missing go", len(r.held))
	r.doubt, r.held, r.fresh = time.Time{}, nil, nil
	return true
}

// apply takes over changes that were received at now.
func (r *replica) apply(events []Event, now time.Time) {
	for _, ev := range events {
		if ev.Deleted {
			r.lose(ev.Key, now)
		} else {
			r.put(ev.Entry, now)
			if subnet, err := ParseKey(ev.Key); err == nil && r.doubtful(now) {
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
	if key == configKey {
		r.config = ""
	}
	delete(r.malformed, key)
	if subnet, err := ParseKey(key); err == nil {
		delete(r.leases, subnet)
	}
}

func (r *replica) put(e Entry, now time.Time) {
	switch {
	case e.Key == configKey:
		r.config = e.Value
	case strings.HasPrefix(e.Key, leaseDir):
		r.drop(e.Key) // a lease that turned malformed is no lease any more
		lease, err := parseLease(e, now)
		if err != nil {
			r.malformed[e.Key] = err.Error()
			return
		}
		r.leases[lease.Subnet] = lease
		maps.DeleteFunc(r.held, func(held netip.Prefix, _ Lease) bool { return held.Overlaps(lease.Subnet) })
	}
}

// all are the leases that count for peers: those in the store, and those held.
func (r *replica) all() map[netip.Prefix]Lease {
	all := maps.Clone(r.leases)
	maps.Copy(all, r.held)
	return all
}

// overlapping returns the lease that holds a part of p under another key, the
// one that came to be first where there are several.
func (r *replica) overlapping(p netip.Prefix) (first Lease, found bool) {
	for subnet, lease := range r.leases {
		if subnet != p && subnet.Overlaps(p) && (!found || lease.Created < first.Created) {
			first, found = lease, true
		}
	}
	return first, found
}
