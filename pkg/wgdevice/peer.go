package wgdevice

import (
	"net/netip"
	"time"

	"flanneld/pkg/inet"
)

// Settings are a device's own.
type Settings struct {
	Private    Secret // zero: none, and the device is silent
	ListenPort int    // of UDP, at every address; 0: any that is free
}

// Peer is what a device is told of another host.
type Peer struct {
	Key       Key
	PSK       Secret          // zero: none
	Endpoint  netip.AddrPort  // of UDP; invalid: not known
	Allowed   [2]netip.Prefix // where its packets may come from, and which go to it; IPv4's first; invalid: none
	Keepalive int             // seconds between packets that say nothing; 0: none
}

// FoundPeer is a peer of a device as it is.
type FoundPeer struct {
	Peer
	LastHandshake time.Time // zero: there was none
	Received      int64     // bytes
	Sent          int64     // bytes
	Extra         bool      // there are allowed IPs besides those in Allowed
}

// PrefixesOf are prefixes of different families, as Peer.Allowed has them.
func PrefixesOf(prefixes ...netip.Prefix) (both [2]netip.Prefix) {
	for _, p := range prefixes {
		both[inet.Of(p.Addr()).Index()] = p
	}
	return both
}

// allow notes one more allowed IP.
func (p *FoundPeer) allow(prefix netip.Prefix) {
	place := &p.Allowed[inet.Of(prefix.Addr()).Index()]
	if place.IsValid() {
		p.Extra = true
		return
	}
	*place = prefix
}

// keeps reports whether the peer has no allowed IP but those.
func (p *FoundPeer) keeps(allowed [2]netip.Prefix) bool {
	for i, has := range p.Allowed {
		if has.IsValid() && has != allowed[i] {
			return false
		}
	}
	return !p.Extra
}
