package wgdevice_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/wgdevice"
)

const enough = 20 * time.Second

// member is a host with a device, whose subnets are 172.7.N.0/24 and fd00:7:0:N::/64.
type member struct {
	*lab.Host
	*process
	n      int
	secret wgdevice.Secret
	port   int
}

// pair are two hosts that have each other as peers. Outer is the family between them.
func pair(t testing.TB, outer inet.Family, psk wgdevice.Secret) (a, b *member) {
	t.Helper()
	l := lab.New(t)
	a, b = join(t, l, 21), join(t, l, 22)
	a.set(b.peer(outer, psk))
	b.set(a.peer(outer, psk))
	return a, b
}

func plainPair(t testing.TB) (a, b *member) {
	t.Helper()
	return pair(t, inet.IPv4, wgdevice.Secret{})
}

func join(t testing.TB, l *lab.Lab, n int) *member {
	t.Helper()
	m := stranger(t, l, n)
	m.begin()
	return m
}

// stranger has no device yet.
func stranger(t testing.TB, l *lab.Lab, n int) *member {
	t.Helper()
	h := l.Host(fmt.Sprintf("hdss7-%d", n), fmt.Sprintf("10.4.7.%d/24,fd00:4::%d/64", n, n))
	return &member{Host: h, n: n, secret: wgdevice.NewSecret(), port: 51820, process: start(t, h)}
}

// begin makes the device and what leads to it.
func (m *member) begin() {
	m.t.Helper()
	m.do(call{Op: "start", Name: dev, MTU: 1420})
	m.do(call{Op: "configure", Name: dev, Settings: m.settings()})
	m.lead()
}

// lead sets the link up, with its addresses and routes.
func (m *member) lead() {
	m.t.Helper()
	m.Shell(fmt.Sprintf(`
		ip link set %s up
		ip addr replace 172.7.%d.0/32 dev %[1]s
		ip addr replace fd00:7:0:%[2]d::/128 dev %[1]s nodad
		ip route replace 172.7.0.0/16 dev %[1]s
		ip -6 route replace fd00:7::/48 dev %[1]s`, dev, m.n))
}

func (m *member) settings() wgdevice.Settings {
	return wgdevice.Settings{Private: m.secret, ListenPort: m.port}
}

// peer is the member as others have it.
func (m *member) peer(outer inet.Family, psk wgdevice.Secret) wgdevice.Peer {
	return wgdevice.Peer{
		Key: m.secret.Public(), PSK: psk,
		Endpoint: netip.AddrPortFrom(m.In(outer).Address(), uint16(m.port)),
		Allowed: wgdevice.PrefixesOf(
			netip.MustParsePrefix(fmt.Sprintf("172.7.%d.0/24", m.n)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:7:0:%d::/64", m.n))),
	}
}

func (m *member) plainPeer() wgdevice.Peer { return m.peer(inet.IPv4, wgdevice.Secret{}) }

// inner is the member's address behind the tunnel.
func (m *member) inner(f inet.Family) lab.Target {
	if f == inet.IPv4 {
		return lab.Address(fmt.Sprintf("172.7.%d.0", m.n))
	}
	return lab.Address(fmt.Sprintf("fd00:7:0:%d::", m.n))
}

// only is the one peer that the member's device has.
func (m *member) only() wgdevice.FoundPeer {
	m.t.Helper()
	_, found := m.read()
	if len(found) != 1 {
		m.t.Fatalf("%s has %d peers: %v", m.Host, len(found), found)
	}
	return found[0]
}

func (m *member) changed() bool {
	m.t.Helper()
	return m.do(call{Op: "changed", Name: dev}).Yes
}

// awaitHandshake waits until the one peer has shaken hands after a time.
func (m *member) awaitHandshake(after time.Time) {
	m.t.Helper()
	lab.Eventually(m.t, enough, "a handshake of "+m.Host.Name, func() error {
		if at := m.only().LastHandshake; !at.After(after) {
			return fmt.Errorf("the last one was at %v", at)
		}
		return nil
	})
}
