package status

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/subnet"
)

// FromStore is what the store alone tells: the network and all leases.
func FromStore(c subnet.Contents, e Etcd, now time.Time) Status {
	e.Current, e.Read = true, now
	s := Status{Time: now, Etcd: e, Peers: []Peer{}, Conditions: condition.List{}}
	var config subnet.Config
	text, err := c.Config.Text()
	if err == nil {
		config, err = subnet.ParseConfig(text)
	}
	switch {
	case c.Config.Modified == 0:
		s.Conditions.Add(condition.Condition{Code: condition.ConfigMissing, Message: c.NoConfig.String()})
	case err != nil:
		s.Conditions.Add(
			condition.Condition{Code: condition.ConfigInvalid, Message: fmt.Sprintf("config key is wrong: %v", err)},
		)
	default:
		var halves []Half
		for _, f := range config.Families() {
			of, _ := config.For(f)
			network := Network{Network: of.Network, SubnetLen: of.SubnetLen, Backend: of.BackendType}
			halves = append(halves, Half{Network: &network})
		}
		s.SetHalves(halves)
	}
	for _, l := range c.Leases {
		for _, f := range inet.Families() {
			of, has := l.For(f)
			if !has {
				continue
			}
			p := NewPeer(of)
			network, used := config.For(f)
			p.Outside = used && network.Outside(of.Subnet)
			s.Peers = append(s.Peers, p)
		}
		if s.Network != nil && config.Leaves(l.Subnets()) {
			why := "does not fit the config"
			if !config.Misfits(l.Subnets()) {
				why = fmt.Sprintf("is of %v alone, which the config does not use", inet.Of(l.Subnet.Addr()))
			}
			s.Conditions.Add(
				condition.Condition{
					Code:    condition.LeaseIgnored,
					Subject: l.Key,
					Message: fmt.Sprintf("the lease of %v %s: its host keeps it until flanneld is restarted there",
						l.Subnets(), why),
				},
			)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Malformed)) {
		s.Conditions.Add(
			condition.Condition{
				Code:    condition.LeaseIgnored,
				Subject: key,
				Message: fmt.Sprintf("the key %q is no lease: it %s", subnet.FullKey(e.Prefix, key), c.Malformed[key]),
			},
		)
	}
	if c.Omitted > 0 {
		more := condition.More(c.Omitted)
		more.Code = condition.LeaseIgnored
		s.Conditions.Add(more)
	}
	s.Conditions = s.Conditions.Bound(conditionsAtOnce)
	return s
}

// conditionsAtOnce bounds how many conditions of a code are told.
const conditionsAtOnce = 50
