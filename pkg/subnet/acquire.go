package subnet

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"
)

// acquire finds the subnet that this host should hold: the one leased to its
// public IP, else the one in its subnet file, else a free one.
func (h *leaseHolder) acquire(r *replica, c Claim, now time.Time) step {
	if own, ok := h.leasedToUs(r, c); ok {
		h.adopt(own, now)
		s, held := h.maintain(r, c, now)
		if held {
			return h.tidy(r, c, s)
		}
	}
	if subnet, ok := h.choose(r, c); ok {
		h.candidate, h.full = subnet, false
		return step{do: put, entry: Entry{Key: Key(subnet), Value: c.Attrs.Marshal(), TTL: LeaseTTL}}
	}
	if len(h.refused) > 0 { // those may be free by now, or may be written
		h.refused = nil
		return step{wait: lookAgain, unsettled: true}
	}
	h.full = true
	return step{wait: lookAgain}
}

// ours tells by its content whether a lease is this host's: by its address, or
// by the MAC of this host's VTEP, which nobody else has.
func (c Claim) ours(a Attrs) bool {
	sameVTEP := a.BackendData != "" && a.BackendData == c.Attrs.BackendData && a.BackendType == c.Attrs.BackendType
	return a.PublicIP == c.Attrs.PublicIP || sameVTEP
}

// leasedToUs finds a lease that is ours and may be used.
func (h *leaseHolder) leasedToUs(r *replica, c Claim) (Lease, bool) {
	var found []Lease
	for _, l := range r.leases {
		// Another address of ours is evidence only beside the subnet file:
		// behind NAT many hosts have the same.
		moved := l.Subnet == h.previous && slices.Contains(c.Addrs, l.PublicIP)
		if !moved && !c.ours(l.Attrs) || !c.Config.Fits(l.Subnet) || c.reservesAddress(l.Subnet) {
			continue
		}
		if other, overlaps := r.overlapping(l.Subnet, c.notOther(l.Key)); overlaps && older(&other, &l) {
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
	// Of two keys of one subnet, the dual-stack one: flannel, should it come back,
	// looks for that.
	kind := func(l Lease) int {
		if isDual(l.Key) {
			return 0
		}
		return 1
	}
	return slices.MinFunc(found, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Subnet.Compare(b.Subnet), cmp.Compare(kind(a), kind(b)),
			strings.Compare(a.Key, b.Key))
	}), true
}

// notOther tells leases that are no other host's: the one of that key, and what
// else is ours.
func (c Claim) notOther(key string) func(*Lease) bool {
	return func(l *Lease) bool { return l.Key == key || c.ours(l.Attrs) }
}

func (h *leaseHolder) choose(r *replica, c Claim) (netip.Prefix, bool) {
	if h.free(r, c, h.candidate) { // an attempt with unknown outcome goes on with the same subnet
		return h.candidate, true
	}
	if h.free(r, c, h.previous) {
		return h.previous, true
	}
	h.explainPrevious(r, c)
	taken := slices.Concat(c.Reserved, r.hostsWithin(c), r.spoiled())
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
	_, leased := r.overlapping(p, nil)
	_, refused := h.refused[p]
	return c.Config.Fits(p) && !leased && !refused && !c.reserves(p) &&
		!slices.ContainsFunc(r.hostsWithin(c), p.Overlaps) && !slices.ContainsFunc(r.spoiled(), p.Overlaps)
}

// hostsWithin are the public IPs that lie in the network, where that holds what
// this host needs: a subnet with one would take the way to a peer away.
func (r *replica) hostsWithin(c Claim) (out []netip.Prefix) {
	if len(c.Reserved) == 0 {
		return nil
	}
	for _, l := range r.leases {
		if c.Config.Network.Contains(l.PublicIP) {
			out = append(out, netip.PrefixFrom(l.PublicIP, l.PublicIP.BitLen()))
		}
	}
	return out
}

// explainPrevious says once why the subnet file's subnet is not taken.
func (h *leaseHolder) explainPrevious(r *replica, c Claim) {
	if !h.previous.IsValid() || h.warned {
		return
	}
	h.warned = true
	if holder, leased := r.overlapping(h.previous, nil); leased && holder.Subnet == h.previous {
		klog.ErrorS(nil, "Subnet file names a subnet that is leased to another host: taking another one",
			"subnet", h.previous, "publicIP", holder.PublicIP, "key", holder.Key,
			"advice", "if that host is gone, stop flanneld, delete the key and start again")
		return
	}
	klog.InfoS("Subnet file names a subnet that is not free, does not fit the config, or holds what hosts need: "+
		"taking another one",
		"subnet", h.previous, "network", c.Config.Network, "subnetLen", c.Config.SubnetLen,
		"subnetMin", c.Config.SubnetMin, "subnetMax", c.Config.SubnetMax)
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
