package check

import (
	"fmt"
	"net/netip"
	"slices"

	"flanneld/pkg/condition"
	"flanneld/pkg/kernel"
	"flanneld/pkg/printable"
)

func goodInterface(f Facts) string {
	h := f.Status.Host
	return fmt.Sprintf("%s is up, with %v", h.Interface, h.Address)
}

func findInterface(f Facts) []Finding {
	switch {
	case f.Status == nil:
		return skipped("flanneld does not say which one it uses")
	case f.Status.Host == nil:
		return f.noInterface()
	}
	h := f.Status.Host
	l, exists := f.link(h.Interface)
	unfit, fitting := f.unfit(l)
	holder, elsewhere := f.holder(h.Address)
	restart := f.restartWith(holder) + "   # or give " + holder + " its old name again"
	switch {
	case !exists && elsewhere:
		return []Finding{
			fault(
				[]string{restart},
				"the external interface %s is gone; its address %v is on %s now",
				h.Interface,
				h.Address,
				holder,
			),
		}
	case !exists:
		return []Finding{
			fault(
				[]string{"ip -brief address   # which one leads to the other hosts? restart flanneld with --iface=NAME"},
				"the external interface %s is gone",
				h.Interface,
			),
		}
	case !l.Up:
		return []Finding{
			fault(
				[]string{printable.Command("ip", "link", "set", h.Interface, "up")},
				"the external interface %s is down",
				h.Interface,
			),
		}
	case unfit != "":
		return []Finding{fault(append(fitting, f.bringBack()...), "%s", unfit)}
	case !l.Has(h.Address):
		return []Finding{
			fault(
				f.bringBack(),
				"%s has lost its address %v",
				h.Interface,
				h.Address,
			),
		}
	}
	if other, is := f.otherWay(); is {
		return []Finding{fault([]string{f.restartWith(other) + "   # on each host; --public-ip may go then"},
			"the public IP %v is on %s, where peers are too, and flanneld sends by %s, from %v",
			h.PublicIP, other, h.Interface, h.Address)}
	}
	if !f.local(h.PublicIP) {
		return []Finding{
			note(
				"the public IP %v is no address of this host: a router must pass what comes there on to %v",
				h.PublicIP,
				h.Address,
			),
		}
	}
	return nil
}

// bringBack gives the external interface its address again.
func (f Facts) bringBack() (fix []string) {
	h := f.Status.Host
	return append(f.hearAgain(),
		printable.Command("networkctl", "reconfigure", h.Interface)+"   # or what else manages the network: "+
			printable.Command("nmcli", "device", "reapply", h.Interface)+", netplan apply, ifup",
		fmt.Sprintf("ip address add %v/BITS dev %s   # BITS: the length of its network",
			h.Address, printable.Word(h.Interface)))
}

// otherWay is the interface that has the public IP and that peers are on the link of,
// where flanneld uses another one: as with virtual machines whose first interface
// leads to the NAT of their host, and has the same address in all of them.
func (f Facts) otherWay() (name string, is bool) {
	h := f.Status.Host
	for _, l := range f.Links {
		if l.Name == h.Interface || !l.Has(h.PublicIP) {
			continue
		}
		for _, p := range f.Status.Peers {
			if f.onLink(l.Name, p.PublicIP) && !f.onLink(h.Interface, p.PublicIP) {
				return l.Name, true
			}
		}
	}
	return "", false
}

// onLink reports whether an address is in a network of an interface.
func (f Facts) onLink(name string, ip netip.Addr) bool {
	l, exists := f.link(name)
	return exists && slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool { return a.Contains(ip) })
}

// noInterface says why flanneld has chosen none.
func (f Facts) noInterface() []Finding {
	if c, missing := f.missing(f.family); missing {
		return f.noFamily(c)
	}
	missing, there := f.condition(condition.InterfaceMissing)
	if !there {
		return skipped("none is chosen before etcd has been read")
	}
	fix := []string{"ip -brief address   # which one leads to the other hosts? restart flanneld with --iface=NAME"}
	if candidates := f.candidates(); len(candidates) == 1 {
		fix = []string{f.restartWith(candidates[0]) + "   # FLANNELD_IFACE, in the environment"}
	}
	return []Finding{fault(fix, "flanneld finds no external interface: %s", missing.Cause)}
}

// noFamily is about a family that this host has no interface for, beside one that it has.
func (f Facts) noFamily(c condition.Condition) []Finding {
	const text = "flanneld finds no external interface, and works without this family: %s"
	if l, exists := f.link(f.external); exists {
		if why, fix := f.unfit(l); why != "" {
			return []Finding{fault(fix, text, why)}
		}
	}
	if _, known := f.Sysctl[f.words().forwarding]; !known {
		look := "cat /proc/cmdline   # has it ipv6.disable=1? take that away, and start this host anew"
		return []Finding{fault([]string{look}, text, "its kernel has none")}
	}
	look := f.words().ip + " -brief address   # which interface leads to the other hosts? give it an address that they " +
		"reach"
	return []Finding{fault(append(f.hearAgain(), look), text, c.Cause)}
}

// restartWith has flanneld use another interface. It names the flag that the daemon
// has now, which has to go.
func (f Facts) restartWith(iface string) string {
	text := "restart flanneld with " + printable.Word("--iface="+iface)
	if old := f.Flags["iface"]; old != "" && old != iface {
		text += " in place of " + printable.Word("--iface="+old)
	}
	return text
}

// candidates are interfaces that may lead to other hosts.
func (f Facts) candidates() (out []string) {
	for _, l := range f.Links {
		switch l.Type {
		case "bridge", "vxlan", "dummy", "tun", "wireguard":
			continue
		}
		if l.Master == "" &&
			slices.ContainsFunc(l.Addrs, func(a kernel.Addr) bool { return !a.LinkLocal && !a.Addr().IsLoopback() }) {
			out = append(out, l.Name)
		}
	}
	return out
}

// holder is the interface that has an address.
func (f Facts) holder(ip netip.Addr) (string, bool) {
	i := slices.IndexFunc(f.Links, func(l kernel.Link) bool { return l.Has(ip) })
	if i < 0 {
		return "", false
	}
	return f.Links[i].Name, true
}

func (f Facts) local(ip netip.Addr) bool {
	_, found := f.holder(ip)
	return found
}
