package rules

import "net/netip"

// Wanted is what the containers of this host need of its firewall.
type Wanted struct {
	Network netip.Prefix // the cluster's
	Subnet  netip.Prefix // this host's
	// Devices are the interfaces by which packets go to peers and come from
	// them: the tunnel's, and the external one where routes are plain.
	Devices []string

	Masquerade bool // hide containers behind this host where they leave Network
	Forward    bool // let the packets of Network pass
	NFTables   bool // by a table of our own, rather than by iptables
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
	Do       Verb
}

// Verb is what a rule of ours does.
type Verb int

// What rules of ours do.
const (
	Pass        Verb = iota // let the packet through
	Keep                    // let no other rule translate its addresses
	Masquerade              // give it this host's address
	MarkAsPeers             // set PeerMark
)

// PeerMark is the bit of a packet's mark by which dockerd 29 knows what comes
// from a peer: --bridge-accept-fwmark=0x1000/0x1000. Kubernetes uses 0x4000 and
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
		{Src: network, Dst: network, Do: Keep},
		{Src: network, Dst: Side{Prefix: multicast, Not: true}, Do: Masquerade},
		{Src: elsewhere, Dst: own, Do: Keep}, // containers see who calls from outside
		{Src: elsewhere, Dst: network, Do: Masquerade},
	}
}

// ForwardSpecs let everything from and to the network pass.
func (w Wanted) ForwardSpecs() []Spec {
	if !w.Forward {
		return nil
	}
	network := Side{Prefix: w.Network}
	return []Spec{{Src: network, Do: Pass}, {Dst: network, Do: Pass}}
}

// FromPeers are the packets that come from peers by the way that we route, to
// this host's containers.
func (w Wanted) FromPeers(do Verb) (out []Spec) {
	if !w.Forward {
		return nil
	}
	for _, d := range w.Devices {
		out = append(out, Spec{Src: Side{Prefix: w.Network}, Dst: Side{Prefix: w.Subnet}, In: d, Do: do})
	}
	return out
}

// ToPeers are the packets that this host's containers send to peers.
func (w Wanted) ToPeers(do Verb) (out []Spec) {
	if !w.Forward {
		return nil
	}
	for _, d := range w.Devices {
		out = append(out, Spec{Src: Side{Prefix: w.Subnet}, Dst: Side{Prefix: w.Network}, Out: d, Do: do})
	}
	return out
}
