package subnet

import "net/netip"

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
