package check

import (
	"fmt"

	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

func goodDevice(f Facts) string {
	if f.Status.Device == nil {
		return "none is needed: packets travel as they are"
	}
	d := f.Status.Device
	return fmt.Sprintf("%s is up, VNI %d, UDP port %d", d.Name, d.VNI, d.Port)
}

// findDevice looks for others who hold the device's name, its VNI or its port.
func findDevice(f Facts) []Finding {
	if f.Status == nil || f.Status.Lease == nil {
		return skipped("there is none before the lease")
	}
	d := f.Status.Device
	if d == nil {
		return nil
	}
	var out []Finding
	for _, s := range f.Sockets {
		fix := fmt.Sprintf("stop %s (pid %d), or give flanneld another Port in Backend, by flanneld config set",
			printable.Word(s.Process.Name), s.Process.PID)
		out = append(out, fault([]string{fix},
			"UDP port %d, the tunnel's, is held by %s (pid %d)", s.Port, s.Process.Name, s.Process.PID))
	}
	for _, l := range f.Links {
		if l.Name != d.Name && sameTunnel(l, *d) {
			out = append(out, fault([]string{printable.Command("ip", "link", "del", l.Name) + "   # if nothing else needs it"},
				"%s is a %s device with the VNI %d and port %d that flanneld needs", l.Name, l.Type, d.VNI, d.Port))
		}
	}
	if len(out) > 0 {
		return out
	}
	if wrong := f.wrongDevice(); wrong != "" {
		return []Finding{fault(f.repairFix(), "%s", wrong)}
	}
	return nil
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
		return fmt.Sprintf("%s has VNI %d and port %d, and flanneld wants VNI %d and port %d",
			d.Name, has.ID, has.Port, d.VNI, d.Port)
	case !l.Up:
		return d.Name + " is down"
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
