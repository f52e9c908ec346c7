package subnet

import (
	"net/netip"
	"strings"
	"time"
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
}

// replace takes over a full list that was received at now.
func (r *replica) replace(s Snapshot, now time.Time) {
	*r = replica{listed: true, cluster: s.Cluster, leases: map[netip.Prefix]Lease{}, malformed: map[string]string{}}
	for _, e := range s.Entries {
		r.put(e, now)
	}
	r.index = s.Index
}

// apply takes over changes that were received at now.
func (r *replica) apply(events []Event, now time.Time) {
	for _, ev := range events {
		if ev.Deleted {
			r.drop(ev.Key)
		} else {
			r.put(ev.Entry, now)
		}
		r.index = max(r.index, ev.Modified)
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
	}
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
