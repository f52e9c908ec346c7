package kernel

import (
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// Links implements Conn.
func (n *Netlink) Links() ([]Link, error) {
	known := kinds()
	found, err := list(n.socket, n.beginLinks, func(body []byte) (foundLink, bool) { return readFoundLink(body, known) })
	if err != nil {
		return nil, err
	}
	clear(n.index)
	clear(n.names)
	clear(n.kinds)
	clear(n.wgRead)
	clear(n.guarded)
	at := make(map[int]*Link, len(found))
	out := make([]Link, len(found))
	for i, l := range found {
		out[i] = l.Link
		n.index[l.Name], n.names[l.Index], at[l.Index] = l.Index, l.Name, &out[i]
	}
	n.letGo()
	for i, l := range found {
		out[i].Master = n.names[l.master]
		if l.Type == TAP {
			out[i].Kind, out[i].Unserved = n.inUserspace(out[i])
		}
		if l.kind != nil {
			out[i].Kind = l.kind.read(n, l.detail)
		}
		if out[i].Kind != nil {
			n.kinds[l.Name] = out[i].Kind
			out[i].NoChecksumOffload = !n.offload.on(l.Name)
		}
	}
	addrs, err := each(n.looks, n.addresses)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if l := at[a.index]; l != nil {
			l.Addrs = append(l.Addrs, a.Addr)
		}
	}
	return out, nil
}

// beginLinks asks for all interfaces, without the counters that make up most of an
// answer (linux/rtnetlink.h: RTEXT_FILTER_SKIP_STATS).
func (n *Netlink) beginLinks() {
	const skipStats = 1 << 3
	n.socket.begin(unix.RTM_GETLINK, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfInfomsg))
	n.socket.addNumber(unix.IFLA_EXT_MASK, skipStats)
}

// foundLink is a Link, and what it takes the names of all others to tell.
type foundLink struct {
	Link
	master int          // index
	kind   DeviceKind   // nil: none that this package knows
	detail netlink.Link // for that
}

func readFoundLink(body []byte, known []DeviceKind) (l foundLink, ok bool) {
	m, ok := readLinkMessage(body)
	if !ok || m.bridge {
		return l, false
	}
	l = foundLink{Link: m.link(), master: m.master}
	i := slices.IndexFunc(known, func(k DeviceKind) bool { return k.Type() == l.Type })
	if i < 0 {
		return l, true
	}
	// What it returns refers to what it is given, and body is used again.
	detail, err := netlink.LinkDeserialize(nil, slices.Clone(body))
	if err == nil {
		l.kind, l.detail = known[i], detail
	}
	return l, true
}

func (n *Netlink) addresses(f inet.Family) ([]addressMessage, error) {
	begin := func() {
		fixed := make([]byte, unix.SizeofIfAddrmsg)
		fixed[0] = numberOf(f)
		n.socket.begin(unix.RTM_GETADDR, unix.NLM_F_DUMP, fixed)
	}
	// A kernel without a family lists all others' instead.
	return list(n.socket, begin, func(body []byte) (addressMessage, bool) {
		a, ok := readAddress(body)
		return a, ok && inet.Of(a.Addr.Addr()) == f
	})
}
