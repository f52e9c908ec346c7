package kernel

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
)

// routeMessage is what matters here of an RTM_NEWROUTE (rtnetlink(7)): its
// fixed part and some of its attributes.
type routeMessage struct {
	unix.RtMsg
	dst    netip.Prefix
	via    netip.Addr
	index  int // of the interface; 0: there is none, or several
	first  int // of several interfaces
	metric int
	more   bool   // it has attributes that a plain route has not
	hop    uint32 // the next hop object that it is by; 0: it has none
}

// rtaNextHop names a next hop object (linux/rtnetlink.h: RTA_NH_ID). Beside it the
// kernel says where that leads, unless net.ipv4.nexthop_compat_mode is 0.
const rtaNextHop = 30

// nhaFDB marks a next hop of forwarding entries (linux/nexthop.h: NHA_FDB).
const nhaFDB = 11

// readRoute reads a route; false: it is none of either family.
func readRoute(body []byte) (r routeMessage, ok bool) {
	if len(body) < unix.SizeofRtMsg {
		return r, false
	}
	family, ok := familyOf(body[0])
	if !ok || int(body[1]) > family.Bits() {
		return r, false
	}
	r.RtMsg = unix.RtMsg{
		Family: body[0], Dst_len: body[1], Src_len: body[2], Tos: body[3],
		Table: body[4], Protocol: body[5], Scope: body[6], Type: body[7],
		Flags: binary.NativeEndian.Uint32(body[8:]),
	}
	dst := netip.IPv4Unspecified()
	if family == inet.IPv6 {
		dst = netip.IPv6Unspecified()
	}
	for kind, value := range attributes(body[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_DST:
			dst = address(value)
		case unix.RTA_GATEWAY:
			r.via = address(value)
		case unix.RTA_OIF:
			r.index = number(value)
		case unix.RTA_PRIORITY:
			r.metric = number(value)
		case unix.RTA_VIA: // a gateway of another family, which precedes it in two bytes
			r.via, r.more = address(value[min(2, len(value)):]), true
		case unix.RTA_METRICS, unix.RTA_PREFSRC, unix.RTA_FLOW, unix.RTA_ENCAP:
			r.more = true
		case unix.RTA_MULTIPATH: // struct rtnexthop begins with two numbers of two bytes
			r.first, r.more = number(value[min(4, len(value)):]), true
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo; an IPv6 route may end by itself
			r.more = r.more || number(value[min(8, len(value)):]) != 0
		case unix.RTA_PREF: // RFC 4191; 0: medium
			r.more = r.more || len(value) > 0 && value[0] != 0
		case rtaNextHop:
			r.hop = uint32(number(value))
		}
	}
	r.dst = netip.PrefixFrom(dst, int(r.Dst_len))
	return r, r.dst.IsValid() && inet.Of(dst) == family
}

// found is the route in the form that passes work with.
func (r routeMessage) found(names map[int]string) FoundRoute {
	// What leads nowhere may have the device lo: by an object, or of IPv6.
	if r.hop != 0 && r.Type != unix.RTN_UNICAST || r.Type >= unix.RTN_BLACKHOLE && r.Type <= unix.RTN_THROW {
		r.index = 0
	}
	return FoundRoute{
		Route: Route{
			Dst: r.dst, Via: r.via, Dev: names[r.index], OnLink: r.Flags&unix.RTNH_F_ONLINK != 0, Nexthop: r.hop,
		},
		Protocol: int(r.Protocol), Metric: r.metric,
		Special: r.more || r.Type != unix.RTN_UNICAST || r.Scope != unix.RT_SCOPE_UNIVERSE,
	}
}

// nexthopMessage is what matters here of an RTM_NEWNEXTHOP or RTM_DELNEXTHOP
// (linux/nexthop.h).
type nexthopMessage struct {
	id       uint32
	family   uint8 // of its gateway; 0: of none in particular
	protocol uint8
	onLink   bool
	via      netip.Addr
	index    int  // of the interface
	special  bool // it does more, or less, than to lead to one gateway
	group    bool // or is of a kind that cannot be replaced by a plain one
	members  []uint32
}

func readNexthop(body []byte) (n nexthopMessage, ok bool) {
	if len(body) < unix.SizeofNhmsg {
		return n, false
	}
	n.family, n.protocol = body[0], body[2]
	n.onLink = binary.NativeEndian.Uint32(body[4:])&unix.RTNH_F_ONLINK != 0
	for kind, value := range attributes(body[unix.SizeofNhmsg:]) {
		switch kind {
		case unix.NHA_ID:
			n.id = uint32(number(value))
		case unix.NHA_OIF:
			n.index = number(value)
		case unix.NHA_GATEWAY:
			n.via = address(value)
		case unix.NHA_BLACKHOLE, unix.NHA_ENCAP:
			n.special = true
		case unix.NHA_GROUP, nhaFDB:
			n.special, n.group = true, true
		}
		if kind == unix.NHA_GROUP {
			n.members = groupMembers(value)
		}
	}
	n.special = n.special || !n.via.IsValid()
	return n, n.id != 0
}

// groupMembers reads a list of struct nexthop_grp (linux/nexthop.h): each begins with an id.
func groupMembers(value []byte) (ids []uint32) {
	const size = 8
	for ; len(value) >= size; value = value[size:] {
		ids = append(ids, uint32(number(value)))
	}
	return ids
}

// found is the next hop object in the form that passes work with.
func (n nexthopMessage) found(names map[int]string) FoundNexthop {
	return FoundNexthop{
		Nexthop:  Nexthop{ID: n.id, Hop: Hop{Via: n.via, Dev: names[n.index], OnLink: n.onLink}},
		Protocol: int(n.protocol), Special: n.special, Group: n.group, Members: n.members,
	}
}

// linkMessage is what matters here of an RTM_NEWLINK or RTM_DELLINK.
type linkMessage struct {
	index  int
	flags  int    // netdevice(7): IFF_UP and others
	bridge bool   // it speaks of an interface as a bridge's port, not of the interface itself
	name   string // "" if it says none
	mtu    int
	mac    MAC
	alias  string
	master int    // index; 0: none
	kind   string // as the kernel names it; "": hardware
	ipv6   bool   // it takes IPv6 addresses
}

func readLinkMessage(body []byte) (l linkMessage, ok bool) {
	if len(body) < unix.SizeofIfInfomsg {
		return l, false
	}
	l.bridge, l.index, l.flags = body[0] != unix.AF_UNSPEC, number(body[4:]), number(body[8:])
	for kind, value := range attributes(body[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(value)
		case unix.IFLA_MTU:
			l.mtu = number(value)
		case unix.IFLA_ADDRESS:
			copy(l.mac[:], value)
		case unix.IFLA_IFALIAS:
			l.alias = unix.ByteSliceToString(value)
		case unix.IFLA_MASTER:
			l.master = number(value)
		case unix.IFLA_AF_SPEC:
			for family, value := range attributes(value) {
				l.ipv6 = l.ipv6 || family == unix.AF_INET6 && takesIPv6(value)
			}
		case unix.IFLA_LINKINFO:
			for kind, value := range attributes(value) {
				if kind == unix.IFLA_INFO_KIND {
					l.kind = unix.ByteSliceToString(value)
				}
			}
		}
	}
	return l, true
}

// takesIPv6 reads what the kernel says of an interface's IPv6, which is nothing where the
// interface's MTU is too small. It lists the settings of net.ipv6.conf by their numbers
// (linux/ipv6.h: DEVCONF_DISABLE_IPV6).
func takesIPv6(value []byte) bool {
	const disabled = 26
	for kind, value := range attributes(value) {
		if kind == unix.IFLA_INET6_CONF {
			return number(value[min(4*disabled, len(value)):]) == 0
		}
	}
	return false
}

// link is the interface in the form that passes work with.
func (l linkMessage) link() Link {
	kind := l.kind
	switch kind {
	case "":
		kind = "device"
	case "tun":
		kind = TAP
	}
	return Link{
		Name: l.name, Index: l.index, MTU: l.mtu, Type: kind, MAC: l.mac, Alias: l.alias,
		Up:        l.flags&unix.IFF_UP != 0,
		NoCarrier: l.flags&(unix.IFF_UP|unix.IFF_LOWER_UP) == unix.IFF_UP,
		NoIPv6:    !l.ipv6,
	}
}

// addressMessage is what matters here of an RTM_NEWADDR.
type addressMessage struct {
	Addr
	index int // of the interface
}

// readAddress reads an address of an interface; false: it is none.
func readAddress(body []byte) (a addressMessage, ok bool) {
	if len(body) < unix.SizeofIfAddrmsg {
		return a, false
	}
	bits, flags, scope := int(body[1]), body[2], body[3]
	a.index = number(body[4:])
	var local, there netip.Addr
	for kind, value := range attributes(body[unix.SizeofIfAddrmsg:]) {
		switch kind {
		case unix.IFA_LOCAL:
			local = address(value)
		case unix.IFA_ADDRESS:
			there = address(value)
		}
	}
	// ip-address(8): where it has a peer at the other end, the network is the peer's. For
	// IPv6 without one there is no IFA_LOCAL.
	ip := there
	if local.IsValid() {
		if ip = local; local != there {
			bits = local.BitLen()
		}
	}
	a.Prefix = netip.PrefixFrom(ip, bits)
	a.LinkLocal = scope == unix.RT_SCOPE_LINK || ip.IsLinkLocalUnicast()
	if ip.Is6() { // to IPv4, flags of the same number mean something else
		has := func(flag byte) bool { return flags&flag != 0 }
		a.Temporary, a.Deprecated = has(unix.IFA_F_TEMPORARY), has(unix.IFA_F_DEPRECATED)
		a.Duplicate = has(unix.IFA_F_DADFAILED)
		a.Tentative = has(unix.IFA_F_TENTATIVE) && !has(unix.IFA_F_OPTIMISTIC) && !a.Duplicate
	}
	return a, a.Prefix.IsValid()
}

// neighbourMessage is what matters here of an RTM_NEWNEIGH, be it a neighbour
// or a forwarding entry (linux/neighbour.h).
type neighbourMessage struct {
	family    uint8
	index     int  // of the interface
	self      bool // it is in the device's own table, not in that of its bridge
	permanent bool
	elsewhere bool // it leads to another port or VNI than the device's, or through a given interface
	dst       netip.Addr
	mac       MAC
}

func readNeighbour(body []byte) (n neighbourMessage, ok bool) {
	if len(body) < unix.SizeofNdMsg {
		return n, false
	}
	n.family, n.index = body[0], number(body[4:])
	n.permanent, n.self = binary.NativeEndian.Uint16(body[8:])&unix.NUD_PERMANENT != 0, body[10]&unix.NTF_SELF != 0
	for kind, value := range attributes(body[unix.SizeofNdMsg:]) {
		switch kind {
		case unix.NDA_DST:
			n.dst = address(value)
		case unix.NDA_LLADDR:
			copy(n.mac[:], value)
		case unix.NDA_PORT, unix.NDA_VNI, unix.NDA_IFINDEX:
			n.elsewhere = true
		}
	}
	return n, true
}

// address is the IP address that an attribute holds; the zero Addr if none.
func address(value []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(value)
	return a.Unmap()
}

// number is the number that an attribute holds; 0 if none.
func number(value []byte) int {
	if len(value) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(value))
}
