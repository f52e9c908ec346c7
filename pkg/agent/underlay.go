package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/underlay"
)

// Needs are what this host needs beside what its kernel knows of: etcd's members,
// and whatever resolves their names.
type Needs interface {
	Needs() []underlay.Need
	Changed() <-chan struct{}
	// Heard is when etcd's host last answered, be it that it refuses a connection.
	Heard() time.Time
}

// beneath is what this host depends on, as last read. It is read again when the
// host's routing, or what etcd needs, has changed.
type beneath struct {
	read     bool
	routing  uint64
	external []string      // interfaces
	families []inet.Family // that were looked at
	needs    []underlay.Need
	own      []netip.Prefix
	host     underlay.Host
	tookBack []condition.Condition // routes that went before etcd was read
}

// lookBeneath keeps a.beneath up to date, and tells whether it was read anew. routing
// is the count of Changes before the links were read.
func (a *Agent) lookBeneath(
	routing uint64, links []kernel.Link, external []string, own []netip.Prefix,
) (news bool, err error) {
	var needs []underlay.Need
	if a.Needs != nil {
		needs = a.Needs.Needs()
	}
	b := &a.beneath
	if b.read && b.routing == routing && slices.Equal(b.external, external) && slices.Equal(b.families, a.wanted) &&
		slices.Equal(b.needs, needs) && slices.Equal(b.own, own) {
		return false, nil
	}
	routes, err := a.Kernel.Routes()
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	b.read, b.routing, b.external, b.families, b.needs, b.own = true, routing, external, a.wanted, needs, own
	b.host = underlay.Of(external, links, routes, needs, own)
	return true, nil
}

// ownSubnets are those that are this host's, as far as is known.
func (a *Agent) ownSubnets(own subnet.Lease) []netip.Prefix {
	return slices.Concat(own.Subnets().All(), a.Former.Subnets().All())
}

// protect takes routes back that an earlier run has put into the kernel and that
// lead away what this host needs to reach etcd. That cannot wait for etcd.
func (a *Agent) protect() time.Duration {
	routing := a.Changes.Routing()
	links, err := a.Kernel.Links()
	if err != nil {
		return a.applying.Failed(fmt.Errorf("list interfaces: %w", err))
	}
	news, err := a.lookBeneath(routing, links, nil, a.ownSubnets(subnet.Lease{}))
	if err != nil {
		return a.applying.Failed(err)
	}
	if !news {
		a.applying.Succeeded()
		return resync
	}
	result, err := a.apply(kernel.State{Partial: true, Harmful: a.harmful, Networks: a.networks})
	a.setOthers(result.Others)
	for _, o := range result.Ops {
		if r, isRoute := o.Object.(kernel.FoundRoute); isRoute {
			need, _ := a.takes(r.Dst)
			a.beneath.tookBack = append(a.beneath.tookBack, condition.Condition{
				Subject: r.Dst.String(),
				Message: fmt.Sprintf("took back the route to %v, which led %v into the network", r.Dst, need),
			})
		}
	}
	a.Conditions.Replace(condition.UnderlayOverlap, a.beneath.tookBack)
	if err != nil {
		a.beneath.read = false
		return a.applying.Failed(err)
	}
	a.applying.Succeeded()
	return resync
}

// harmful tells a destination to which no route may lead.
func (a *Agent) harmful(dst netip.Prefix) bool {
	_, taken := a.takes(dst)
	return taken || a.suspects.holds(dst)
}

// network is the one of a family that the host works in, or worked in before this run;
// invalid: neither is known.
func (a *Agent) network(f inet.Family) netip.Prefix {
	if m := a.effective(); m != nil {
		h, _ := m.of(f)
		return h.config.Network
	}
	return subnet.SubnetsOf(a.Former.Networks()...).Of(f)
}

// takes finds what this host needs and a route to dst would lead into the network.
func (a *Agent) takes(dst netip.Prefix) (underlay.Need, bool) {
	return a.beneath.host.Takes(a.network(inet.Of(dst.Addr())), dst)
}

// overlaps reports whether what this host needs lies in the cluster's networks.
func (a *Agent) overlaps() bool {
	return slices.ContainsFunc(inet.Families(), func(f inet.Family) bool { return a.beneath.host.Overlaps(a.network(f)) })
}

// refuse says why a lease may not be routed to, whatever else it says.
func (a *Agent) refuse(l *subnet.Lease) string {
	if why := a.beneath.host.NoHost(l.PublicIP); why != "" {
		return fmt.Sprintf("has the public IP %v, which is %s and can be no host", l.PublicIP, why)
	}
	if need, taken := a.takes(l.Subnet); taken {
		return fmt.Sprintf("takes away %v, which this host needs", need)
	}
	return ""
}

// peersOf are the leases to route to, as each family sees them. The others come back with
// what is wrong with them.
func (a *Agent) peersOf(view subnet.View, links []kernel.Link) (all families, rejected map[string]string) {
	leases := slices.DeleteFunc(view.Leases, func(l subnet.Lease) bool { return l.Key == view.Awaits })
	rejected = map[string]string{}
	for i, h := range a.current.halves {
		c := h.config
		c.Others = a.otherNetworks()
		of := leases
		if i < len(a.current.halves)-1 { // the peers take their place
			of = slices.Clone(leases)
		}
		peers, wrong := subnet.Peers(c, view.Own, of, addrs(links), a.refuse)
		peers = dropSwallowed(a.beneath.host, c, peers, wrong)
		all[h.family.Index()] = slices.DeleteFunc(peers, func(l subnet.Lease) bool { return a.suspects.holds(l.Subnet) })
		maps.Copy(rejected, wrong)
	}
	return all, rejected
}

// otherNetworks are those in which hosts may be that have not moved yet, or have moved
// before this one.
func (a *Agent) otherNetworks() []netip.Prefix {
	return slices.DeleteFunc(slices.Concat(a.Former.Networks(), a.next.asked.Networks()), func(p netip.Prefix) bool {
		return slices.Contains(a.current.config.Networks(), p)
	})
}

// trackOverlap says what of the cluster's network this host needs itself.
func (a *Agent) trackOverlap(own subnet.Lease) {
	var all []condition.Condition
	for _, h := range a.next.halves {
		c, told := h.config, false
		mine, _ := own.For(h.family)
		for _, n := range a.beneath.host.Within(c.Network) {
			if !c.MayLease(n.Prefix) {
				continue
			}
			all = append(all, condition.Condition{
				Subject: n.Prefix.String(),
				Message: fmt.Sprintf("the cluster's network %v holds %v, which this host needs: flanneld leases no subnet with it "+
					"and routes to none; leave it out by another %s, or by %s and %s", c.Network, n,
					subnet.Field(h.family, "Network"), subnet.Field(h.family, "SubnetMin"), subnet.Field(h.family, "SubnetMax")),
			})
			if mine.Subnet.IsValid() && n.Overlaps(mine.Subnet) && !told {
				told = true
				all = append(all, condition.Condition{
					Subject: mine.Subnet.String(),
					Message: fmt.Sprintf("this host's own subnet %v overlaps %v, which it needs, so its containers may take that "+
						"away: restart flanneld, which takes another subnet, and then the containers", mine.Subnet, n),
				})
			}
		}
	}
	a.Conditions.Replace(condition.UnderlayOverlap, all)
}
