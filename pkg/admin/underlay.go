package admin

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"flanneld/pkg/inet"
	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
	"flanneld/pkg/underlay"
)

// verdict is what a config would do to the hosts that it is for.
type verdict struct {
	refused []underlay.Need // its subnets may take these away from hosts
	doubted []underlay.Need // they may be hosts' too
}

// judge looks for hosts' own addresses in the network of a config of one family. The host on which the command
// runs need not be one of them: a network of its own is the hosts' too where
// etcd or a host is in it.
func (a Admin) judge(c subnet.Config, leases []subnet.Lease) (v verdict) {
	if a.Underlay == nil {
		return v
	}
	u := a.Underlay()
	known := slices.Clone(u.Etcd)
	for _, l := range leases {
		if e, ok := l.Of(inet.Of(c.Network.Addr())); ok {
			known = append(known, underlay.Address(e.PublicIP, fmt.Sprintf("the public IP of the host with %v", l.Subnet)))
		}
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
// errors, of type *subnet.FieldError, where they are sure to, and otherwise as
// warnings: one for each family at most.
func (a Admin) CheckUnderlay(c subnet.Config, leases []subnet.Lease) (warnings []string, err error) {
	var wrong []error
	for _, f := range c.Families() {
		half, _ := c.For(f)
		warning, err := a.checkUnderlay(half, leases)
		if warning != "" {
			warnings = append(warnings, warning)
		}
		wrong = append(wrong, err)
	}
	return warnings, errors.Join(wrong...)
}

// checkUnderlay is CheckUnderlay for a config of one family.
func (a Admin) checkUnderlay(c subnet.Config, leases []subnet.Lease) (warning string, err error) {
	v := a.judge(c, leases)
	field := func(name string) string { return subnet.Field(inet.Of(c.Network.Addr()), name) }
	if len(v.doubted) > 0 {
		warning = fmt.Sprintf("%s %v shares addresses with %s: if any host or etcd is reached at one, "+
			"leave it out by another %[1]s, or by %s and %s.",
			field("Network"), c.Network, list(v.doubted), field("SubnetMin"), field("SubnetMax"))
	}
	if len(v.refused) > 0 {
		err = &subnet.FieldError{Field: field("Network"), Value: c.Network.String(), Reason: fmt.Sprintf(
			"holds %s, which hosts need: a subnet with that would cut them off; choose another %s, or %s and "+
				"%s that leave it out", list(v.refused), field("Network"), field("SubnetMin"), field("SubnetMax"))}
	}
	return warning, err
}

// checkSubnet says what of one subnet, of the config's one family, hosts need themselves.
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
