package admin

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

// Reserve plans to keep subnets, one of each family at most, for the host that is reached at
// these public IPs, of the same families, for ever. Where that host has leased them, the lease
// becomes the reservation.
func (a Admin) Reserve(ctx context.Context, subnets subnet.Subnets, ips []netip.Addr) (Change, error) {
	for i, p := range subnets {
		subnets[i] = p.Masked()
	}
	now, err := a.Read(ctx)
	if err != nil {
		return Change{}, err
	}
	config, err := a.config(now)
	if err != nil {
		return Change{}, err
	}
	attrs := attrsOf(config, ips)
	value := attrs.Marshal()
	if read, err := subnet.ParseAttrs(value); err != nil {
		return Change{}, err
	} else if read != attrs {
		return Change{}, &subnet.FieldError{Field: "PublicIPv6", Value: attrs.IPv6.PublicIP.String(),
			Reason: "is no address at which a host can be reached"}
	}
	for _, p := range subnets.All() {
		if err := a.mayReserve(config, p, now); err != nil {
			return Change{}, err
		}
	}
	change := Change{
		Done:  fmt.Sprintf("%v %s reserved for %s", subnets, is(subnets), joined(ips)),
		entry: subnet.Entry{Key: subnets.Key(), Value: value},
	}
	for _, l := range now.Leases {
		ours := slices.ContainsFunc(ips, func(ip netip.Addr) bool { return isAt(l, ip) })
		has := 0 // of the subnets
		for _, p := range subnets.All() {
			half, ok := l.For(inet.Of(p.Addr()))
			switch {
			case !ok:
			case half.Subnet == p && !ours:
				return Change{}, fmt.Errorf("%v is leased to %v%s: if that host is gone, "+
					"flanneld lease release --now %s, and try again",
					p, cmp.Or(half.PublicIP, l.PublicIP), until(l), argument(l.Key))
			case half.Subnet == p:
				has++
			case half.Subnet.Overlaps(p):
				return Change{}, fmt.Errorf("%v overlaps %v, which is leased to %v",
					p, half.Subnet, cmp.Or(half.PublicIP, l.PublicIP))
			case ours:
				change.Notes = append(change.Notes, fmt.Sprintf("%v holds %v%s, and keeps it until flanneld is restarted there: "+
					"then restart its containers", cmp.Or(half.PublicIP, l.PublicIP), half.Subnet, until(l)))
			}
		}
		if has > 0 && has == len(subnets.All()) && !change.nothing {
			change.entry = now.Entries[l.Key]
			change.nothing = l.Expires.IsZero()
		}
	}
	change.entry.TTL = 0
	return change, nil
}

// attrsOf is what a lease says of the host with these public IPs.
func attrsOf(c subnet.Config, ips []netip.Addr) subnet.Attrs {
	a := subnet.Attrs{BackendType: c.BackendType}
	for _, ip := range ips {
		if a.PublicIP.IsValid() && inet.Of(ip) == inet.IPv6 {
			a.IPv6.PublicIP = ip
		} else {
			a.PublicIP, a.IPv6.PublicIP = ip, a.PublicIP // IPv4's comes first
		}
	}
	return a
}

// isAt tells whether a lease's host is reached at an address.
func isAt(l subnet.Lease, ip netip.Addr) bool {
	e, ok := l.Of(inet.Of(ip))
	return ok && e.PublicIP == ip
}

// mayReserve says why a subnet can be nobody's.
func (a Admin) mayReserve(c subnet.Config, p netip.Prefix, now subnet.Contents) error {
	half, used := c.For(inet.Of(p.Addr()))
	switch {
	case !used:
		return fmt.Errorf("%v is none of the subnets in the config, which has none of %v", p, inet.Of(p.Addr()))
	case !half.Fits(p):
		return fmt.Errorf("%v is none of the subnets in the config: they are the /%d from %v to %v",
			p, half.SubnetLen, half.SubnetMin, half.SubnetMax)
	}
	for _, key := range slices.Sorted(maps.Keys(now.Malformed)) {
		if taken, err := subnet.ParseKey(key); err == nil && slices.ContainsFunc(taken.All(), p.Overlaps) {
			return fmt.Errorf("the key %s is in the way, and is no lease: it %s; "+
				"flanneld lease release --now %s removes it", a.name(key), now.Malformed[key], argument(key))
		}
	}
	return a.checkSubnet(half, p, now.Leases)
}

// is agrees with the number of subnets.
func is(s subnet.Subnets) string {
	if len(s.All()) > 1 {
		return "are"
	}
	return "is"
}

func joined(ips []netip.Addr) string {
	var all []string
	for _, ip := range ips {
		all = append(all, ip.String())
	}
	return strings.Join(all, " and ")
}

// argument is a lease's key as a shell takes it.
func argument(key string) string { return printable.Word(subnet.Argument(key)) }

// find is the key that names a subnet; where several do, it has to be named.
func find(now subnet.Contents, p netip.Prefix, key string) (string, error) {
	var named []string
	for k := range now.Entries {
		if q, err := subnet.ParseKey(k); err == nil && slices.Contains(q.All(), p) && (key == "" || k == key) {
			named = append(named, k)
		}
	}
	slices.Sort(named)
	switch len(named) {
	case 0:
		return "", fmt.Errorf("there is no lease of %v", cmp.Or(strings.TrimPrefix(key, subnet.LeaseDir+"/"), p.String()))
	case 1:
		return named[0], nil
	}
	var which []string
	for _, k := range named {
		which = append(which, printable.Word(strings.TrimPrefix(k, subnet.LeaseDir+"/")))
	}
	return "", fmt.Errorf("%d keys name %v: say which, by one of %s", len(named), p, strings.Join(which, ", "))
}

// Release plans to take a reservation back: it becomes a lease for a day, which
// its host renews, if there is one. At once means to remove a lease. Where several
// keys name the subnet, key says which; "": there is one.
func (a Admin) Release(ctx context.Context, p netip.Prefix, key string, atOnce bool) (Change, error) {
	now, err := a.Read(ctx)
	if err != nil {
		return Change{}, err
	}
	p = p.Masked()
	if key, err = find(now, p, key); err != nil {
		return Change{}, err
	}
	var lease subnet.Lease
	for _, l := range now.Leases {
		if l.Key == key {
			lease = l
		}
	}
	change, subnets := Change{entry: now.Entries[key]}, lease.Subnets() // which come and go together
	reason, malformed := now.Malformed[key]
	switch {
	case malformed && atOnce:
		change.remove = true
		change.Done = fmt.Sprintf("the key %s is removed", a.name(key))
		change.Question = fmt.Sprintf("the key %s is no lease: it %s.\nRemove it?", a.name(key), reason)
	case malformed:
		return change, fmt.Errorf("the key %s is no lease: it %s; --now removes it", a.name(key), reason)
	case atOnce:
		change.remove = true
		change.Done = fmt.Sprintf("the lease of %v is removed", subnets)
		change.Question = fmt.Sprintf("%v %s leased to %v%s. If flanneld runs there, it takes the subnet again at once;\n"+
			"otherwise all hosts drop their routes to it, and another host may get it.\nRemove the lease?",
			subnets, is(subnets), lease.PublicIP, until(lease))
	case !lease.Expires.IsZero():
		return change, fmt.Errorf("%v %s not reserved: its lease by %v ends by itself%s, unless it is renewed; "+
			"--now removes it at once",
			subnets, is(subnets), lease.PublicIP, until(lease))
	default:
		change.entry.TTL = subnet.LeaseTTL
		change.Done = fmt.Sprintf("%v %s no longer reserved: its lease by %v ends in a day, unless it is renewed",
			subnets, is(subnets), lease.PublicIP)
	}
	return change, nil
}

func until(l subnet.Lease) string {
	if l.Expires.IsZero() {
		return ", without expiry"
	}
	return " until " + l.Expires.Format(time.DateTime)
}
