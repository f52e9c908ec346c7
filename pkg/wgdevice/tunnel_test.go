package wgdevice_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/wgdevice"
)

func TestTwoDevicesTalk(t *testing.T) {
	for _, outer := range inet.Families() {
		t.Run("over "+outer.String(), func(t *testing.T) {
			a, b := pair(t, outer, wgdevice.NewSecret())
			for _, f := range inet.Families() {
				a.Reach(b.inner(f), enough)
				b.Reach(a.inner(f), enough)
			}
			if from := b.do(call{Op: "wg show", Name: dev}).Device.Peers[0].Endpoint; inet.Of(from.AddrPort().Addr().Unmap()) != outer {
				t.Errorf("the packets came from %v", from)
			}
		})
	}
}

func TestOtherPSK(t *testing.T) {
	a, b := pair(t, inet.IPv4, wgdevice.NewSecret())
	a.Reach(b.inner(inet.IPv4), enough)
	other := a.peer(inet.IPv4, wgdevice.NewSecret())
	b.do(call{Op: "set", Name: dev, Remove: []wgdevice.Key{other.Key}})
	b.set(other)
	if b.TryReach(a.inner(inet.IPv4), 3*time.Second) {
		t.Error("hosts with different pre-shared keys reach each other")
	}
	a.do(call{Op: "set", Name: dev, Set: []wgdevice.Peer{b.peer(inet.IPv4, other.PSK)}})
	b.do(call{Op: "set", Name: dev, Remove: []wgdevice.Key{other.Key}})
	b.set(other) // and shakes hands
	b.Reach(a.inner(inet.IPv4), enough)
}

// TestNoPlaintext looks at all frames of a host's card: what is said through the tunnel is
// not in them, and what is said beside it is.
func TestNoPlaintext(t *testing.T) {
	const secret = "a sentence that nobody else shall read"
	for _, outer := range inet.Families() {
		t.Run("over "+outer.String(), func(t *testing.T) {
			a, b := pair(t, outer, wgdevice.Secret{})
			for _, f := range inet.Families() {
				a.Reach(b.inner(f), enough)
				a.do(call{Op: "sniff"})
				before := b.only().Received
				a.do(call{Op: "say", Text: secret, To: netip.AddrPortFrom(b.inner(f).Address(), 7)})
				lab.Eventually(t, enough, "what was said", func() error {
					if b.only().Received-before < int64(len(secret)) {
						return net.ErrClosed
					}
					return nil
				})
				if seen := a.do(call{Op: "sniffed", Text: secret}); seen.Yes || seen.Count == 0 {
					t.Errorf("%v through the tunnel: plain %v, in %d frames", f, seen.Yes, seen.Count)
				}
				a.do(call{Op: "say", Text: secret, To: netip.AddrPortFrom(b.In(f).Address(), 7)})
				lab.Eventually(t, enough, "what was said beside the tunnel", func() error {
					if !a.do(call{Op: "sniffed", Text: secret}).Yes {
						return net.ErrClosed
					}
					return nil
				})
			}
		})
	}
}

// TestPlainPeer talks to wireguard-go alone, set up by wgctrl as wg(8) would.
func TestPlainPeer(t *testing.T) {
	l := lab.New(t)
	ours, plain := join(t, l, 21), stranger(t, l, 22)
	psk := wgdevice.NewSecret()
	plain.do(call{Op: "plain", Name: dev, MTU: 1420})
	key, port, theirs := wgtypes.Key(plain.secret), 51820, ours.peer(inet.IPv4, psk)
	peer := wgtypes.PeerConfig{
		PublicKey: wgtypes.Key(theirs.Key), PresharedKey: (*wgtypes.Key)(&psk), Endpoint: net.UDPAddrFromAddrPort(theirs.Endpoint),
	}
	for _, p := range theirs.Allowed {
		peer.AllowedIPs = append(peer.AllowedIPs, net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
	}
	plain.do(call{Op: "wg", Name: dev, Config: wgtypes.Config{PrivateKey: &key, ListenPort: &port, Peers: []wgtypes.PeerConfig{peer}}})
	plain.lead()

	ours.set(plain.peer(inet.IPv4, psk))
	for _, f := range inet.Families() {
		plain.Reach(ours.inner(f), enough)
		ours.Reach(plain.inner(f), enough)
	}
}
