package agent

import (
	"fmt"
	"net/netip"
	"time"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// applyKernel makes the kernel as the current mode wants it, with the devices
// of the next one beside; settled says that it is so. Nothing is done before
// this host holds a subnet.
func (a *Agent) applyKernel(view subnet.View, links []kernel.Link, now time.Time) (again time.Duration, settled bool) {
	want, ok := a.want(view, links, now)
	if !ok {
		return resync, true
	}
	a.Changes.Heed(names(want.Devices), []string{a.next.host.Link.Name})
	result, err := a.apply(want)
	conflicts := map[string]string{}
	for _, c := range result.Conflicts {
		conflicts["conflict "+c.Dst.String()] = c.String()
	}
	a.notes.replace("conflict ", conflicts)
	again = a.routed.note(want, a.devices(want, a.next.expect), a.next.host.Link.Name, now)
	if rest := a.fight.note(result.Repairs, now); rest > 0 {
		again = min(again, rest)
	}
	if err == nil {
		err = a.direct.failed
	}
	if err != nil {
		return min(again, a.lists.Failed(err)), false
	}
	a.lists.Worked()
	return min(again, a.linger.next(now)), true
}

// want is the whole state to be; false: there is nothing to want yet.
func (a *Agent) want(view subnet.View, links []kernel.Link, now time.Time) (kernel.State, bool) {
	own := view.Own
	if a.current == nil {
		// A restart into another mode than the lease speaks of: only add.
		own = formerLease(view, a.next.host.PublicIP)
		return kernel.State{Devices: a.next.devices(own), Partial: true}, own.Subnet.IsValid()
	}
	if !own.Subnet.IsValid() {
		return kernel.State{}, false
	}
	peers, rejected := subnet.Peers(a.current.config, own, view.Leases, addrs(links))
	a.direct.renew(a.Changes.Routing(), a.current.host.Link)
	reaches := func(ip netip.Addr) bool { return a.direct.reaches(ip, a.Kernel) }
	want := a.current.backend.Desired(own, peers, reaches)
	want.Partial = view.Doubtful || a.direct.failed != nil
	a.noteWays(want.Routes, now)
	a.next.expect = nil
	if a.next != a.current {
		a.next.expect = a.next.backend.Desired(own, peers, reaches).Routes
	}
	a.explain(view, want, peers, rejected)
	for _, d := range a.next.devices(own) {
		want.Devices = withDevice(want.Devices, d)
	}
	for _, d := range a.linger.devices(now) {
		want.Devices = withDevice(want.Devices, d)
	}
	return want, true
}

// explain says of each lease without a way why it has none.
func (a *Agent) explain(view subnet.View, want kernel.State, peers []subnet.Lease, rejected map[string]string) {
	reasons := map[string]string{}
	for key, reason := range view.Malformed {
		reasons["lease "+key] = fmt.Sprintf("ignoring the key %q: %s", key, reason)
	}
	for key, reason := range rejected {
		reasons["lease "+key] = fmt.Sprintf("ignoring the lease %q: it %s", key, reason)
	}
	for _, p := range unreached(peers, want.Routes) {
		reasons["lease "+subnet.Key(p.Subnet)] = fmt.Sprintf(
			"no way to %v: its host %v says backend %q and is not on the link of %s; hosts behind routers need the vxlan backend, each with a MAC of its own",
			p.Subnet, p.PublicIP, p.BackendType, a.current.host.Link.Name)
	}
	a.notes.replace("lease ", reasons)
}

// unreached are the peers that no route leads to.
func unreached(peers []subnet.Lease, routes []kernel.Route) (out []subnet.Lease) {
	if len(routes) == len(peers) { // as it should be, and a thousand times as often
		return nil
	}
	reached := make(map[netip.Prefix]bool, len(routes))
	for _, r := range routes {
		reached[r.Dst] = true
	}
	for _, p := range peers {
		if !reached[p.Subnet] {
			out = append(out, p)
		}
	}
	return out
}

// devices are those that a mode has whatever its peers.
func (m *mode) devices(own subnet.Lease) []kernel.Device {
	if !own.Subnet.IsValid() {
		return nil
	}
	return m.backend.Desired(own, nil, nil).Devices
}

// withDevice adds d unless there is one of its name, which takes its place.
func withDevice(devices []kernel.Device, d kernel.Device) []kernel.Device {
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
			out = append(out, a.Addr())
		}
	}
	return out
}

// formerLease is the lease that a host at ip holds; zero if none.
func formerLease(view subnet.View, ip netip.Addr) subnet.Lease {
	if view.Own.Subnet.IsValid() {
		return view.Own
	}
	for _, l := range view.Leases {
		if l.PublicIP == ip {
			return l
		}
	}
	return subnet.Lease{}
}

// lingering are devices of a mode that was left. Peers that have not heard of
// it yet still send to them.
type lingering struct {
	until time.Time
	kept  []kernel.Device
}

// lingerTime is ample for a peer's watch to tell it of a lease.
const lingerTime = 10 * time.Second

func (l *lingering) keep(devices []kernel.Device, now time.Time) {
	l.kept, l.until = append(l.devices(now), devices...), now.Add(lingerTime)
}

func (l *lingering) devices(now time.Time) []kernel.Device {
	if !now.Before(l.until) {
		l.kept = nil
	}
	return l.kept
}

// next is how long until the devices may go.
func (l *lingering) next(now time.Time) time.Duration {
	if len(l.devices(now)) == 0 {
		return resync
	}
	return l.until.Sub(now)
}
