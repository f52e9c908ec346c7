package kerneltest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"flanneld/pkg/kernel"
)

// Nexthops implements kernel.Conn.
func (k *Kernel) Nexthops() ([]kernel.FoundNexthop, error) {
	return slices.Clone(k.nexthops), k.fail("list nexthops")
}

func (k *Kernel) nexthop(id uint32) *kernel.FoundNexthop {
	i := slices.IndexFunc(k.nexthops, func(n kernel.FoundNexthop) bool { return n.ID == id })
	if i < 0 {
		return nil
	}
	return &k.nexthops[i]
}

// setNexthop adds or replaces one.
func (k *Kernel) setNexthop(action string, n kernel.FoundNexthop) error {
	if n.Dev != "" {
		if err := k.leadsOut(kernel.Route{Via: n.Via, Dev: n.Dev, OnLink: n.OnLink}); err != nil {
			return err
		}
		if !k.carrier(n.Dev) {
			return syscall.ENETDOWN
		}
	}
	there := k.nexthop(n.ID)
	switch {
	case there == nil:
		k.nexthops = append(k.nexthops, n)
		slices.SortFunc(k.nexthops, func(a, b kernel.FoundNexthop) int { return cmp.Compare(a.ID, b.ID) })
	case action == "add":
		return syscall.EEXIST
	case there.Group != n.Group:
		return syscall.EINVAL
	default:
		*there = n
	}
	return nil
}

// deleteNexthops takes the routes by them along, and tells nobody.
func (k *Kernel) deleteNexthops(which func(kernel.FoundNexthop) bool) (some bool) {
	k.nexthops = slices.DeleteFunc(k.nexthops, func(n kernel.FoundNexthop) bool {
		if !which(n) {
			return false
		}
		some = true
		k.routes = slices.DeleteFunc(k.routes, func(r kernel.FoundRoute) bool { return r.Nexthop == n.ID })
		return true
	})
	if some {
		k.deleteNexthops(k.emptied)
	}
	return some
}

// emptied tells a group that has lost its last member.
func (k *Kernel) emptied(n kernel.FoundNexthop) bool {
	gone := func(id uint32) bool { return k.nexthop(id) == nil }
	return n.Group && !slices.ContainsFunc(n.Members, func(id uint32) bool { return !gone(id) })
}

// loseNexthops deletes those by a device that went down, or has lost its carrier.
func (k *Kernel) loseNexthops(dev string) {
	k.deleteNexthops(func(n kernel.FoundNexthop) bool { return n.Dev == dev })
}

// Pair makes two interfaces the ends of one cable: each has a carrier where the other
// is up.
func (k *Kernel) Pair(a, b string) {
	k.pairs[a], k.pairs[b] = b, a
	k.link(a).NoCarrier, k.link(b).NoCarrier = k.link(a).Up && !k.carrier(a), k.link(b).Up && !k.carrier(b)
}

func (k *Kernel) carrier(dev string) bool {
	other := k.link(k.pairs[dev])
	return other == nil || other.Up
}

// follow is r with what the kernel says of the object that it is by.
func (k *Kernel) follow(r kernel.FoundRoute) kernel.FoundRoute {
	if n := k.nexthop(r.Nexthop); r.Nexthop != 0 && n != nil {
		r.Via, r.Dev, r.OnLink, r.Special = n.Via, n.Dev, n.OnLink, r.Special || n.Special
	}
	return r
}

// unfollowed is the reverse, but for Special.
func unfollowed(r kernel.Route) kernel.Route {
	if r.Nexthop != 0 {
		return kernel.Route{Dst: r.Dst, Nexthop: r.Nexthop}
	}
	return r
}

func (k *Kernel) runNexthop(action string, o map[string]string) error {
	id := uint32(number(o["id"]))
	if action == "del" {
		if !k.deleteNexthops(func(n kernel.FoundNexthop) bool { return n.ID == id }) {
			return syscall.ENOENT
		}
		return nil
	}
	proto, named := protocols[o["proto"]]
	if o["proto"] == "" {
		proto = 0
	} else if !named {
		proto = number(o["proto"])
	}
	var members []uint32
	if o["group"] != "" {
		for _, m := range strings.Split(o["group"], "/") {
			members = append(members, uint32(number(m)))
			if k.nexthop(members[len(members)-1]) == nil {
				return syscall.EINVAL
			}
		}
	}
	hop := kernel.Hop{Via: addr(o["via"]), Dev: o["dev"], OnLink: o["onlink"] != ""}
	return k.setNexthop(action, kernel.FoundNexthop{
		Nexthop: kernel.Nexthop{ID: id, Hop: hop}, Protocol: proto,
		Special: !hop.Via.IsValid(), Group: o["group"] != "", Members: members,
	})
}

func nexthop(n kernel.FoundNexthop) string {
	if n.Special {
		return fmt.Sprintf("ip nexthop add id %d proto %d # and more", n.ID, n.Protocol)
	}
	return fmt.Sprintf("ip nexthop add id %d %v proto %d", n.ID, n.Hop, n.Protocol)
}
