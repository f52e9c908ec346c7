package wgdevice_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/wgdevice"
)

// wg changes the one peer of a device by hand.
func (m *member) wg(edit func(*wgtypes.PeerConfig), key wgdevice.Key) {
	m.t.Helper()
	p := wgtypes.PeerConfig{PublicKey: wgtypes.Key(key)}
	edit(&p)
	m.do(call{Op: "wg", Name: dev, Config: wgtypes.Config{Peers: []wgtypes.PeerConfig{p}}})
}

func TestEditsByHandAreSeen(t *testing.T) {
	a, b := plainPair(t)
	a.Reach(b.inner(inet.IPv4), enough)
	want := b.plainPeer()
	a.changed()
	a.read()
	if a.changed() {
		t.Error("our own writes are told as somebody else's")
	}
	a.do(call{Op: "wg show", Name: dev})
	if a.changed() {
		t.Error("that somebody reads is told as a change")
	}
	psk := wgtypes.Key(wgdevice.NewSecret())
	for name, c := range map[string]struct {
		edit func(*wgtypes.PeerConfig)
		sees func(*wgdevice.FoundPeer)
	}{
		"psk": {
			func(p *wgtypes.PeerConfig) { p.PresharedKey = &psk },
			func(p *wgdevice.FoundPeer) { p.PSK = wgdevice.Secret(psk) },
		},
		"keepalive": {
			func(p *wgtypes.PeerConfig) { d := 9 * time.Second; p.PersistentKeepaliveInterval = &d },
			func(p *wgdevice.FoundPeer) { p.Keepalive = 9 },
		},
		"prefixes": {
			func(p *wgtypes.PeerConfig) { p.ReplaceAllowedIPs = true },
			func(p *wgdevice.FoundPeer) { p.Allowed = wgdevice.PrefixesOf() },
		},
		"one more prefix": {
			func(p *wgtypes.PeerConfig) {
				p.AllowedIPs = []net.IPNet{{IP: net.IP{192, 168, 0, 0}, Mask: net.CIDRMask(16, 32)}}
			},
			func(p *wgdevice.FoundPeer) { p.Extra = true },
		},
		"endpoint": {
			func(p *wgtypes.PeerConfig) { p.Endpoint = &net.UDPAddr{IP: net.IP{10, 4, 7, 99}, Port: 9} },
			func(p *wgdevice.FoundPeer) { p.Endpoint = netip.MustParseAddrPort("10.4.7.99:9") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			a.wg(c.edit, want.Key)
			if !a.changed() {
				t.Error("the edit is not told")
			}
			p := a.only()
			wanted := wgdevice.FoundPeer{Peer: want, LastHandshake: p.LastHandshake, Received: p.Received, Sent: p.Sent}
			c.sees(&wanted)
			if name == "one more prefix" {
				p.Allowed = wanted.Allowed // any two of the three
			}
			if p != wanted {
				t.Errorf("it is %+v, wanted %+v", p, wanted)
			}
			a.set(want)
			if p := a.only(); p.Peer != want || p.Extra {
				t.Errorf("it was put right to %+v, wanted %+v", p, want)
			}
			a.changed()
		})
	}
	t.Run("removed", func(t *testing.T) {
		a.wg(func(p *wgtypes.PeerConfig) { p.Remove = true }, want.Key)
		if _, found := a.read(); len(found) > 0 || !a.changed() {
			t.Errorf("there is still %v", found)
		}
		a.set(want)
		a.Reach(b.inner(inet.IPv4), enough)
	})
	t.Run("port and key", func(t *testing.T) {
		port, key := 51999, wgtypes.Key(wgdevice.NewSecret())
		a.do(call{Op: "wg", Name: dev, Config: wgtypes.Config{ListenPort: &port, PrivateKey: &key}})
		if s, _ := a.read(); s != (wgdevice.Settings{Private: wgdevice.Secret(key), ListenPort: port}) || !a.changed() {
			t.Errorf("the device is %v", s)
		}
		a.do(call{Op: "configure", Name: dev, Settings: a.settings()})
		if s, _ := a.read(); s != a.settings() {
			t.Errorf("the device is %v", s)
		}
	})
}

// TestRoamingIsNoEdit has a peer send from another port than the one that was configured.
func TestRoamingIsNoEdit(t *testing.T) {
	a, b := plainPair(t)
	a.Reach(b.inner(inet.IPv4), enough)
	want := b.plainPeer()
	a.read()
	b.port = 51999
	b.do(call{Op: "configure", Name: dev, Settings: b.settings()})
	b.Reach(a.inner(inet.IPv4), enough)
	lab.Eventually(t, enough, "a to roam", func() error {
		if e := a.do(call{Op: "wg show", Name: dev}).Device.Peers[0].Endpoint; e.Port != 51999 {
			return fmt.Errorf("it sends to %v", e)
		}
		return nil
	})
	for range 2 {
		if p := a.only(); p.Peer != want {
			t.Errorf("it is told as %+v, wanted %+v", p.Peer, want)
		}
	}
	want.Keepalive = 30
	a.set(want) // which does not send it back
	if e := a.do(call{Op: "wg show", Name: dev}).Device.Peers[0].Endpoint; e.Port != 51999 {
		t.Errorf("a change of something else sends to %v again", e)
	}
	want.Endpoint = b.plainPeer().Endpoint
	a.set(want)
	if p := a.only(); p.Peer != want {
		t.Errorf("it is told as %+v, wanted %+v", p.Peer, want)
	}
}

// TestDeletedTUN takes the TUN device from under a device.
func TestDeletedTUN(t *testing.T) {
	a, b := plainPair(t)
	a.Reach(b.inner(inet.IPv4), enough)
	a.Run("ip", "link", "delete", dev)
	lab.Eventually(t, enough, "the device to end", func() error {
		if a.do(call{Op: "userspace", Name: dev}).Yes {
			return fmt.Errorf("it runs")
		}
		return nil
	})
	for _, op := range []string{"read", "configure", "changed"} {
		if answer := a.try(call{Op: op, Name: dev}); !answer.NotThere {
			t.Errorf("%s: %q", op, answer.Err)
		}
	}
	if answer := a.try(call{Op: "set", Name: dev, Set: []wgdevice.Peer{b.plainPeer()}}); !answer.NotThere {
		t.Errorf("set: %q", answer.Err)
	}
	a.begin()
	a.set(b.plainPeer())
	a.Reach(b.inner(inet.IPv4), enough)
}
