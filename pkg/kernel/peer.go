package kernel

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"flanneld/pkg/wgdevice"
)

// Peer is a host behind a tunnel's device that has a table of hosts of its own: what is for
// the subnets it is allowed goes to its endpoint, and by WireGuard comes from nobody else.
// Where it has no key, the kind of device knows none.
type Peer struct {
	Dev string
	wgdevice.Peer
}

// Subnets are those behind the peer.
func (p Peer) Subnets() (all []netip.Prefix) {
	for _, s := range p.Allowed {
		if s.IsValid() {
			all = append(all, s)
		}
	}
	return all
}

// peerKey is what a device has but one peer of: a public key, or where there is none, a subnet.
type peerKey struct {
	dev     string
	key     wgdevice.Key
	allowed [2]netip.Prefix
}

func (p Peer) key() peerKey {
	if p.Key != (wgdevice.Key{}) {
		return peerKey{dev: p.Dev, key: p.Key}
	}
	return peerKey{dev: p.Dev, allowed: p.Allowed}
}

// FoundPeer is a peer as its device has it.
type FoundPeer struct {
	Peer
	More    bool // it has subnets beyond those
	Session      // as it has come to be: no State speaks of it
}

// Session is what a device tells of its talk with a peer.
type Session struct {
	Handshake      time.Time // the last one's; zero: there was none
	Sent, Received int64     // bytes
}

// entry is one with more as one that is not right.
func (p FoundPeer) entry() (Peer, bool) {
	if p.More {
		p.Allowed = [2]netip.Prefix{}
	}
	return p.Peer, true
}

// command is that of wg(8). The table of a device without keys has none: it is described.
func (p Peer) command(a Action) string {
	subnets := make([]string, 0, len(p.Allowed))
	for _, s := range p.Subnets() {
		subnets = append(subnets, s.String())
	}
	to := strings.Join(subnets, ",")
	if p.Key == (wgdevice.Key{}) {
		return fmt.Sprintf("%s: %s %s to %v", p.Dev, a.word(), to, p.Endpoint)
	}
	if a == Delete {
		return fmt.Sprintf("wg set %s peer %v remove", p.Dev, p.Key)
	}
	s := fmt.Sprintf("wg set %s peer %v", p.Dev, p.Key)
	if p.Endpoint.IsValid() {
		s += fmt.Sprint(" endpoint ", p.Endpoint)
	}
	if to == "" {
		to = `""`
	}
	s += " allowed-ips " + to
	if p.Keepalive > 0 {
		s += fmt.Sprint(" persistent-keepalive ", p.Keepalive)
	}
	return s
}
func (p Peer) device() string                  { return p.Dev }
func (Peer) kind() string                      { return kindPeer }
func (p Peer) write(w Writer, a Action) error  { return w.WritePeer(a, p) }
func (p Peer) restore(now *memory, was memory) { now.peers.putBack(was.peers, p.key()) }
