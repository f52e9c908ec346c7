package wgdevice

import (
	"net"
	"net/netip"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// greetingKeepalive is the persistent keepalive that a new peer has for a moment: the
// change from none makes a device send at once, and so shake hands.
const greetingKeepalive = 25 * time.Second

// memory is what is known of a device's peers since the last Read.
type memory struct {
	peers map[Key]*knownPeer
	edits int64 // of the device, before the last Read
}

// knownPeer is a peer as Read told it, and where its packets came from then.
type knownPeer struct {
	FoundPeer
	from netip.AddrPort
}

// found takes in what was read, and puts the endpoints that were told in the place of
// those that were seen. Edited says that somebody has written meanwhile.
func (m *memory) found(peers []FoundPeer, edited bool) {
	known := make(map[Key]*knownPeer, len(peers))
	room := make([]knownPeer, len(peers))
	for i := range peers {
		p, k := &peers[i], &room[i]
		k.from = p.Endpoint
		before := m.peers[p.Key]
		if before != nil && (before.from == p.Endpoint || p.Received > before.Received && !edited) {
			p.Endpoint = before.Endpoint
		}
		k.FoundPeer = *p
		known[p.Key] = k
	}
	m.peers = known
}

// isNew reports whether a peer was not there, as far as is known.
func (m *memory) isNew(key Key) bool { return m == nil || m.peers[key] == nil }

// misled are peers that the device takes to be where one of set is: that was a copy of theirs
// and has a key of its own now, so nothing comes from there any more that would tell the device.
func (m *memory) misled(set []Peer) (all []*knownPeer) {
	if m == nil {
		return nil
	}
	at := make(map[netip.AddrPort]Key, len(set))
	for _, p := range set {
		at[p.Endpoint] = p.Key
	}
	for key, k := range m.peers {
		if other, is := at[k.from]; is && other != key && k.from != k.Endpoint && k.Endpoint.IsValid() {
			all = append(all, k)
		}
	}
	return all
}

// told notes what was written.
func (m *memory) told(set []Peer, remove []Key) {
	for _, k := range m.misled(set) {
		k.from = k.Endpoint
	}
	for _, key := range remove {
		delete(m.peers, key)
	}
	for _, p := range set {
		k := m.peers[p.Key]
		if k == nil {
			k = &knownPeer{}
			m.peers[p.Key] = k
		}
		if k.Endpoint != p.Endpoint {
			k.from = p.Endpoint
		}
		k.Peer, k.Extra = p, k.Extra && k.keeps(p.Allowed)
	}
}

// changes are the request that adds and changes peers, and the one that ends the greeting
// of those that want no keepalive and removes others. By then the prefixes of these have
// moved, and what was under way to them has left.
func (m *memory) changes(set []Peer, remove []Key) (change, then wgtypes.Config) {
	change.Peers = make([]wgtypes.PeerConfig, 0, len(set))
	for _, p := range set {
		var before *knownPeer
		if m != nil {
			before = m.peers[p.Key]
		}
		change.Peers = append(change.Peers, p.config(before))
		if before == nil && p.Keepalive == 0 {
			then.Peers = append(then.Peers, wgtypes.PeerConfig{
				PublicKey: wgtypes.Key(p.Key), UpdateOnly: true, PersistentKeepaliveInterval: new(time.Duration),
			})
		}
	}
	for _, k := range m.misled(set) {
		change.Peers = append(change.Peers, wgtypes.PeerConfig{
			PublicKey: wgtypes.Key(k.Key), UpdateOnly: true, Endpoint: net.UDPAddrFromAddrPort(k.Endpoint),
		})
	}
	for _, key := range remove {
		then.Peers = append(then.Peers, wgtypes.PeerConfig{PublicKey: wgtypes.Key(key), Remove: true})
	}
	return change, then
}

// apply makes both.
func apply(d engine, change, then wgtypes.Config) error {
	for _, c := range []wgtypes.Config{change, then} {
		if len(c.Peers) == 0 {
			continue
		}
		if err := d.configure(c); err != nil {
			return err
		}
	}
	return nil
}

// config is the request for a peer: all of it where nothing is known of it, and otherwise
// what differs. Prefixes are always named, which does no harm: others may have got them
// since.
func (p Peer) config(before *knownPeer) wgtypes.PeerConfig {
	keepalive := time.Duration(p.Keepalive) * time.Second
	c := wgtypes.PeerConfig{
		PublicKey: wgtypes.Key(p.Key), PresharedKey: (*wgtypes.Key)(&p.PSK), PersistentKeepaliveInterval: &keepalive,
		ReplaceAllowedIPs: true,
	}
	for _, prefix := range p.Allowed {
		if prefix.IsValid() {
			c.AllowedIPs = append(c.AllowedIPs, ipNet(prefix))
		}
	}
	if p.Endpoint.IsValid() && (before == nil || before.Endpoint != p.Endpoint) {
		c.Endpoint = net.UDPAddrFromAddrPort(p.Endpoint)
	}
	if before == nil {
		if keepalive == 0 {
			keepalive = greetingKeepalive
		}
		return c
	}
	if before.PSK == p.PSK {
		c.PresharedKey = nil
	}
	if before.Keepalive == p.Keepalive {
		c.PersistentKeepaliveInterval = nil
	}
	c.ReplaceAllowedIPs = !before.keeps(p.Allowed)
	return c
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
