package subnet

import (
	"cmp"
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
	tooLong   int               // bytes of a config that is too long
	noConfig  NoConfig          // of the last list
	leases    map[string]Lease  // by key
	lengths   lengths           // of the leases' subnets, those retained included
	malformed map[string]string // key → what is wrong with the entry
	omitted   int               // more of them, about

	ours          netip.Prefix             // the subnet that this host works with, or did before it started
	degradedUntil time.Time                // until then a lease that vanishes may be one whose holder lives
	degradedBy    string                   // why the store is degraded; empty: it is only that this host has just started
	retained      map[string]retainedLease // by key
	fresh         map[string]bool          // keys written since the store is degraded: when they go, they go

	malformedAt map[string]uint64 // index of malformed entries by key: whom they belong to, nobody can tell
}

// replace takes over a full list that was received at now.
func (r *replica) replace(s Snapshot, now time.Time) {
	before := *r
	r.cluster, r.config, r.tooLong, r.noConfig = s.Cluster, "", 0, s.NoConfig
	r.malformed, r.malformedAt, r.omitted = map[string]string{}, nil, s.Omitted
	r.leases = make(map[string]Lease, len(s.Entries))
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

// apply takes over changes that were received at now. What is missing shows only at their
// end: one transaction may give a lease another key.
func (r *replica) apply(events []Event, now time.Time) {
	var gone []Lease
	for _, ev := range events {
		if v := klog.V(2); v.Enabled() {
			v.InfoS("Applying an event from etcd", "key", ev.Key, "deleted", ev.Deleted, "index", ev.Modified)
		}
		if lease, known := r.leases[ev.Key]; ev.Deleted {
			if r.drop(ev.Key); known {
				gone = append(gone, lease)
			}
		} else {
			r.put(ev.Entry, now)
			if inLeases(ev.Key) && !strange(ev.Key) && r.fresh != nil {
				r.fresh[ev.Key] = true
			}
		}
		r.index = max(r.index, ev.Modified)
	}
	for _, lease := range gone {
		r.miss(lease, now)
	}
}

// miss notes that a lease has gone from the store.
func (r *replica) miss(lease Lease, now time.Time) {
	switch lease.Subnet {
	case r.ours:
		if r.oursMissing() {
			r.degrade("this host's lease of "+lease.Subnet.String()+" is gone", now)
		}
	default:
		r.retain(lease, now)
	}
}

func (r *replica) drop(key string) {
	if key == ConfigKey {
		r.config, r.tooLong = "", 0
	}
	if _, known := r.malformed[key]; known {
		delete(r.malformed, key)
	} else if r.omitted > 0 && inLeases(key) && strange(key) {
		r.omitted--
	}
	delete(r.leases, key)
	delete(r.malformedAt, key)
}

func (r *replica) put(e Entry, now time.Time) {
	switch {
	case e.Key == ConfigKey:
		r.config, r.tooLong = e.Value, e.TooLong
	case inLeases(e.Key) && strange(e.Key):
		r.noteStrange(e)
	case inLeases(e.Key):
		lease, err := parseLease(e, now)
		if err != nil {
			lease, known := r.leases[e.Key]
			if r.drop(e.Key); known { // a lease that turned malformed is no lease any more
				r.miss(lease, now)
			}
			r.malformed[e.Key] = phrase(err)
			r.noteMalformed(e.Key, e.Modified)
			return
		}
		r.drop(e.Key)
		r.leases[e.Key] = lease
		r.lengths.include(e.Key, lease.Subnet.Bits())
		for _, p := range lease.Subnets().All() {
			r.releaseOverlapping(p)
		}
	}
}

// noteStrange notes a key among the leases that names no subnet. Of too many it
// counts those that are written: which of them are new it does not know.
func (r *replica) noteStrange(e Entry) {
	if _, known := r.malformed[e.Key]; known {
		return
	}
	if len(r.malformed) >= strangeKept || len(e.Key) > strangeLong {
		r.omitted++
		return
	}
	_, err := ParseKey(e.Key)
	r.malformed[e.Key] = err.Error()
}

func (r *replica) noteMalformed(key string, index uint64) {
	if r.malformedAt == nil {
		r.malformedAt = map[string]uint64{}
	}
	r.malformedAt[key] = index
}

// all are the leases that count for peers, in the order of their subnets, of one the
// holder's first: those in the store, and those retained.
func (r *replica) all() []Lease {
	all := make([]Lease, 0, len(r.leases)+len(r.retained))
	for _, l := range r.leases {
		all = append(all, l)
	}
	for _, h := range r.retained {
		all = append(all, h.Lease)
	}
	sortLeases(all)
	return all
}

func sortLeases(all []Lease) {
	slices.SortFunc(all, func(a, b Lease) int {
		return cmp.Or(a.Subnet.Compare(b.Subnet), cmp.Compare(a.Created, b.Created), strings.Compare(a.Key, b.Key))
	})
}
