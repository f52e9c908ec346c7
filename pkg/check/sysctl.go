package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
)

// setting is what the kernel has for an interface: "net.ipv4.conf.ens33.rp_filter".
func (f Facts) setting(dev, name string) string { return f.words().conf + dev + "." + name }

// sysctlOf takes a setting of an interface apart. A dot in an interface's name, as in
// flannel.1, separates nothing. False: it is none of an interface.
func sysctlOf(key string) (conf, dev, name string, is bool) {
	for _, family := range inet.Families() {
		conf = dialects[family].conf
		if rest, found := strings.CutPrefix(key, conf); found {
			at := strings.LastIndexByte(rest, '.')
			return conf, rest[:at], rest[at+1:], true
		}
	}
	return "", "", "", false
}

// assignment is what sysctl takes: a dot in an interface's name as a slash (sysctl(8)).
func assignment(key string, value int) string {
	if conf, dev, name, is := sysctlOf(key); is {
		key = conf + strings.ReplaceAll(dev, ".", "/") + "." + name
	}
	return key + "=" + strconv.Itoa(value)
}

// setSysctl is the command that sets "net.ipv4.conf.flannel.1.forwarding" and its like.
func setSysctl(key string, value int) string {
	return printable.Command("sysctl", "-w", assignment(key, value))
}

// keepFile is where settings are for the next start.
const keepFile = "/etc/sysctl.d/90-flanneld.conf"

// keepSysctl is the command that has a host begin with settings.
func keepSysctl(assignments ...string) string {
	return printable.Command("printf", append([]string{`%s\n`}, assignments...)...) + " | tee -a " + keepFile +
		"   # for the next start"
}

func goodForwarding(f Facts) string {
	if deaf := f.unheard(); len(deaf) > 0 {
		return fmt.Sprintf("on, and so %s takes no router advertisements: that needs %s=2",
			deaf[0], f.setting(deaf[0], "accept_ra"))
	}
	return "on"
}

// findForwarding looks at whether the kernel forwards at all.
func findForwarding(f Facts) (out []Finding) {
	w := f.words()
	byItself := func(dev string) bool { return f.Sysctl[f.setting(dev, "force_forwarding")] == "1" } // Linux 6.17
	if f.Sysctl[w.forwarding] == "0" && !every(f.devices(), byItself) {
		return []Finding{fault(f.switchOn(), "this host forwards no packets: %s is 0", w.forwarding)}
	}
	if f.family == inet.IPv6 { // of which that of an interface decides about other things
		return f.deaf()
	}
	for _, dev := range f.devices() {
		if key := f.setting(dev, "forwarding"); f.Sysctl[key] == "0" {
			out = append(
				out,
				fault(
					[]string{setSysctl(key, 1)},
					"what arrives on %s is not forwarded: %s is 0",
					dev,
					key,
				),
			)
		}
	}
	return out
}

func every(devices []string, is func(string) bool) bool {
	return !slices.ContainsFunc(devices, func(dev string) bool { return !is(dev) })
}

// switchOn has a host forward. From then on it takes no router advertisements unless told
// to, and the routes that it has by them are gone at once.
func (f Facts) switchOn() []string {
	forward := f.words().forwarding
	hearing := f.hearing()
	if len(hearing) == 0 {
		keep := "echo " + forward + "=1 | tee " + keepFile + "   # for the next start"
		if f.family == inet.IPv6 {
			keep = keepSysctl(forward + "=1")
		}
		return []string{"sysctl -w " + forward + "=1", keep}
	}
	var first, all []string
	for _, dev := range hearing {
		key := f.setting(dev, "accept_ra")
		first, all = append(first, setSysctl(key, 2)), append(all, assignment(key, 2))
	}
	return []string{
		strings.Join(first, " && ") + " && sysctl -w " + forward + "=1   # in this order: a host that forwards drops " +
			"a default route that it has by router advertisements",
		keepSysctl(append(all, forward+"=1")...),
	}
}

// hearing are interfaces to other hosts on which router advertisements are taken only
// while this host does not forward.
func (f Facts) hearing() (all []string) {
	for _, dev := range f.outward() {
		if f.family == inet.IPv6 && f.Sysctl[f.setting(dev, "accept_ra")] == "1" {
			all = append(all, dev)
		}
	}
	return all
}

// outward are the interfaces to other hosts: the external one, and those of default routes.
func (f Facts) outward() (all []string) {
	if f.external != "" {
		all = append(all, f.external)
	}
	for _, r := range f.Routes {
		if r.Dst.Bits() == 0 && r.Dev != "" && !slices.Contains(all, r.Dev) && !f.tunnels(r.Dev) {
			all = append(all, r.Dev)
		}
	}
	return all
}

func (f Facts) tunnels(dev string) bool {
	l, exists := f.link(dev)
	return exists && l.Tunnel()
}

// unheard are those of them on which none are taken, as this host forwards.
func (f Facts) unheard() []string {
	hears := func(dev string) bool { return f.Sysctl[f.setting(dev, "forwarding")] != "1" }
	return slices.DeleteFunc(f.hearing(), hears)
}

// hearAgain has them taken.
func (f Facts) hearAgain() (fix []string) {
	for _, dev := range f.unheard() {
		fix = append(fix, setSysctl(f.setting(dev, "accept_ra"), 2)+"   # where addresses are by router advertisements: a "+
			"host that forwards takes none otherwise")
	}
	return fix
}

// deaf finds interfaces that have something by router advertisements, and take no more.
func (f Facts) deaf() (out []Finding) {
	for _, dev := range f.unheard() {
		if !f.Leasing[dev] {
			continue
		}
		key := f.setting(dev, "accept_ra")
		now := setSysctl(key, 2) + "   # the route comes back with the next one"
		out = append(out, fault([]string{now, keepSysctl(assignment(key, 2))},
			"%s takes no router advertisements, as this host forwards (%s is 1): an address that it has by them "+
				"expires, and a default route is gone", dev, key))
	}
	return out
}

// devices are those that containers' packets pass.
func (f Facts) devices() (out []string) {
	out = append(out, f.inner())
	if f.Status != nil && f.Status.Host != nil {
		out = append(out, f.Status.Host.Interface)
	}
	if f.Status != nil && f.Status.Device != nil {
		out = append(out, f.Status.Device.Name)
	}
	return out
}

// strict reports whether a device drops what it would not answer through
// itself (rp_filter; Linux takes the higher of the two settings). IPv6 has no such thing.
func (f Facts) strict(dev string) bool {
	all, _ := strconv.Atoi(f.Sysctl[f.setting("all", "rp_filter")])
	own, _ := strconv.Atoi(f.Sysctl[f.setting(dev, "rp_filter")])
	return max(all, own) == 1
}

// unfit says why an interface carries nothing of IPv6, and what to do; "": it may.
func (f Facts) unfit(l kernel.Link) (why string, fix []string) {
	least := f.words().leastMTU
	off := f.setting(l.Name, "disable_ipv6")
	switch {
	case f.family != inet.IPv6:
	case l.MTU < least: // the kernel takes the rest away with it
		why = fmt.Sprintf("%s has MTU %d, and IPv6 needs %d or more", l.Name, l.MTU, least)
		fix = []string{printable.Command("ip", "link", "set", l.Name, "mtu", strconv.Itoa(least)) +
			"   # or more, as all that is between hosts carries"}
	case f.Sysctl[off] == "1":
		why, fix = fmt.Sprintf("IPv6 is switched off on %s: %s is 1", l.Name, off), []string{setSysctl(off, 0)}
	}
	return why, fix
}
