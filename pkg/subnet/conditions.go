package subnet

import (
	"fmt"
	"time"

	"flanneld/pkg/condition"
)

// noted is what noteConditions has said last.
type noted struct {
	full       bool
	reserved   string // why a subnet that is free is not leased
	contested  Lease  // zero: not contested
	degradedBy string
}

// noteConditions says how the lease and the store are, where that has changed.
func (s *state) noteConditions(wrong *condition.Set, now time.Time) {
	h := &s.holder
	lacks := !h.own.Subnet.IsValid() || s.claim != nil && len(s.claim.Config.Lacking(h.own.Subnets())) > 0
	is := noted{full: h.full && lacks}
	if is.full && s.claim != nil && len(s.claim.Reserved) > 0 {
		is.reserved = fmt.Sprintf("those that overlap %v are not leased, as this host needs that", s.claim.Reserved)
	}
	if s.replica.degraded(now) {
		is.degradedBy = s.replica.degradedBy
	}
	if now.Before(h.contestedUntil) && h.own.Subnet.IsValid() {
		is.contested = Lease{Subnet: h.own.Subnet, Attrs: Attrs{PublicIP: h.own.PublicIP}}
	}
	if is == s.noted {
		return
	}
	s.noted = is
	note := func(present bool, code condition.Code, message, cause string) {
		if present {
			wrong.Set(condition.Condition{Code: code, Message: message, Cause: cause})
		} else {
			wrong.Clear(code, "")
		}
	}
	note(is.full, condition.NoFreeSubnet, "every subnet of the config is leased; "+
		"widen SubnetMin and SubnetMax, or delete the leases of hosts that are gone", is.reserved)
	note(is.contested != Lease{}, condition.LeaseContested, fmt.Sprintf(
		"another host writes this host's lease of %v, so it seems to have the public IP %v too, or to be a copy of this "+
			"host: give each its own with --public-ip or --iface", is.contested.Subnet, is.contested.PublicIP), "")
	note(is.degradedBy != "", condition.EtcdDegraded,
		"etcd may have lost leases: routes of those that are missing stay for now", is.degradedBy)
}
