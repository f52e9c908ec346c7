package agent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"flanneld/pkg/backend"
	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// applied is what the last passes did to the kernel.
type applied struct {
	success time.Time // the last that found or made everything as it should be
	changed time.Time // the last that wrote
	change  string    // what it wrote
}

func (a *Agent) apply(want kernel.State) (kernel.Result, error) {
	start := time.Now()
	result, err := a.syncer.Apply(want)
	now := time.Now()
	if v := klog.V(2); v.Enabled() {
		v.InfoS("Reconciled the kernel",
			"routes", len(want.Routes), "writes", len(result.Ops), "took", now.Sub(start))
	}
	if a.Applied != nil {
		a.Applied(now.Sub(start), err)
	}
	if err == nil {
		a.latest.success = now
	}
	a.noteRepairs(result.Ops)
	if n := len(result.Ops); n > 0 {
		a.latest.changed, a.latest.change = now, result.Ops[n-1].String()
		if n > 1 {
			a.latest.change += fmt.Sprintf(" (and %d more)", n-1)
		}
	}
	return result, err
}

// usedLinks are the interfaces by which routes lead: the current setup's works until the
// next one's does.
func (a *Agent) usedLinks() []string {
	used := a.next.links()
	if a.current != nil {
		used = append(used, a.current.links()...)
	}
	return used
}

// applyKernel makes the kernel as the current setup wants it, with the devices
// of the next one beside; settled says that it is so. Nothing is done before
// this host holds a subnet.
func (a *Agent) applyKernel(view subnet.View, links []kernel.Link, now time.Time) (again time.Duration, settled bool) {
	a.newsDue = resync
	want, ok := a.want(view, links, now)
	if !ok {
		return resync, true
	}
	a.Changes.Filter(names(want.Devices), a.usedLinks())
	result, err := a.apply(want.State)
	a.setOthers(result.Others)
	if a.overlaps() {
		a.suspects.note(result.Ops, now)
	}
	unanswered := a.unanswered()
	if unanswered != nil {
		a.inbound.refreshAll()
	}
	again = a.inbound.update(want, a.next, now)
	a.silent = slices.ContainsFunc(want.Devices, func(d kernel.Device) bool {
		_, isUDP := d.Kind.(kernel.UDP)
		_, isWireGuard := d.Kind.(kernel.WireGuard)
		return isUDP || isWireGuard
	})
	again = min(again, a.setContention(result.Contention))
	if err == nil {
		err = unanswered
	}
	if err != nil {
		return min(again, a.applying.Failed(err)), false
	}
	a.applying.Succeeded()
	if a.Exclusive != nil {
		used := a.next.config.Networks()
		if a.current != nil {
			used = append(used, a.current.config.Networks()...)
		}
		a.Exclusive.Only(used, names(want.Devices))
	}
	return min(again, a.dueLeft(now), a.newsDue, cmp.Or(a.resumed.left(now), resync)), true
}

// want is the whole state to be; false: there is nothing to want yet.
func (a *Agent) want(view subnet.View, links []kernel.Link, now time.Time) (want desired, ok bool) {
	own := view.Own
	if a.current == nil {
		// A restart into another setup than the lease speaks of: only add.
		own = formerLease(view, a.self, subnet.Proof)
		want.State = kernel.State{Devices: a.next.devices(own), Partial: true, Networks: a.networks}
		return want, own.Subnet.IsValid()
	}
	if !own.Subnet.IsValid() {
		return desired{}, false
	}
	peers, rejected := a.peersOf(view, links)
	for _, h := range a.current.halves {
		a.place(h.family).onLink.startPass(a.Changes.Routing(), h.host.Link)
	}
	a.newsDue = a.noteNews(peers, now)
	want = a.desired(own, peers, now)
	a.notePeers(a.paths.update(want, now))
	a.held = own
	a.noteUse(want.given, now)
	want.Partial = view.Degraded || a.unanswered() != nil || a.resumed.left(now) > 0
	want.Harmful = a.harmful
	want.Networks, want.Own = a.networks, own.Subnets().All()
	if a.resumed.left(now) > 0 {
		want.expectFound(links)
	}
	a.explain(view, want, rejected)
	a.addDevices(&want, view)
	want.Families = a.familiesOf(want.Devices)
	return want, true
}

// addDevices adds those of the setups beside, whatever their families.
func (a *Agent) addDevices(want *desired, view subnet.View) {
	if view.Current { // etcd answers: peers hear of it at once
		for _, d := range a.ahead(view.Own) {
			i := slices.IndexFunc(want.Devices, func(has kernel.Device) bool { return has.Name == d.Name })
			want.Devices[i] = d
		}
	}
	all := a.next.devices(view.Own)
	for _, l := range a.left {
		all = append(all, l.devices...)
	}
	for _, d := range all {
		want.Devices = addIfAbsent(want.Devices, d)
	}
}

// familiesOf are those of the setups, of devices that are still to stay, and those that are
// waited for: an address of one may come.
func (a *Agent) familiesOf(devices []kernel.Device) (all []inet.Family) {
	for _, f := range inet.Families() {
		_, now := a.current.of(f)
		_, next := a.next.of(f)
		stays := slices.ContainsFunc(devices, func(d kernel.Device) bool { return d.Addrs.Of(f).IsValid() })
		if now || next || stays || slices.Contains(a.wanted, f) {
			all = append(all, f)
		}
	}
	return all
}

// unanswered is the kernel's error where it did not say whether a peer is on the link.
func (a *Agent) unanswered() error {
	if a.current == nil {
		return nil
	}
	for _, h := range a.current.halves {
		if err := a.place(h.family).onLink.err; err != nil {
			return err
		}
	}
	return nil
}

// explain says of each lease without a path why it has none.
func (a *Agent) explain(view subnet.View, want desired, rejected map[string]string) {
	var ignored, unreachable, duplicated []condition.Condition
	full := a.Dir.Key
	for key, reason := range view.Malformed {
		ignored = append(
			ignored,
			condition.Condition{Subject: key, Message: fmt.Sprintf("ignoring the key %q", full(key)), Cause: "it " + reason},
		)
	}
	if view.Omitted > 0 {
		ignored = append(ignored, condition.More(view.Omitted))
	}
	for key, reason := range rejected {
		ignored = append(
			ignored,
			condition.Condition{Subject: key, Message: fmt.Sprintf("ignoring the lease %q: it %s", full(key), reason)},
		)
	}
	for i, path := range want.paths {
		// Where the kernel did not answer, that is reported, and not the lease.
		if path.Mode != backend.None || path.Reason == backend.OnLinkUnknown {
			continue
		}
		p, of := &want.peers[i], &unreachable
		if path.Reason == backend.DuplicateKey {
			of = &duplicated
		}
		*of = append(*of, condition.Condition{Subject: p.Subnet.String(), Message: fmt.Sprintf(
			"no way to %v by %s: its host %v says backend %q; %v",
			p.Subnet, a.linkOf(p), p.PublicIP, p.BackendType, path.Reason)})
	}
	a.Conditions.Replace(condition.LeaseIgnored, ignored)
	a.Conditions.Replace(condition.PeerUnreachable, unreachable)
	a.Conditions.Replace(condition.KeyDuplicated, duplicated)
}

// linkOf is the external interface by which a peer is reached.
func (a *Agent) linkOf(p *subnet.Lease) string {
	h, _ := a.current.of(inet.Of(p.Subnet.Addr()))
	return h.host.Link.Name
}

// devices are those that a setup has whatever its peers.
func (u *setup) devices(own subnet.Lease) []kernel.Device {
	var all desired
	for _, h := range u.halves {
		all.add(h.desired(own, nil, backend.Around{}))
	}
	return all.Devices
}

// addIfAbsent adds d unless there is one of its name, which takes its place.
func addIfAbsent(devices []kernel.Device, d kernel.Device) []kernel.Device {
	for _, have := range devices {
		if have.Name == d.Name {
			return devices
		}
	}
	return append(devices, d)
}

func names(devices []kernel.Device) (out []string) {
	for _, d := range devices {
		out = append(out, d.Name)
	}
	return out
}

func addrs(links []kernel.Link) (out []netip.Addr) {
	for _, l := range links {
		for _, a := range l.Addrs {
			if !a.Duplicate {
				out = append(out, a.Addr())
			}
		}
	}
	return out
}
