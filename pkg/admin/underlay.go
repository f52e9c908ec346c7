package admin

import (
	"fmt"
	"net/netip"
	"slices"

	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
	"flanneld/pkg/underlay"
)

// verdict is what a config would do to the hosts that it is for.
type verdict struct {
	refused []underlay.Need // its subnets may take these away from hosts
	doubted []underlay.Need // they may be hosts' too
}

// judge looks for hosts' own addresses in the network. The host on which the command
// runs need not be one of them: a network of its own is the hosts' too where
// etcd or a host is in it.
func (a Admin) judge(c subnet.Config, leases []subnet.Lease) (v verdict) {
	if a.Underlay == nil {
		return v
	}
	u := a.Underlay()
	known := slices.Clone(u.Etcd)
	for _, l := range leases {
		known = append(known, underlay.Address(l.PublicIP, fmt.Sprintf("the public IP of the host with %v", l.Subnet)))
	}
	var maybe []underlay.Need
	for _, n := range u.Connected {
		shared := func(k underlay.Need) bool { return n.Contains(k.Addr()) }
		if slices.ContainsFunc(known, shared) {
			known = append(known, n)
		} else if u.Local {
			maybe = append(maybe, n)
		}
	}
	for _, n := range underlay.Within(known, c.Network) {
		if c.MayLease(n.Prefix) {
			v.refused = append(v.refused, n)
		}
	}
	for _, n := range append(underlay.Within(maybe, c.Network), underlay.Around(known, c.Network)...) {
		if c.MayLease(n.Prefix) {
			v.doubted = append(v.doubted, n)
		}
	}
	return v
}

// CheckUnderlay says what of a config's network its hosts need themselves: as an
// error, of type *subnet.FieldError, where they are sure to, and otherwise as a
// warning.
func (a Admin) CheckUnderlay(c subnet.Config, leases []subnet.Lease) (warning string, err error) {
	v := a.judge(c, leases)
	if len(v.doubted) > 0 {
		warning = fmt.Sprintf("Network %v shares addresses with %s: if any host or etcd is reached at one, "+
			"leave it out by another Network, or by SubnetMin and SubnetMax.", c.Network, list(v.doubted))
	}
	if len(v.refused) > 0 {
		err = &subnet.FieldError{Field: "Network", Value: c.Network.String(), Reason: fmt.Sprintf(
			"holds %s, which hosts need: a subnet with that would cut them off; choose another Network, or SubnetMin and "+
				"SubnetMax that leave it out", list(v.refused))}
	}
	return warning, err
}

// checkSubnet says what of one subnet hosts need themselves.
func (a Admin) checkSubnet(c subnet.Config, p netip.Prefix, leases []subnet.Lease) error {
	c.SubnetMin, c.SubnetMax = p.Addr(), p.Addr()
	if v := a.judge(c, leases); len(v.refused) > 0 {
		return fmt.Errorf("%v holds %s, which hosts need: a route to it would cut them off; take another subnet",
			p, list(v.refused))
	}
	return nil
}

// mostNamed bounds a list for people.
const mostNamed = 5

func list(needs []underlay.Need) string {
	var out []string
	for _, n := range needs {
		out = append(out, n.String())
	}
	return printable.Some(out, mostNamed, ", ", " and")
}

// sameSubnets tells whether two configs have the same subnets.
func sameSubnets(a, b subnet.Config) bool {
	return a.Network == b.Network && a.SubnetLen == b.SubnetLen && a.SubnetMin == b.SubnetMin && a.SubnetMax == b.SubnetMax
}
