package check

import (
	"fmt"
	"net/netip"

	"flanneld/pkg/status"
)

// gateway is the address that a peer's docker0 has.
func gateway(p netip.Prefix) netip.Addr { return p.Addr().Next() }

// container is an address that one of a subnet's containers may have.
func container(p netip.Prefix) netip.Addr { return gateway(p).Next() }

// findWay compares the kernel's way to a peer with the wanted one.
func findWay(f Facts, p status.Peer) []Finding {
	if p.Mode == status.NoWay || p.Mode == "" {
		return []Finding{fault([]string{`flanneld config set '{"Network": "` + f.network() + `", "Backend": {"Type": "vxlan"}}'   # a tunnel leads across routers`},
			"there is no way to %v: its host %v is not on the link of %s, and its lease says %q", p.Subnet, p.PublicIP, f.Status.Host.Interface, p.Backend)}
	}
	if state := status.NewKernel(f.Routes, f.Entries).State(p); state != status.InPlace {
		return []Finding{fault(cureWay(f, p), "the way to %v is not as flanneld wants it: %s", p.Subnet, state)}
	}
	to := gateway(p.Subnet)
	path, known := f.Paths[to]
	show := []string{fmt.Sprintf("ip route get %v; ip route show match %v; ip rule", to, to)}
	switch {
	case !known:
		return nil
	case path.Err != nil:
		return []Finding{fault(show, "the kernel has no way to %v: %v", to, path.Err)}
	case path.Dev != p.Dev || path.Via.IsValid() && path.Via != p.Via:
		return []Finding{fault(show, "packets to %v leave by %s, and should leave by %s: a narrower route or a rule comes first", to, via(path), p.Dev)}
	}
	return nil
}

// cureWay names what stands in the way; what is only missing flanneld puts back.
func cureWay(f Facts, p status.Peer) []string {
	for _, r := range f.Routes {
		if r.Dst == p.Subnet && (r.Via != p.Via || r.Dev != p.Dev) {
			return []string{"ip route del " + r.String()}
		}
	}
	return []string{"flanneld status   # it puts this right within a second, unless something keeps it from doing so", logCure}
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
	return []Finding{fault([]string{"sysctl -w net.ipv4.conf." + h.Interface + ".rp_filter=2", fmt.Sprintf("ip route get %v   # or: mend this route", p.PublicIP)},
		"packets from %v are dropped where they come in on %s, as the route to it leads over %s: rp_filter is strict", p.PublicIP, h.Interface, path.Dev)}
}
