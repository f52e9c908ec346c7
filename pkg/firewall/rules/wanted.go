package rules

import (
	"net/netip"
	"reflect"
	"slices"

	"flanneld/pkg/inet"
)

// Wanted is what the containers of this host need of its firewall, for packets of one
// family: that of Network, which all addresses here have.
type Wanted struct {
	Network netip.Prefix // the cluster's
	Subnet  netip.Prefix // this host's
	Peers   []Peer       // in any order that stays the same
	// Former is the network of an earlier run; rules for it are this one's as well.
	// Those for other networks are other daemons'. Zero: there is none.
	Former netip.Prefix
	// Table is the name of the table in nftables.
	Table string
	// Marked means that the kernel has nf_tables, so that packets from peers can
	// carry PeerMark.
	Marked bool

	Masquerade bool // of packets that leave Network
	PlainPorts bool // masquerading keeps source ports where it can, rather than drawing them at random
	Forward    bool // accept the packets of Network
	NFTables   bool // use a table of our own, rather than iptables
}

// Peer is another host, and the path by which we route to it.
type Peer struct {
	Subnet netip.Prefix // as long as our own
	Device string       // the tunnel's; or the external one, where routes are direct
	// Host is its own address, which packets have that its docker masquerades, if
	// they arrive by Device. Zero with a tunnel, where packets have an address of
	// Subnet.
	Host netip.Addr
}

// Family is the family of packets that this is about; IPv4 where nothing is.
func (w Wanted) Family() inet.Family {
	if w.Network.Addr().Is6() {
		return inet.IPv6
	}
	return inet.IPv4
}

// Equal reports whether the same is wanted.
func (w Wanted) Equal(v Wanted) bool {
	return slices.Equal(w.Peers, v.Peers) && w.equalExceptPeers(v)
}

// SameDevices reports whether the same is wanted, except for peers behind the same
// devices. Rules depend on the single peers only where peers are marked.
func (w Wanted) SameDevices(v Wanted) bool {
	return w.equalExceptPeers(v) && slices.Equal(w.Devices(), v.Devices())
}

func (w Wanted) equalExceptPeers(v Wanted) bool {
	w.Peers, v.Peers = nil, nil
	return reflect.DeepEqual(w, v)
}

// Concerns reports whether a rule about addresses of p is this daemon's.
func (w Wanted) Concerns(p netip.Prefix) bool { return p.Overlaps(w.Network) || p.Overlaps(w.Former) }

// Devices are the interfaces that lead to peers, sorted.
func (w Wanted) Devices() (out []string) {
	for _, p := range w.Peers {
		if !slices.Contains(out, p.Device) {
			out = append(out, p.Device)
		}
	}
	slices.Sort(out)
	return out
}

// Side is a condition on an address. Its zero value matches every address.
type Side struct {
	Prefix netip.Prefix
	Not    bool
}

// Spec is a rule of ours. It matches if all conditions hold.
type Spec struct {
	Src, Dst Side
	In, Out  string // interfaces; empty: any
	Marked   bool   // has PeerMark
	Target   Target
}

// Target is what a rule of ours does.
type Target int

// The targets.
const (
	TargetAccept          Target = iota // accept the packet
	TargetNoNAT                         // do not translate its addresses, and let no other rule do so
	TargetMasquerade                    // translate its source to this host's address, and its port to one at random
	TargetMasqueradePlain               // the same, but the port stays where it is free
)

// PeerMark is the bit that is set in the mark of packets from peers that arrive by
// the device that leads to that peer. Our rules in iptables accept packets with it,
// and dockerd 29 on nftables does with --bridge-accept-fwmark=0x1000/0x1000.
// Kubernetes uses 0x4000 and 0x8000, CNI's portmap 0x2000, Tailscale and Calico the
// upper half.
const PeerMark = 0x1000

// multicast is what is sent to many, which never leaves by a translated address.
var multicast = map[inet.Family]netip.Prefix{
	inet.IPv4: netip.MustParsePrefix("224.0.0.0/4"),
	inet.IPv6: netip.MustParsePrefix("ff00::/8"),
}

// MasqueradeSpecs are the rules that masquerade packets that leave the network, or
// enter it on another host than the destination's. Containers see each other's own
// addresses.
func (w Wanted) MasqueradeSpecs() []Spec {
	if !w.Masquerade {
		return nil
	}
	network, own := Side{Prefix: w.Network}, Side{Prefix: w.Subnet}
	elsewhere := Side{Prefix: w.Network, Not: true}
	masquerade := TargetMasquerade
	if w.PlainPorts {
		masquerade = TargetMasqueradePlain
	}
	return []Spec{
		{Src: network, Dst: network, Target: TargetNoNAT},
		{Src: network, Dst: Side{Prefix: multicast[w.Family()], Not: true}, Target: masquerade},
		{Src: elsewhere, Dst: own, Target: TargetNoNAT}, // containers see the address of clients outside
		{Src: elsewhere, Dst: network, Target: masquerade},
	}
}

// ForwardSpecs are the rules that accept everything from and to the network.
func (w Wanted) ForwardSpecs() []Spec {
	if !w.Forward {
		return nil
	}
	network := Side{Prefix: w.Network}
	return []Spec{{Src: network, Target: TargetAccept}, {Dst: network, Target: TargetAccept}}
}

// FromPeers are the rules that accept packets from peers to this host's containers,
// if they arrive by the device that leads to that peer. Without marks they accept
// packets with an address of the network that arrive by the device of some peer.
func (w Wanted) FromPeers() (out []Spec) {
	switch {
	case !w.Forward || len(w.Peers) == 0:
		return nil
	case w.Marked:
		return []Spec{{Dst: Side{Prefix: w.Subnet}, Marked: true, Target: TargetAccept}}
	}
	for _, d := range w.Devices() {
		out = append(out, Spec{Src: Side{Prefix: w.Network}, Dst: Side{Prefix: w.Subnet}, In: d, Target: TargetAccept})
	}
	return out
}

// ToPeers are the rules that accept packets from this host's containers to peers.
func (w Wanted) ToPeers() (out []Spec) {
	if !w.Forward {
		return nil
	}
	for _, d := range w.Devices() {
		out = append(out, Spec{Src: Side{Prefix: w.Subnet}, Dst: Side{Prefix: w.Network}, Out: d, Target: TargetAccept})
	}
	return out
}
