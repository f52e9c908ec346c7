package subnet

import "net/netip"

// overlapping returns the lease that holds p or a part of it, the one that came to
// be first where there are several. Those that skip tells of do not count; nil: all do.
func (r *replica) overlapping(p netip.Prefix, skip func(*Lease) bool) (first Lease, found bool) {
	counts := func(l *Lease) bool {
		return l.overlaps(p) && (skip == nil || !skip(l)) && (!found || older(l, &first))
	}
	switch {
	case !p.IsValid():
	case r.lengths.only(p.Bits()):
		if l, there := r.leases[Key(p)]; there && counts(&l) {
			return l, true
		}
	default:
		for _, l := range r.leases {
			if counts(&l) {
				first, found = l, true
			}
		}
	}
	return first, found
}

// overlaps reports whether one of the lease's subnets overlaps p.
func (l *Lease) overlaps(p netip.Prefix) bool {
	return l.Subnet.Overlaps(p) || l.IPv6Subnet.Overlaps(p)
}

// overlappingAny is overlapping for several subnets.
func (r *replica) overlappingAny(all Subnets, skip func(*Lease) bool) (first Lease, found bool) {
	for _, p := range all.All() {
		if l, there := r.overlapping(p, skip); there && (!found || older(&l, &first)) {
			first, found = l, true
		}
	}
	return first, found
}

// names tells whether there is a lease of exactly this subnet.
func (r *replica) names(p netip.Prefix) bool {
	_, found := r.overlapping(p, func(l *Lease) bool { return l.Subnet != p && l.IPv6Subnet != p })
	return found
}

// spoiled are the subnets of keys whose values cannot be read: they are somebody's.
func (r *replica) spoiled() (out []netip.Prefix) {
	for key := range r.malformedAt {
		if s, err := ParseKey(key); err == nil {
			out = append(out, s.All()...)
		}
	}
	return out
}

// lengths notes which prefix lengths were included, and whether by plain keys alone.
// Subnets of one length overlap only if they are the same, and then have the same
// key: while there is nothing else, a large cluster need not be searched for overlaps
// at each change.
type lengths struct {
	any, several bool
	first        int
}

func (l *lengths) include(key string, bits int) {
	l.several = l.several || l.any && bits != l.first || isDual(key)
	if !l.any {
		l.any, l.first = true, bits
	}
}

// only says that everything included has this length.
func (l lengths) only(bits int) bool { return l.any && !l.several && l.first == bits }
