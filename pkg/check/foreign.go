package check

import (
	"fmt"
	"net/netip"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/status"
	"flanneld/pkg/subnet"
	"flanneld/pkg/underlay"
)

// ground is what nobody but flanneld may put anything on.
func (f Facts) ground() (g kernel.Ground) {
	g.Networks = append([]netip.Prefix{}, f.networks()...)
	if f.Status == nil {
		return g
	}
	for _, h := range f.Status.Halves() {
		if h.Lease == nil {
			continue
		}
		own := h.Lease.Subnet
		g.Own = append(g.Own, own)
		if d := h.Device; d != nil {
			network := subnet.SubnetsOf(f.networks()...).Of(inet.Of(own.Addr()))
			a := kernel.DeviceAddr{Prefix: netip.PrefixFrom(d.Addr, d.Addr.BitLen()), Network: network, SubnetLen: own.Bits()}
			g.Devices = append(g.Devices, kernel.Device{Name: d.Name, Addrs: kernel.AddrsOf(a)})
		}
	}
	return g
}

// networks are the cluster's, as far as they are known.
func (f Facts) networks() (all []netip.Prefix) {
	if f.Status != nil {
		for _, h := range f.Status.Halves() {
			if h.Network != nil && h.Network.Network.IsValid() {
				all = append(all, h.Network.Network)
			}
		}
	}
	if len(all) == 0 {
		all = f.Env.Networks()
	}
	return all
}

const foreignStep = "foreign"

// findOnDevice looks for what others have put on flanneld's device. It comes before etcd,
// to which that may be in the way.
func findOnDevice(f Facts) (out []Finding) {
	host := f.underlay()
	managers := f.leaveAlone()
	for _, x := range f.ground().Foreign(f.Links, f.Routes) {
		if _, isPeer := f.peerAt(x.Route.Dst); isPeer && !x.Addr.IsValid() {
			continue // the way to it is looked at by itself
		}
		found := Finding{Level: Note, Text: x.Describe(), Fix: append(managers, x.Command())}
		if need, taken := host.Diverts(x.Leads(), x.Route.Metric); taken {
			found.Level = Fault
			found.Text += fmt.Sprintf(", and leads %v into the network", need)
		}
		if x.Leads().Bits() == 0 {
			ip := dialects[inet.Of(x.Leads().Addr())].ip
			found.Fix = append(found.Fix, ip+" route show default   # does this host have its own again? what manages its "+
				"interface brings it back, when restarted")
		}
		out, managers = append(out, found), nil // once
	}
	return out
}

func (f Facts) peerAt(dst netip.Prefix) (status.Peer, bool) {
	if f.Status != nil {
		for _, p := range f.Status.Peers {
			if p.Subnet == dst {
				return p, true
			}
		}
	}
	return status.Peer{}, false
}

// underlay is what this host needs, as far as is known here.
func (f Facts) underlay() underlay.Host {
	own := f.ground().Own
	var external []string
	var needs []underlay.Need
	if f.Status != nil {
		for _, h := range f.Status.Halves() {
			if h.Host != nil {
				external = append(external, h.Host.Interface)
			}
		}
		for _, m := range f.Members {
			if a, err := netip.ParseAddr(m.Host); err == nil {
				needs = append(needs, underlay.Address(a, "etcd"))
			}
		}
	}
	return underlay.Of(external, f.Links, f.Routes, needs, own)
}

// managers configure interfaces, by the names of their processes (comm, of which the
// kernel keeps 15 bytes).
var managers = []struct{ comm, name, lines string }{
	{"dhcpcd", "dhcpcd", "echo 'denyinterfaces flannel*' >> /etc/dhcpcd.conf && dhcpcd --rebind"},
	{"systemd-network", "systemd-networkd", `printf '[Match]\nName=flannel*\n\n[Link]\nUnmanaged=yes\n' ` +
		"> /etc/systemd/network/05-flannel.network && networkctl reload"},
	{"NetworkManager", "NetworkManager", `printf '[keyfile]\nunmanaged-devices+=interface-name:flannel*\n' ` +
		"> /etc/NetworkManager/conf.d/90-flanneld.conf && systemctl reload NetworkManager"},
}

// leaveAlone has the managers of this host leave flanneld's device alone: those that
// run, or where none is seen, each.
func (f Facts) leaveAlone() (fix []string) {
	for _, m := range managers {
		if f.Managers[m.comm] {
			fix = append(fix, m.lines)
		}
	}
	if len(fix) > 0 {
		return fix
	}
	for _, m := range managers {
		fix = append(fix, m.lines+"   # where "+m.name+" runs")
	}
	return fix
}

// findDiverted looks for routes that lead this host's own subnet away.
func findDiverted(f Facts) (out []Finding) {
	if f.Status == nil || f.Status.Lease == nil {
		return skipped("there is no subnet before the lease")
	}
	former, others := f.ground().Diverted(f.Links, f.Routes)
	for _, r := range former { // which the daemon removes, unless something keeps it from doing so
		own := f.leased().Of(inet.Of(r.Dst.Addr()))
		others = append(others, kernel.Conflict{Place: kernel.InOwn, Dst: own, Found: *r})
	}
	for _, c := range others {
		fix := []string{c.Command()}
		if c.Place == kernel.Missing {
			out = append(out, fault(fix,
				"the route to %v by %s, which has an address of it, is not there", c.Found.Dst, c.Found.Dev))
			continue
		}
		if _, failed := f.condition(condition.KernelNotApplied); failed {
			fix = append(fix, f.repairFix()...)
		}
		out = append(out, fault(fix, "packets for this host's own containers, %v, leave by the route %v", c.Dst, c.Found))
	}
	return out
}
