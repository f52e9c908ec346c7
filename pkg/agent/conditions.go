package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"flanneld/pkg/backend"
	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
	"flanneld/pkg/subnet"
)

// waitsForLink reports whether an external interface is down, and keeps the
// condition for it.
func (a *Agent) waitsForLink(hosts []backend.Host) bool {
	var down []condition.Condition
	for _, name := range linksOf(hosts) {
		if slices.ContainsFunc(hosts, func(h backend.Host) bool { return h.Link.Name == name && !h.Link.Up }) {
			down = append(
				down,
				condition.Condition{Subject: name, Message: "external interface " + name + " is down: waiting for it"},
			)
		}
	}
	a.Conditions.Replace(condition.InterfaceDown, down)
	return len(down) > 0
}

// setConfigCondition says what is wrong with the config key, or with what it needs of this host;
// no code: nothing.
func (a *Agent) setConfigCondition(code condition.Code, message string) {
	for _, c := range []condition.Code{condition.ConfigMissing, condition.ConfigInvalid, condition.KeyUnusable} {
		if c != code {
			a.Conditions.Clear(c, "")
		}
	}
	if code != "" {
		a.Conditions.Set(condition.Condition{Code: code, Message: message})
	}
}

// trackAddresses says that the config key or a reservation asks for other addresses than
// those in force, and which hosts are still on the config's former ones.
func (a *Agent) trackAddresses(view subnet.View) {
	var all []condition.Condition
	if asked := a.next.asked; asked.Network.IsValid() && view.Own.Subnet.IsValid() {
		all = append(all, othersAsked(view, asked))
	}
	for i := range view.Leases {
		l := &view.Leases[i]
		fits := !a.next.asked.Network.IsValid() || !a.next.asked.Misfits(l.Subnets())
		if l.Key == view.Awaits && l.Subnet != view.Own.Subnet && fits {
			all = append(all, condition.Condition{Subject: l.Key, Message: fmt.Sprintf(
				"%v is reserved for this host: it keeps %v until flanneld is restarted here, and then its containers must be, too",
				l.Subnet, view.Own.Subnet)})
		}
	}
	a.Conditions.Replace(condition.AddressesPending, all)
}

func othersAsked(view subnet.View, asked subnet.Config) condition.Condition {
	var old, ranges []string
	for _, l := range view.Leases {
		if asked.Misfits(l.Subnets()) {
			old = append(old, fmt.Sprintf("%v of %v", l.Subnets(), l.PublicIP))
		}
	}
	for _, f := range asked.Families() {
		c, _ := asked.For(f)
		ranges = append(ranges, fmt.Sprintf("/%d from %v to %v in %v", c.SubnetLen, c.SubnetMin, c.SubnetMax, c.Network))
	}
	return condition.Condition{
		Message: fmt.Sprintf("the config key asks for subnets of %s: this host keeps %v until "+
			"flanneld is restarted here, and then its containers must be, too",
			strings.Join(ranges, ", and of "), view.Own.Subnets()),
		Cause: "still on the old addresses are " + printable.Some(old, hostsToName, ", ", " and"),
	}
}

// hostsToName bounds how many hosts are named.
const hostsToName = 5

// noteIgnoredFields says which fields of the config key have no effect.
func (a *Agent) noteIgnoredFields(config subnet.Entry) {
	var all []condition.Condition
	for _, f := range backend.IgnoredFields(config.Value, a.Backends) {
		all = append(all, condition.Condition{
			Subject: f.Field, Message: fmt.Sprintf("ignoring the field %q of the config key: %s", f.Field, f.Remark),
		})
	}
	a.Conditions.Replace(condition.ConfigFieldIgnored, all)
}

// setOthers says what others have put into the kernel where it is in the way.
func (a *Agent) setOthers(o kernel.Others) {
	all := map[condition.Code][]condition.Condition{}
	add := func(code condition.Code, subject fmt.Stringer, message string) {
		all[code] = append(all[code], condition.Condition{Subject: subject.String(), Message: message})
	}
	for _, c := range o.Conflicts {
		code := condition.RouteConflict
		if c.Place == kernel.InPart {
			code = condition.RouteShadowed
		}
		add(code, c.Found, c.String())
	}
	for _, f := range o.Foreign {
		code, text := condition.DeviceForeign, f.Describe()
		if need, taken := a.beneath.host.Diverts(f.Leads(), f.Route.Metric); taken {
			code, text = condition.UnderlayDiverted, fmt.Sprintf("%s, and leads %v into the network", text, need)
		}
		add(code, f, text+": have it leave the device alone (docs/firewall.md), and type: "+f.Command())
	}
	for _, code := range []condition.Code{
		condition.RouteConflict, condition.RouteShadowed, condition.UnderlayDiverted, condition.DeviceForeign,
	} {
		a.Conditions.Replace(code, all[code])
	}
}

// conditions are what is wrong as of now, with what follows from it.
func (a *Agent) conditions(view subnet.View, now time.Time) condition.List {
	a.trackConsequences(view, now)
	return a.Conditions.List()
}

// trackConsequences keeps the conditions that follow from others and from the view.
func (a *Agent) trackConsequences(view subnet.View, now time.Time) {
	for _, c := range []condition.Condition{
		a.notCurrent(view, now), a.noLease(view), leaseExpired(view, now), a.starting(view),
	} {
		a.Conditions.Track(c, c.Message != "")
	}
	a.noteReady()
}

// notCurrent says that not everything in the store is known.
func (a *Agent) notCurrent(view subnet.View, now time.Time) condition.Condition {
	c := condition.Condition{Code: condition.EtcdNotCurrent}
	unreadable, _ := a.Conditions.Find(condition.EtcdUnreadable, "")
	switch {
	case !view.Listed:
		c.Message, c.Cause = "etcd has not been read yet", unreadable.Cause
	case !view.Current:
		c.Message, c.Cause = "the list of peers may be old", cmp.Or(unreadable.Cause,
			fmt.Sprintf("etcd has told nothing for %v", now.Sub(view.Read).Round(time.Second)))
	}
	return c
}

// noLease says that this host has none, and why.
func (a *Agent) noLease(view subnet.View) condition.Condition {
	c := condition.Condition{Code: condition.NoLease}
	switch {
	case !view.Listed || view.Stored:
		return c
	case view.Own.Subnet.IsValid():
		c.Message = fmt.Sprintf("the lease of %v is not in etcd: other hosts do not know of it", view.Own.Subnet)
		return c
	}
	c.Message = "no lease yet"
	for _, code := range []condition.Code{
		condition.ConfigMissing, condition.ConfigInvalid, condition.KeyUnusable, condition.EtcdUnwritable,
		condition.NoFreeSubnet,
	} {
		if why, there := a.Conditions.Find(code, ""); there {
			c.Message, c.Cause = "no lease", why.Text()
			break
		}
	}
	return c
}

func leaseExpired(view subnet.View, now time.Time) condition.Condition {
	c := condition.Condition{Code: condition.LeaseExpired}
	if own := view.Own; own.Subnet.IsValid() && !own.Expires.IsZero() && !own.Expires.After(now) {
		c.Message = fmt.Sprintf("the lease of %v has expired", own.Subnet)
	}
	return c
}

func (a *Agent) starting(view subnet.View) condition.Condition {
	c := condition.Condition{Code: condition.Starting}
	if view.Listed && (!a.ready || a.current == nil) {
		c.Message = "not everything is in place yet"
	}
	if view.Listed && a.current != nil && a.SetRules != nil && view.Own.Subnet.IsValid() && !a.firewall.inPlace() {
		c.Message = "the firewall rules are not in place yet"
	}
	return c
}
