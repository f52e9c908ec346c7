package subnet

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/inet"
)

// acquire finds the subnet that this host should hold: one that is leased to it,
// else the one in its subnet file, else a free one.
func (h *leaseHolder) acquire(r *replica, c Claim, now time.Time) step {
	for _, l := range h.leasedToUs(r, c) { // which is walked once, whatever is found
		if !h.usable(r, c, h.self(c), &l) { // any more, as an answer about one before tells of others
			continue
		}
		s, answer := h.ask(l, c, now)
		switch answer {
		case isOpen:
			return s
		case isTheirs:
			continue
		}
		h.explainFile(r, c, h.previous.First(), l)
		h.adopt(l, now)
		if s, held := h.maintain(r, c, now); held {
			return h.tidy(r, c, s, now)
		}
	}
	if h.copied(r, c) {
		return step{wait: lookAgain, unsettled: true}
	}
	return h.create(r, c, Subnets{})
}

// create makes a key with these subnets of ours, and free ones of the families that
// these lack.
func (h *leaseHolder) create(r *replica, c Claim, with Subnets) step {
	if subnets, ok := h.choose(r, c, with); ok {
		h.candidate, h.full = subnets, false
		return step{do: put, entry: Entry{Key: subnets.Key(), Value: c.Attrs.Marshal(), TTL: LeaseTTL}}
	}
	if len(h.refused) > 0 { // those may be free by now, or may be written
		h.refused = nil
		return step{wait: lookAgain, unsettled: true}
	}
	h.full = true
	return step{wait: lookAgain}
}

// usable tells of a lease that it is ours and may be used, for one family at least.
func (h *leaseHolder) usable(r *replica, c Claim, self Self, l *Lease) bool {
	return h.weigh(self, l) != NoEvidence && h.goodOf(r, c, l) != Subnets{}
}

// goodOf are the subnets of a lease that this host may use: of the families that containers
// use, such as may be leased, hold no address that this host needs, and are no part of what another
// host has leased before.
func (h *leaseHolder) goodOf(r *replica, c Claim, l *Lease) (good Subnets) {
	for _, p := range c.Config.fitting(l.Subnets()).All() {
		other, overlaps := r.overlapping(p, h.notOther(c, l.Key))
		if !(overlaps && older(&other, l)) && !(l.Key != h.own.Key && c.reservesAddress(p)) {
			good[inet.Of(p.Addr()).Index()] = p
		}
	}
	return good
}

// awaits is the key of the reservation that this host would take in the place of its
// lease if it started now; empty: none.
func (h *leaseHolder) awaits(r *replica, c Claim) string {
	if !h.own.Subnet.IsValid() {
		return ""
	}
	started := leaseHolder{previous: h.own.Subnets()}
	all := started.leasedToUs(r, c)
	if len(all) == 0 || !all[0].Expires.IsZero() || h.evidence(c, &all[0]) != Proof ||
		h.own.Subnets().covers(all[0].Subnets()) {
		return ""
	}
	return all[0].Key
}

// leasedToUs finds the leases that are ours and may be used, the best first.
func (h *leaseHolder) leasedToUs(r *replica, c Claim) (found []Lease) {
	self := h.self(c)
	for _, l := range r.leases {
		if h.usable(r, c, self, &l) {
			found = append(found, l)
		}
	}
	// Several: a crash between two attempts left one behind, or the host had
	// another address. The one in use is in the subnet file. But what is reserved for
	// this host an operator wants it to have.
	rank := func(l Lease) int {
		proof, file := self.Evidence(&l) == Proof, h.previous.shares(l.Subnets())
		for i, is := range []bool{proof && l.Expires.IsZero() && file, proof && l.Expires.IsZero(), file, proof} {
			if is {
				return i
			}
		}
		return 4
	}
	// Of two keys of one subnet, the dual-stack one: flannel, should it come back,
	// looks for that.
	kind := func(l Lease) int {
		if isDual(l.Key) {
			return 0
		}
		return 1
	}
	slices.SortFunc(found, func(a, b Lease) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), a.Subnet.Compare(b.Subnet), cmp.Compare(kind(a), kind(b)),
			strings.Compare(a.Key, b.Key))
	})
	return found
}

// notOther tells leases that are no other host's: the one of that key, and what
// else is ours.
func (h *leaseHolder) notOther(c Claim, key string) func(*Lease) bool {
	return func(l *Lease) bool { return l.Key == key || h.evidence(c, l) != NoEvidence }
}

// choose finds a subnet of each family that containers use, where with has none.
func (h *leaseHolder) choose(r *replica, c Claim, with Subnets) (Subnets, bool) {
	for _, f := range c.Config.Lacking(with) {
		// An attempt with unknown outcome goes on with the same subnet.
		chosen := h.candidate.Of(f)
		if !h.free(r, c, chosen) {
			chosen = h.previous.Of(f)
		}
		if !h.free(r, c, chosen) {
			chosen = h.draw(r, c, f)
		}
		if !chosen.IsValid() {
			return Subnets{}, false
		}
		with[f.Index()] = chosen
	}
	return with, true
}

// draw is one of the free subnets of a family; invalid: there is none.
func (h *leaseHolder) draw(r *replica, c Claim, f inet.Family) netip.Prefix {
	h.explainFile(r, c, h.previous.Of(f), Lease{})
	taken := slices.Concat(c.Reserved, r.hostsWithin(c), r.spoiled())
	for _, l := range r.all() {
		taken = append(taken, l.Subnets().All()...)
	}
	for p := range h.refused {
		taken = append(taken, p)
	}
	taken = slices.DeleteFunc(taken, func(p netip.Prefix) bool { return inet.Of(p.Addr()) != f })
	// Hosts that start together choose among the same few: each time that we
	// came too late we look eight times as wide, up to 51,200 subnets.
	config, _ := c.Config.For(f)
	free := config.Free(taken, 100<<min(3*len(h.refused), 9))
	if len(free) == 0 {
		return netip.Prefix{}
	}
	return free[rand.N(len(free))]
}

// free tells of a subnet that it may be leased by a key that this host makes: what it holds by
// another key may be given a new one.
func (h *leaseHolder) free(r *replica, c Claim, p netip.Prefix) bool {
	self := h.self(c)
	_, leased := r.overlapping(p, func(l *Lease) bool { return l.Subnets().dual() && self.Evidence(l) == Proof })
	_, refused := h.refused[p]
	return c.Config.fitting(SubnetsOf(p)).has(p) && !leased && !refused && !c.reserves(p) &&
		!slices.ContainsFunc(r.hostsWithin(c), p.Overlaps) && !slices.ContainsFunc(r.spoiled(), p.Overlaps)
}

// hostsWithin are the public IPs that lie in the network, where that holds what
// this host needs: a subnet with one would take the way to a peer away.
func (r *replica) hostsWithin(c Claim) (out []netip.Prefix) {
	if len(c.Reserved) == 0 {
		return nil
	}
	for _, l := range r.leases {
		for _, ip := range []netip.Addr{l.PublicIP, l.IPv6.PublicIP} {
			if c.Config.Network.Contains(ip) || c.Config.Second.Network.Contains(ip) {
				out = append(out, netip.PrefixFrom(ip, ip.BitLen()))
			}
		}
	}
	return out
}

// refuse notes that somebody else was first at a candidate; false where the key
// was none.
func (h *leaseHolder) refuse(key string) bool {
	if key != h.candidate.Key() {
		return false
	}
	if h.refused == nil {
		h.refused = map[netip.Prefix]struct{}{}
	}
	for _, p := range h.candidate.All() {
		h.refused[p] = struct{}{}
	}
	h.candidate = Subnets{}
	return true
}
