package check

import (
	"fmt"
	"strconv"

	"flanneld/pkg/condition"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

func goodDevice(f Facts) string {
	d := f.Status.Device
	switch {
	case d == nil && f.by(status.Alloc):
		return "there is none: flanneld carries no packets with the backend alloc"
	case d == nil:
		return "none is needed: packets travel as they are"
	case d.Kind == status.UDP:
		return fmt.Sprintf("%s is up, UDP port %d; flanneld carries its packets itself, and none while it is stopped",
			d.Name, d.Port)
	case d.Kind == status.WireGuard:
		return fmt.Sprintf("%s is up, UDP port %d", d.Name, d.Port)
	}
	return fmt.Sprintf("%s is up, VNI %d, UDP port %d", d.Name, d.VNI, d.Port)
}

// findDevice looks for others who hold the device's name, its VNI or its port.
func findDevice(f Facts) []Finding {
	if fix := f.fixTUN(); fix != nil {
		c, _ := f.condition(condition.KernelNotApplied)
		return []Finding{fault(fix, "flanneld cannot make a TUN device, which carries its packets: %s", c.Cause)}
	}
	if f.Status == nil || f.Status.Lease == nil {
		return skipped("there is none before the lease")
	}
	d := f.Status.Device
	if d == nil {
		return nil
	}
	var out []Finding
	seen := map[int]bool{}
	for _, s := range f.Sockets {
		if seen[s.Process.PID] || s.Family == inet.IPv4 && f.family == inet.IPv6 {
			continue // one of IPv6 takes what is of IPv4 as well, and not the reverse
		}
		if s.Port != d.Port {
			continue
		}
		seen[s.Process.PID] = true
		fix := fmt.Sprintf("stop %s (pid %d), or give flanneld another Port in Backend, by flanneld config set",
			printable.Word(s.Process.Name), s.Process.PID)
		out = append(out, fault([]string{fix},
			"UDP port %d, the tunnel's, is held by %s (pid %d)", s.Port, s.Process.Name, s.Process.PID))
	}
	for _, l := range f.Links {
		if l.Name != d.Name && sameTunnel(l, *d) && f.mayCollide(l) {
			out = append(out, fault([]string{printable.Command("ip", "link", "del", l.Name) + "   # if nothing else needs it"},
				"%s is a %s device with the %s that flanneld needs", l.Name, l.Type, marksOf(d.VNI, d.Port)))
		}
	}
	if len(out) > 0 {
		return out
	}
	if least := f.words().leastMTU; f.family == inet.IPv6 && d.MTU < least {
		h := f.Status.Host
		enough := strconv.Itoa(least + h.MTU - d.MTU)
		return []Finding{fault([]string{printable.Command("ip", "link", "set", h.Interface, "mtu", enough) +
			"   # or more, as all that is between hosts carries"},
			"the tunnel leaves containers packets of %d bytes, and IPv6 needs %d or more", d.MTU, least)}
	}
	if wrong := f.wrongDevice(); wrong != "" {
		l, _ := f.link(d.Name)
		_, fitting := f.unfit(l)
		if l.Name == "" {
			fitting = nil
		}
		return []Finding{fault(append(fitting, f.repairFix()...), "%s", wrong)}
	}
	if d.Kind == status.WireGuard && d.UserSpace {
		return []Finding{note("%s is up, UDP port %d; this host's kernel has no WireGuard, so flanneld encrypts itself: "+
			"that is slower, and no packet passes while it is stopped", d.Name, d.Port)}
	}
	return nil
}

// marksOf is what tells tunnels apart.
func marksOf(vni, port int) string {
	if vni == 0 {
		return fmt.Sprintf("port %d", port)
	}
	return fmt.Sprintf("VNI %d and port %d", vni, port)
}

// tunFile is by which TUN devices are made.
const tunFile = "/dev/net/tun"

// fixTUN lets the daemon make TUN devices, where it needs one and cannot; nil: it can.
func (f Facts) fixTUN() []string {
	if f.TUN == nil || !f.has(condition.KernelNotApplied) || !f.by(status.UDP) && !f.by(status.WireGuard) {
		return nil
	}
	return []string{
		"modprobe tun && mkdir -p /dev/net && mknod " + tunFile + " c 10 200 && chmod 666 " + tunFile +
			"   # c 10 200: by the kernel's list of devices",
		"give the container that flanneld runs in the device " + tunFile + ", as by docker run --device=" + tunFile,
	}
}

func (f Facts) unfits(l kernel.Link) string { why, _ := f.unfit(l); return why }

// mayCollide reports whether the kernel has one of l and f's device alone. Tunnels of
// different families may be alike in all else.
func (f Facts) mayCollide(l kernel.Link) bool {
	v, is := l.Kind.(kernel.VXLAN)
	return !is || !v.Local.IsValid() && f.family == inet.IPv4 || v.Local.IsValid() && inet.Of(v.Local) == f.family
}

// wrongDevice compares the device with the wanted one. What is wrong the daemon
// puts right at once, unless something keeps it from doing so.
func (f Facts) wrongDevice() string {
	d := f.Status.Device
	switch l, exists := f.link(d.Name); {
	case !exists:
		return "the device " + d.Name + " is not there"
	case l.Kind == nil || l.Alias != kernel.Alias:
		return fmt.Sprintf("%s is not flanneld's device, but somebody else's of kind %s", d.Name, l.Type)
	case !sameTunnel(l, *d):
		has := l.Kind.Encapsulation()
		return fmt.Sprintf("%s has %s, and flanneld wants %s", d.Name, marksOf(has.ID, has.Port), marksOf(d.VNI, d.Port))
	case !l.Up:
		return d.Name + " is down"
	case f.unfits(l) != "":
		return f.unfits(l)
	case l.MTU != d.MTU:
		return fmt.Sprintf("%s has MTU %d, and flanneld wants %d", d.Name, l.MTU, d.MTU)
	case !l.Has(d.Addr):
		return fmt.Sprintf("%s has %s, and flanneld wants %v", d.Name, addresses(l), d.Addr)
	}
	return ""
}

// sameTunnel reports whether packets for the wanted device could arrive at l.
func sameTunnel(l kernel.Link, d status.Device) bool {
	if l.Kind == nil {
		return false
	}
	if d.UserSpace && l.Type == kernel.TAP && l.Name == d.Name {
		return true // what it listens at only its process knows
	}
	outer := l.Kind.Encapsulation()
	return outer.ID == d.VNI && outer.Port == d.Port
}

// culprit leads to what undoes flanneld's work.
func (f Facts) culprit() string {
	objects := "link address route neigh"
	if f.Status.Device == nil {
		objects = "route"
	}
	return "ip monitor " + objects +
		"   # shows when another program undoes it: often a network manager (docs/firewall.md)"
}
