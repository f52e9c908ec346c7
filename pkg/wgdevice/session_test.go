package wgdevice_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/wgdevice"
)

// TestNewPeerIsGreeted wants a session without a packet, on both sides, and no keepalive
// left behind.
func TestNewPeerIsGreeted(t *testing.T) {
	l := lab.New(t)
	a, b := join(t, l, 21), join(t, l, 22)
	b.set(a.plainPeer()) // a does not know b yet, and does not answer
	started := time.Now()
	a.set(b.plainPeer())
	a.awaitHandshake(started.Add(-time.Second))
	b.awaitHandshake(started.Add(-time.Second))
	for _, m := range []*member{a, b} {
		if p := m.only(); p.Keepalive != 0 {
			t.Errorf("%s keeps on sending, each %d s", m.Host, p.Keepalive)
		}
	}
	withKeepalive := b.plainPeer()
	withKeepalive.Keepalive = 7
	a.set(withKeepalive)
	if p := a.only(); p.Peer != withKeepalive {
		t.Errorf("the peer is %+v, not %+v", p.Peer, withKeepalive)
	}
}

// TestLostHandshake loses the first packet to a new peer. WireGuard by itself waits for 5 s.
func TestLostHandshake(t *testing.T) {
	l := lab.New(t)
	a, b := join(t, l, 21), join(t, l, 22)
	a.Reach(b.In(inet.IPv4), enough) // so that what is sent is lost at once
	b.set(a.plainPeer())             // which does not answer yet
	segment := l.Segment("10.4.7.0/24")
	segment.Cut()
	began := time.Now()
	a.set(b.plainPeer())
	segment.Heal()
	a.awaitHandshake(began)
	if at := a.only().LastHandshake; at.Sub(began) >= 5*time.Second {
		t.Errorf("the handshake came after %v", at.Sub(began))
	}
	a.Reach(b.inner(inet.IPv4), enough)
	if p := a.only(); p.Peer != b.plainPeer() {
		t.Errorf("the peer is %+v, not %+v", p.Peer, b.plainPeer())
	}
}

// TestRestart ends one side, by itself and by a signal: its peer takes the new
// session as soon as it is back.
func TestRestart(t *testing.T) {
	a, b := plainPair(t)
	a.Reach(b.inner(inet.IPv4), enough)
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			pings := a.PingEvery(time.Millisecond, b.inner(inet.IPv4))
			var began time.Time
			if killed {
				b.kill()
				b.process.wait()
				b.process = start(t, b.Host)
				began = time.Now()
			} else {
				began = time.Now()
				b.do(call{Op: "close"})
			}
			b.do(call{Op: "start", Name: dev, MTU: 1420})
			b.do(call{Op: "configure", Name: dev, Settings: b.settings()})
			b.set(a.plainPeer())
			b.awaitHandshake(began.Add(-time.Second))
			took := time.Since(began)
			a.Reach(b.inner(inet.IPv4), 10*time.Second) // WireGuard alone would take 15 s
			s := pings.Stop()
			t.Logf("a restart: session after %v; %v", took.Round(time.Millisecond), s)
		})
	}
}

// TestKeyReplaced replaces a host's key while both sides ping: the host first, then, when
// its peer may have heard of it, the peer.
func TestKeyReplaced(t *testing.T) {
	a, b := plainPair(t)
	a.Reach(b.inner(inet.IPv4), enough)
	b.Reach(a.inner(inet.IPv4), enough)
	for _, delay := range []time.Duration{0, 20 * time.Millisecond, 50 * time.Millisecond} {
		out, back := a.PingEvery(time.Millisecond, b.inner(inet.IPv4)), b.PingEvery(time.Millisecond, a.inner(inet.IPv4))
		time.Sleep(100 * time.Millisecond)
		old := a.secret.Public()
		a.secret = wgdevice.NewSecret()
		changed := time.Now()
		a.do(call{Op: "configure", Name: dev, Settings: a.settings()})
		time.Sleep(delay)
		b.do(call{Op: "read", Name: dev})
		b.do(call{Op: "set", Name: dev, Set: []wgdevice.Peer{a.plainPeer()}, Remove: []wgdevice.Key{old}})
		b.awaitHandshake(changed)
		took := time.Since(changed)
		time.Sleep(100 * time.Millisecond)
		t.Logf("heard of after %v, session after %v: %v; back: %v", delay, took.Round(time.Millisecond), out.Stop(), back.Stop())
		if p := b.only(); p.Key != a.secret.Public() {
			t.Errorf("the peer is %v", p)
		}
	}
}

// TestKeysReplacedAtOnce replaces the keys of both hosts while both ping, and has each hear of the other's then:
// at the same moment, or one after the other. What was to be sent meanwhile waits.
func TestKeysReplacedAtOnce(t *testing.T) {
	a, b := plainPair(t)
	a.Reach(b.inner(inet.IPv4), enough)
	for _, delay := range []time.Duration{0, 20 * time.Millisecond, 50 * time.Millisecond} {
		out, back := a.PingEvery(time.Millisecond, b.inner(inet.IPv4)), b.PingEvery(time.Millisecond, a.inner(inet.IPv4))
		time.Sleep(100 * time.Millisecond)
		changed := time.Now()
		var old []wgdevice.Key
		for _, m := range []*member{a, b} {
			old = append(old, m.secret.Public())
			m.secret = wgdevice.NewSecret()
			m.do(call{Op: "configure", Name: dev, Settings: m.settings()})
		}
		for i, m := range []*member{b, a} {
			m.do(call{Op: "read", Name: dev})
			m.do(call{Op: "set", Name: dev, Set: []wgdevice.Peer{[]*member{a, b}[i].plainPeer()}, Remove: []wgdevice.Key{old[i]}})
			time.Sleep(delay)
		}
		a.awaitHandshake(changed)
		b.awaitHandshake(changed)
		time.Sleep(100 * time.Millisecond)
		for way, s := range map[string]lab.Stats{"there": out.Stop(), "back": back.Stop()} {
			if s.Lost*20 > s.Sent { // not what was under way, but a gap
				t.Errorf("%v between the two, %s: %v", delay, way, s)
			}
		}
	}
}

// TestPrefixMoves gives a subnet from one key to another.
func TestPrefixMoves(t *testing.T) {
	l := lab.New(t)
	a, b, c := join(t, l, 21), join(t, l, 22), join(t, l, 23)
	b.set(a.plainPeer())
	c.set(a.plainPeer())
	a.set(b.plainPeer(), c.plainPeer())
	a.Reach(b.inner(inet.IPv4), enough)
	a.Reach(c.inner(inet.IPv4), enough)
	a.read()

	taking, giving := c.plainPeer(), b.plainPeer()
	taking.Allowed, giving.Allowed[0] = giving.Allowed, taking.Allowed[0]
	a.set(taking) // b is not named, and loses both
	_, found := a.read()
	i := slices.IndexFunc(found, func(p wgdevice.FoundPeer) bool { return p.Key == giving.Key })
	if i < 0 || found[i].Allowed != wgdevice.PrefixesOf() || found[1-i].Allowed != taking.Allowed {
		t.Errorf("after a prefix moved: %v", found)
	}
	a.set(giving)
	a.do(call{Op: "set", Name: dev, Remove: []wgdevice.Key{taking.Key}})
	if p := a.only(); p.Peer != giving || p.Extra {
		t.Errorf("the other peer is %+v, not %+v", p, giving)
	}
}
