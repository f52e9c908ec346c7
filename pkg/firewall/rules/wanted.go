package rules

import (
	"net/netip"
	"reflect"
	"slices"
)

// Wanted is what the containers of this host need of its firewall.
type Wanted struct {
	Network netip.Prefix // the cluster's
	Subnet  netip.Prefix // this host's
	Peers   []Peer       // in any order that stays the same
	// Marked says that the kernel has nf_tables, so that what comes from peers
	// can carry PeerMark.
	Marked bool

	Masquerade bool // hide containers behind this host where they leave Network
	Forward    bool // let the packets of Network pass
	NFTables   bool // by a table of our own, rather than by iptables
}

// Peer is another host, and the way by which we route to it.
type Peer struct {
	Subnet netip.Prefix // as long as our own
	Device string       // the tunnel's; or the external one, where routes are plain
	// Host is its own address, where its packets come by the same way: those of a
	// container that its docker masquerades. Zero by the tunnel, where they carry
	// an address of Subnet.
	Host netip.Addr
}

// Equal reports whether the same is wanted.
func (w Wanted) Equal(v Wanted) bool {
	return slices.Equal(w.Peers, v.Peers) && w.equalExceptPeers(v)
}

// SameDevices reports whether the same is wanted but for peers that are reached
// by the same devices as the others. Rules depend on peers only where those are
// told by a mark.
func (w Wanted) SameDevices(v Wanted) bool {
	return w.equalExceptPeers(v) && slices.Equal(w.Devices(), v.Devices())
}

func (w Wanted) equalExceptPeers(v Wanted) bool {
	w.Peers, v.Peers = nil, nil
	return reflect.DeepEqual(w, v)
}

// Devices are the interfaces by which packets go to peers and come from them.
func (w Wanted) Devices() (out []string) {
	for _, p := range w.Peers {
		if !slices.Contains(out, p.Device) {
			out = append(out, p.Device)
		}
	}
	slices.Sort(out)
	return out
}

// Side is a condition on an address. Its zero value holds for every address.
type Side struct {
	Prefix netip.Prefix
	Not    bool
}

// Spec is a rule of ours: all conditions must hold.
type Spec struct {
	Src, Dst Side
	In, Out  string // interfaces; empty: any
	Marked   bool   // has PeerMark
	Target   Target
}

// Verb is what a rule of ours does.
type Target int

// What rules of ours do.
const (
	TargetAccept     Target = iota // let the packet through
	TargetNoNAT                    // let no other rule translate its addresses
	TargetMasquerade               // give it this host's address
)

// PeerMark is the bit of a packet's mark that says: it comes from a peer, by the
// way that we route to that peer. iptables lets it pass by that, and dockerd 29 on
// nftables by --bridge-accept-fwmark=0x1000/0x1000. Kubernetes uses 0x4000 and
// 0x8000, CNI's portmap 0x2000, Tailscale and Calico the upper half.
const PeerMark = 0x1000

var multicast = netip.MustParsePrefix("224.0.0.0/4")

// MasqueradeSpecs give what leaves the network, or enters it from elsewhere than
// its own host, this host's address; containers see each other's own.
func (w Wanted) MasqueradeSpecs() []Spec {
	if !w.Masquerade {
		return nil
	}
	network, own := Side{Prefix: w.Network}, Side{Prefix: w.Subnet}
	elsewhere := Side{Prefix: w.Network, Not: true}
	return []Spec{
		{Src: network, Dst: network, Target: TargetNoNAT},
		{Src: network, Dst: Side{Prefix: multicast, Not: true}, Target: TargetMasquerade},
		{Src: elsewhere, Dst: own, Target: TargetNoNAT}, // containers see who calls from outside
		{Src: elsewhere, Dst: network, Target: TargetMasquerade},
	}
}

// ForwardSpecs let everything from and to the network pass.
func (w Wanted) ForwardSpecs() []Spec {
	if !w.Forward {
		return nil
	}
	network := Side{Prefix: w.Network}
	return []Spec{{Src: network, Target: TargetAccept}, {Dst: network, Target: TargetAccept}}
}

// FromPeers let pass what comes from peers by the way that we route to them, to
// this host's containers. Without marks that is what has an address of the
// network and comes by the device of some peer.
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

// ToPeers let pass what this host's containers send to peers.
func (w Wanted) ToPeers() (out []Spec) {
	if !w.Forward {
		return nil
	}
	for _, d := range w.Devices() {
		out = append(out, Spec{Src: Side{Prefix: w.Subnet}, Dst: Side{Prefix: w.Network}, Out: d, Target: TargetAccept})
	}
	return out
}
