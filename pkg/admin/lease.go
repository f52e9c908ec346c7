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

	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

// Reserve plans to keep a subnet for the host with a public IP, for ever. Where
// that host has leased it, the lease becomes the reservation.
func (a Admin) Reserve(ctx context.Context, p netip.Prefix, ip netip.Addr) (Change, error) {
	now, err := a.Read(ctx)
	if err != nil {
		return Change{}, err
	}
	config, err := a.config(now)
	if err != nil {
		return Change{}, err
	}
	p = p.Masked()
	if !config.Fits(p) {
		return Change{}, fmt.Errorf("%v is none of the subnets in the config: they are the /%d from %v to %v",
			p, config.SubnetLen, config.SubnetMin, config.SubnetMax)
	}
	value := subnet.Attrs{PublicIP: ip, BackendType: config.BackendType}.Marshal()
	if _, err := subnet.ParseAttrs(value); err != nil {
		return Change{}, err
	}
	if err := a.checkSubnet(config, p, now.Leases); err != nil {
		return Change{}, err
	}
	change := Change{
		Done:  fmt.Sprintf("%v is reserved for %v", p, ip),
		entry: subnet.Entry{Key: subnet.Key(p), Value: value},
	}
	for _, l := range now.Leases {
		other := l.Subnet
		switch {
		case other == p && l.PublicIP != ip:
			return Change{}, fmt.Errorf("%v is leased to %v%s: if that host is gone, "+
				"flanneld lease release --now %s, and try again",
				p, l.PublicIP, until(l), argument(l.Key))
		case other == p:
			change.entry = now.Entries[l.Key]
			change.nothing = l.Expires.IsZero()
		case other.Overlaps(p):
			return Change{}, fmt.Errorf("%v overlaps %v, which is leased to %v", p, other, l.PublicIP)
		case l.PublicIP == ip:
			change.Notes = append(change.Notes, fmt.Sprintf("%v holds %v%s, and keeps it until flanneld is restarted there: "+
				"then restart its containers", ip, other, until(l)))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now.Malformed)) {
		if taken, err := subnet.ParseKey(key); err == nil && slices.ContainsFunc(taken.All(), p.Overlaps) {
			return Change{}, fmt.Errorf("the key %s is in the way, and is no lease: it %s; "+
				"flanneld lease release --now %s removes it", a.name(key), now.Malformed[key], argument(key))
		}
	}
	change.entry.TTL = 0
	return change, nil
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
	change := Change{entry: now.Entries[key]}
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
		change.Done = fmt.Sprintf("the lease of %v is removed", p)
		change.Question = fmt.Sprintf("%v is leased to %v%s. If flanneld runs there, it takes the subnet again at once;\n"+
			"otherwise all hosts drop their routes to it, and another host may get it.\nRemove the lease?",
			p, lease.PublicIP, until(lease))
	case !lease.Expires.IsZero():
		return change, fmt.Errorf("%v is not reserved: its lease by %v ends by itself%s, unless it is renewed; "+
			"--now removes it at once",
			p, lease.PublicIP, until(lease))
	default:
		change.entry.TTL = subnet.LeaseTTL
		change.Done = fmt.Sprintf("%v is no longer reserved: its lease by %v ends in a day, unless it is renewed",
			p, lease.PublicIP)
	}
	return change, nil
}

func until(l subnet.Lease) string {
	if l.Expires.IsZero() {
		return ", without expiry"
	}
	return " until " + l.Expires.Format(time.DateTime)
}
