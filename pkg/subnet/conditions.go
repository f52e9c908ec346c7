package subnet

import (
	"fmt"
	"time"

	"flanneld/pkg/condition"
)

// noteConditions says how the lease and the store are.
func (s *state) noteConditions(wrong *condition.Set, now time.Time) {
	note := func(is bool, c condition.Condition) {
		if is {
			wrong.Set(c)
		} else {
			wrong.Clear(c.Code, "")
		}
	}
	h := &s.holder
	note(h.full && !h.own.Subnet.IsValid(), condition.Condition{Code: condition.NoFreeSubnet,
		Message: "every subnet of the config is leased; widen SubnetMin and SubnetMax, or delete the leases of " +
			"hosts that are gone"})
	note(now.Before(h.contestedUntil), condition.Condition{Code: condition.LeaseContested, Message: fmt.Sprintf(
		"another host writes this host's lease of %v, so it seems to have the public IP %v too: give each its own "+
			"with --public-ip or --iface",
		h.own.Subnet,
		h.own.PublicIP,
	)})
	note(s.replica.degradedBy != "", condition.Condition{Code: condition.EtcdDegraded,
		Message: "etcd may have lost leases: routes of those that are missing stay for now", Cause: s.replica.degradedBy})
}
