package check

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"flanneld/pkg/condition"
	"flanneld/pkg/printable"
	"flanneld/pkg/status"
)

// gateway is the address that a peer's docker0 has.
func gateway(p netip.Prefix) netip.Addr { return p.Addr().Next() }

// container is an address that one of a subnet's containers may have.
func container(p netip.Prefix) netip.Addr { return gateway(p).Next() }

// findPath compares the kernel's path to a peer with the wanted one.
func findPath(f Facts, p status.Peer) []Finding {
	if p.Mode == status.NoWay || p.Mode == "" {
		if c, failed := f.condition(condition.KernelNotApplied); failed { // which may be why it is not known
			return []Finding{fault(rightsFix(c), "there is no way to %v: %s", p.Subnet, c.Text())}
		}
		if n := f.Status.Network; n != nil && n.Network.Contains(p.PublicIP) { // which no host of it has
			return []Finding{fault([]string{"restart flanneld on the host of " + p.Subnet.String() +
				" with --public-ip=ADDRESS   # one by which other hosts reach it"}, "there is no way to %v: "+
				"its lease gives the public IP %v, which lies in the containers' network %v",
				p.Subnet, p.PublicIP, n.Network)}
		}
		if c, known := f.unreachable(p.Subnet); known && p.PublicKey != "" {
			return []Finding{fault([]string{f.checkThere(p), rotateFix + "   # where two hosts have one key"}, "%s", c.Text())}
		}
		fix := []string{"every host needs a tunnel: flanneld on " + p.PublicIP.String() + " too"}
		if tunnel := f.setConfig("vxlan"); tunnel != "" && !f.by(status.WireGuard) && !f.by(status.UDP) {
			fix = append([]string{tunnel}, fix...)
		}
		return []Finding{fault(fix, "there is no way to %v: its host %v is not on the link of %s, and its lease says %q",
			p.Subnet, p.PublicIP, f.Status.Host.Interface, p.Backend)}
	}
	if state := f.state(p); state != status.InPlace {
		return []Finding{fault(fixPath(f, p), "the way to %v is not as flanneld wants it: %s", p.Subnet, state)}
	}
	to := gateway(p.Subnet)
	path, known := f.Paths[to]
	switch {
	case !known:
		return nil
	case path.Err != nil:
		return []Finding{fault(f.fixStray(p, to), "the kernel has no way to %v: %s", to, stray(path.Err))}
	case path.Dev != p.Dev || path.Via.IsValid() && path.Via != p.Via:
		return []Finding{fault(f.fixStray(p, to),
			"packets to %v leave by %s, and should leave by %s: a narrower route or a rule comes first", to, via(path), p.Dev)}
	}
	return nil
}

// state is how the path to p is in the kernel. What is in the table of a device only the daemon
// knows where it carries the packets itself, and it has told.
func (f Facts) state(p status.Peer) string {
	if !p.Endpoint.IsValid() {
		return f.inKernel.State(p)
	}
	if wrong := f.inKernel.Route(p); wrong != "" {
		return wrong
	}
	return cmp.Or(p.Kernel, status.InPlace)
}

// fixPath names what stands in the way; what is only missing flanneld puts back.
func fixPath(f Facts, p status.Peer) []string {
	for _, r := range f.Routes {
		if (r.Dst == p.Subnet || r.Dst == p.Route) && (r.Via != p.Via || r.Dev != p.Dev) {
			if fix := f.fixAddress(r.Dev, p.Subnet.Contains); r.Protocol == unix.RTPROT_KERNEL && fix != nil {
				return fix // by which the route is, and all for the address itself stays here
			}
			return []string{r.DeleteCommand()}
		}
	}
	return f.repairFix()
}

// repairFix puts right what the daemon would put right at once, if nothing kept
// it from doing so.
func (f Facts) repairFix() []string {
	if c, refused := f.condition(condition.KernelNotApplied); refused {
		return rightsFix(c)
	}
	return []string{restartFix, f.culprit()}
}

// stray is what the kernel says of routes that lead nowhere.
func stray(err error) string {
	switch {
	case errors.Is(err, unix.EINVAL):
		return "a route of type blackhole swallows it"
	case errors.Is(err, unix.EACCES):
		return "a route or rule of type prohibit forbids it"
	}
	return err.Error()
}

// fixStray names what the kernel asks before flanneld's route: a rule, or a
// narrower route.
func (f Facts) fixStray(p status.Peer, to netip.Addr) []string {
	ip := f.words().ip
	show := fmt.Sprintf("%[1]s route get %[2]v; %[1]s route show match %[2]v; %[1]s rule", ip, to)
	for _, r := range f.Routes {
		least := p.Subnet
		if p.Route.IsValid() {
			least = p.Route
		}
		if r.Dst.Contains(to) && r.Dst.Bits() > least.Bits() {
			return []string{fmt.Sprintf("ip route del %v   # a narrower route than flanneld's", r.Dst), show}
		}
	}
	if f.Paths[to].Dev == loopback { // no rule comes before the local table's
		for _, l := range f.Links {
			if fix := f.fixAddress(l.Name, func(ip netip.Addr) bool { return ip == to }); fix != nil {
				return fix
			}
		}
		return []string{fmt.Sprintf("%[1]s route show table local match %[2]v   # of these, what begins with local and "+
			"others wrote: %[1]s route del local PREFIX dev lo table local", ip, to)}
	}
	for _, r := range f.Rules[f.family] {
		if !r.Narrow && (!r.Dst.IsValid() || r.Dst.Contains(to)) {
			// What comes before may have to stay for what else it is about.
			first := fmt.Sprintf("%s rule add to %s lookup main priority %d", ip, f.network(), max(r.Priority, 1)-1)
			return []string{first + "   # asked before the rule of priority " + strconv.Itoa(r.Priority), show}
		}
	}
	return []string{show}
}

const loopback = "lo"

// fixAddress takes away what an interface has of some addresses; nil: nothing.
func (f Facts) fixAddress(dev string, of func(netip.Addr) bool) (fix []string) {
	for _, l := range f.Links {
		for _, a := range l.Addrs {
			if l.Name == dev && of(a.Addr()) {
				fix = append(fix, printable.Command("ip", "addr", "del", a.String(), "dev", dev))
			}
		}
	}
	return fix
}

func via(p Path) string {
	if p.Via.IsValid() {
		return fmt.Sprintf("%s to %v", p.Dev, p.Via)
	}
	return p.Dev
}

// findReversePath looks whether the kernel drops a peer's packets because its
// own way to that peer leads elsewhere.
func findReversePath(f Facts, p status.Peer) []Finding {
	h := f.Status.Host
	if h == nil || !f.strict(h.Interface) {
		return nil
	}
	path, known := f.Paths[p.PublicIP]
	if !known || path.Err != nil || path.Dev == h.Interface {
		return nil
	}
	fix := []string{
		setSysctl(f.setting(h.Interface, "rp_filter"), 2),
		fmt.Sprintf("ip route get %v   # or: fix this route", p.PublicIP),
	}
	return []Finding{fault(fix,
		"packets from %v are dropped where they come in on %s, as the route to it leads over %s: rp_filter is strict",
		p.PublicIP, h.Interface, path.Dev)}
}
