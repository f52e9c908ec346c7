package subnet

import (
	"fmt"
	"time"

	"flanneld/pkg/condition"
)

// noteConditions says how the lease and the store are. The lock is held.
func (m *Manager) noteConditions(now time.Time) {
	note := func(is bool, c condition.Condition) {
		if is {
			m.conditions.Set(c)
		} else {
			m.conditions.Clear(c.Code, "")
		}
	}
	k := &m.keeper
	note(k.full && !k.held.Subnet.IsValid(), condition.Condition{Code: condition.NoFreeSubnet,
		Message: "every subnet of the config is leased; widen SubnetMin and SubnetMax, or delete the leases of hosts that are gone"})
	note(now.Before(k.complain), condition.Condition{Code: condition.LeaseContested, Message: fmt.Sprintf(
		"another host writes this host's lease of %v, so it seems to have the public IP %v too: give each its own with --public-ip or --iface",
		k.held.Subnet, k.held.PublicIP)})
	note(m.replica.reason != "", condition.Condition{Code: condition.EtcdDegraded,
		Message: "etcd may have lost leases: routes of those that are missing stay for now", Cause: m.replica.reason})
}
