package admin

import (
	"context"
	"fmt"
	"net/netip"
	"time"

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
	for other, l := range now.Leases {
		switch {
		case other == p && l.PublicIP != ip:
			return Change{}, fmt.Errorf("%v is leased to %v%s: if that host is gone, "+
				"flanneld lease release --now %v, and try again",
				p, l.PublicIP, until(l), p)
		case other == p:
			change.entry = now.Entries[p]
			change.nothing = l.Expires.IsZero()
		case other.Overlaps(p):
			return Change{}, fmt.Errorf("%v overlaps %v, which is leased to %v", p, other, l.PublicIP)
		case l.PublicIP == ip:
			change.Notes = append(change.Notes, fmt.Sprintf("%v holds %v%s and keeps it: to move it, "+
				"stop flanneld there, flanneld lease release --now %v, and start it again",
				ip, other, until(l), other))
		}
	}
	if reason, malformed := now.Malformed[change.entry.Key]; malformed {
		return Change{}, fmt.Errorf("the key %s is in the way, and is no lease: it %s; "+
			"flanneld lease release --now %v removes it", change.entry.Key, reason, p)
	}
	change.entry.TTL = 0
	return change, nil
}

// Release plans to take a reservation back: it becomes a lease for a day, which
// its host renews, if there is one. At once means to remove a lease.
func (a Admin) Release(ctx context.Context, p netip.Prefix, atOnce bool) (Change, error) {
	now, err := a.Read(ctx)
	if err != nil {
		return Change{}, err
	}
	p = p.Masked()
	lease, exists := now.Leases[p]
	change := Change{entry: now.Entries[p]}
	reason, malformed := now.Malformed[subnet.Key(p)]
	switch {
	case malformed && atOnce:
		change.remove = true
		change.Done = fmt.Sprintf("the key %s is removed", change.entry.Key)
		change.Question = fmt.Sprintf("the key %s is no lease: it %s.\nRemove it?", change.entry.Key, reason)
	case malformed:
		return change, fmt.Errorf("the key %s is no lease: it %s; --now removes it", change.entry.Key, reason)
	case !exists:
		return change, fmt.Errorf("there is no lease of %v", p)
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
