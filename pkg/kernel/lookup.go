package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// beginLookup begins to ask which route a packet to ip takes.
func (n *Netlink) beginLookup(ip netip.Addr) {
	f := inet.Of(ip)
	m := nl.RtMsg{RtMsg: unix.RtMsg{Family: numberOf(f), Dst_len: uint8(f.Bits())}}
	n.socket.begin(unix.RTM_GETROUTE, 0, m.Serialize())
	n.socket.add(unix.RTA_DST, ip.AsSlice())
}

// Direct reports of each of some addresses whether the kernel reaches it through dev
// without a gateway; errs has an error or nil for each.
func (n *Netlink) Direct(ips []netip.Addr, dev string) (direct []bool, errs []error) {
	direct, errs = make([]bool, len(ips)), make([]error, len(ips))
	for at := 0; at < len(ips); at += batchSize {
		some := ips[at:min(at+batchSize, len(ips))]
		for _, ip := range some {
			n.beginLookup(ip)
		}
		n.socket.askEach(errs[at:at+len(some)], func(i int, body []byte) {
			r, ok := readRoute(body)
			direct[at+i] = ok && r.Type == unix.RTN_UNICAST && !r.via.IsValid() && r.index != 0 && r.index == n.index[dev]
		})
	}
	for i, err := range errs {
		switch {
		case err == nil:
		case is(err, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL):
			errs[i] = nil // no route, or one that forbids (ip-route(8): unreachable, prohibit, blackhole)
		default:
			errs[i] = fmt.Errorf("ask for the route to %v: %w", ips[i], err)
		}
	}
	return direct, errs
}

// Lookup is how the kernel sends a packet to ip, as `ip route get` shows it: by
// which gateway, invalid if none, and interface. Its error is the kernel's:
// EINVAL for a blackhole, EACCES for a prohibition. Interfaces have the names of
// the last call of Links.
func (n *Netlink) Lookup(ip netip.Addr) (via netip.Addr, dev string, err error) {
	n.beginLookup(ip)
	err = n.socket.ask(func(body []byte) {
		if r, ok := readRoute(body); ok {
			via, dev = r.via, n.names[r.index]
		}
	})
	return via, dev, err
}

// Rule is one of those that ip-rule(8) lists.
type Rule struct {
	Priority int
	Dst      netip.Prefix // invalid: any
	Narrow   bool         // looks at more than the destination
}

// Rules are a family's routing rules in the order in which they are asked, but
// for those of the tables local and main.
func (n *Netlink) Rules(f inet.Family) (out []Rule, err error) {
	all, err := dump(func() ([]netlink.Rule, error) { return n.handle.RuleList(int(numberOf(f))) })
	if err != nil {
		return nil, fmt.Errorf("list routing rules: %w", err)
	}
	for _, r := range all {
		if r.Priority == 0 || r.Table == unix.RT_TABLE_MAIN {
			continue
		}
		rule := Rule{Priority: r.Priority}
		rule.Narrow = r.Src != nil || r.IifName != "" || r.OifName != "" || r.Mark != 0 || r.Tos != 0 || r.IPProto != 0 ||
			r.Dport != nil || r.Sport != nil || r.UIDRange != nil
		if r.Dst != nil {
			bits, _ := r.Dst.Mask.Size()
			rule.Dst = netip.PrefixFrom(toAddr(r.Dst.IP), bits)
		}
		out = append(out, rule)
	}
	return out, nil
}
