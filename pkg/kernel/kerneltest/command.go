package kerneltest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"flanneld/pkg/kernel"
)

// Run carries out a command typed by hand: those forms of ip(8), bridge(8) and wg(8)
// that tests need (see WG), and "offload on DEV" or "offload off DEV" for ethtool -K DEV tx.
func (k *Kernel) Run(command string) (err error) {
	defer func() {
		if r := recover(); r != nil { // a word that does not parse
			err = fmt.Errorf("%v", r)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", command, err)
		}
	}()
	w := slices.DeleteFunc(strings.Fields(command), func(word string) bool { return word == "-6" })
	if len(w) < 3 {
		return syscall.EINVAL
	}
	if w[0] == "offload" {
		return k.runOffload(w[2], w[1] == "on")
	}
	action := w[2]
	switch w[0] + " " + w[1] {
	case "ip link":
		return k.runLink(action, w[3], options(w[4:]))
	case "ip addr":
		return k.runAddr(action, w[3], options(w[min(4, len(w)-2):]))
	case "ip route":
		if !strings.Contains(w[3], "/") { // a type, such as blackhole
			return k.runRoute(action, w[4], options(w[5:]), true)
		}
		return k.runRoute(action, w[3], options(w[4:]), false)
	case "ip nexthop":
		return k.runNexthop(action, options(w[3:]))
	case "ip neigh":
		return k.runNeigh(action, netip.MustParseAddr(w[3]), options(w[4:]))
	case "wg set":
		return k.runWG(w[2:])
	case "ip tuntap": // a stranger's, who is not attached to it
		if k.link(w[4]) != nil {
			return syscall.EBUSY
		}
		k.AddLink(kernel.Link{Name: w[4], Type: kernel.TAP, MTU: 1500})
		return nil
	case "bridge fdb":
		return k.runFDB(action, mac(w[3]), options(w[4:]))
	}
	return syscall.EINVAL
}

// flags are the words without a value.
var flags = []string{
	"up", "down", "onlink", "nolearning", "learning", "gbp", "self", "permanent", "dynamic", "blackhole", "nodad",
	"remove",
}

// protocols are iproute2's names of those that tests use.
var protocols = map[string]int{
	"kernel": unix.RTPROT_KERNEL, "boot": unix.RTPROT_BOOT, "": unix.RTPROT_BOOT, "static": unix.RTPROT_STATIC,
}

// options reads words: a flag has itself for a value.
func options(words []string) map[string]string {
	o := map[string]string{}
	for i := 0; i < len(words); i++ {
		if slices.Contains(flags, words[i]) {
			o[words[i]] = words[i]
		} else if i+1 < len(words) {
			o[words[i]] = words[i+1]
			i++
		}
	}
	return o
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil && s != "" {
		panic(err)
	}
	return n
}

func mac(s string) kernel.MAC {
	m, err := kernel.ParseMAC(s)
	if err != nil && s != "" {
		panic(err)
	}
	return m
}

func addr(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

func (k *Kernel) runLink(action, name string, o map[string]string) error {
	there := k.link(name) != nil
	kind, known := kinds[o["type"]]
	switch {
	case action == "add" && o["type"] == "wireguard" && k.NoWireGuard:
		return syscall.EOPNOTSUPP
	case action == "add" && known:
		d := kernel.Device{Name: name, Kind: kind.parse(o), MAC: mac(o["address"]), MTU: number(o["mtu"])}
		if err := k.addDevice(d); err != nil {
			return err
		}
		k.setLink(name, o)
	case action == "add" && !there:
		k.AddLink(kernel.Link{Name: name, Type: o["type"], MTU: 1500})
		k.setLink(name, o)
	case action == "add":
		return syscall.EEXIST
	case !there:
		return syscall.ENODEV
	case action == "del":
		k.deleteLink(name)
	case action == "set":
		k.setLink(name, o)
	default:
		return syscall.EINVAL
	}
	return nil
}

func (k *Kernel) setLink(name string, o map[string]string) {
	k.Change(name, func(l *kernel.Link) {
		l.Up = (l.Up || o["up"] != "") && o["down"] == ""
		if o["address"] != "" {
			l.MAC = mac(o["address"])
		}
		if o["mtu"] != "" {
			l.MTU = number(o["mtu"])
		}
		if alias, given := o["alias"]; given {
			l.Alias = alias
		}
	})
}

func (k *Kernel) runOffload(dev string, on bool) error {
	l := k.link(dev)
	if l == nil || l.Kind == nil {
		return syscall.ENODEV
	}
	l.NoChecksumOffload = !on
	return nil
}

func (k *Kernel) runAddr(action, what string, o map[string]string) error {
	if k.link(o["dev"]) == nil {
		return syscall.ENODEV
	}
	k.Change(o["dev"], func(l *kernel.Link) {
		if action == "flush" {
			l.Addrs = nil
			return
		}
		setAddress(l, netip.MustParsePrefix(what), action == "add")
	})
	return nil
}

func (k *Kernel) runRoute(action, dst string, o map[string]string, special bool) error {
	proto, named := protocols[o["proto"]]
	if !named {
		proto = number(o["proto"])
	}
	to := netip.MustParsePrefix(dst)
	r := kernel.FoundRoute{
		Route:    kernel.Route{Dst: to, Via: addr(o["via"]), Dev: o["dev"], OnLink: o["onlink"] != ""},
		Protocol: proto, Metric: metric(to, number(o["metric"])),
		Special: special || o["mtu"] != "" || o["via"]+o["nhid"] == "" && to.Addr().Is4(), // whose scope is the link
	}
	if o["nhid"] != "" {
		if r.Nexthop = uint32(number(o["nhid"])); action != "del" && k.nexthop(r.Nexthop) == nil {
			return syscall.EINVAL
		}
	}
	if r.Dev == "" && r.Via.IsValid() {
		for _, l := range k.links {
			if covers(l, r.Via) {
				r.Dev = l.Name
			}
		}
	}
	if action != "del" {
		return k.setRoute(action, r)
	}
	i := slices.IndexFunc(k.routes, func(x kernel.FoundRoute) bool {
		return x.Dst == r.Dst && (!r.Via.IsValid() || x.Via == r.Via) && (r.Nexthop == 0 || x.Nexthop == r.Nexthop) &&
			(o["proto"] == "" || x.Protocol == proto) && (o["metric"] == "" || x.Metric == number(o["metric"]))
	})
	if i < 0 {
		return syscall.ESRCH
	}
	k.routes = slices.Delete(k.routes, i, i+1)
	return nil
}

// metric is what Linux makes of one that was given, or was not.
func metric(dst netip.Prefix, given int) int {
	if given == 0 && dst.Addr().Is6() {
		return 1024
	}
	return given
}

func (k *Kernel) runNeigh(action string, a netip.Addr, o map[string]string) error {
	if k.link(o["dev"]) == nil {
		return syscall.ENODEV
	}
	n := kernel.Neighbour{Dev: o["dev"], Addr: a, MAC: mac(o["lladdr"])}
	k.setNeighbour(kernel.FoundNeighbour{Neighbour: n, Permanent: o["nud"] == "permanent"}, action != "del")
	return nil
}

func (k *Kernel) runFDB(action string, m kernel.MAC, o map[string]string) error {
	if k.link(o["dev"]) == nil {
		return syscall.ENODEV
	}
	f := kernel.FDB{Dev: o["dev"], MAC: m, Dst: addr(o["dst"])}
	permanent := o["permanent"] != "" && o["vni"]+o["port"]+o["via"] == ""
	k.setFDB(kernel.FoundFDB{FDB: f, Permanent: permanent}, action != "del")
	return nil
}
