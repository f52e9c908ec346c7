package wgdevice

import (
	"bytes"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
	"pgregory.net/rapid"
)

// TestHashOfDump wants what others can edit in the hash, and nothing that changes by itself.
func TestHashOfDump(t *testing.T) {
	seed := maphash.MakeSeed()
	hash := func(edit func(*FoundPeer), port uint16) uint64 {
		p := FoundPeer{Peer: Peer{Key: Key{1}, Keepalive: 5, Allowed: PrefixesOf(netip.MustParsePrefix("172.7.21.0/24"))}}
		edit(&p)
		h := &maphash.Hash{}
		h.SetSeed(seed)
		hashAttrs(h, dumpOf(t, p, port), inDevice)
		return h.Sum64()
	}
	same := hash(func(*FoundPeer) {}, 51820)
	for name, edit := range map[string]func(*FoundPeer){
		"received":  func(p *FoundPeer) { p.Received = 7 },
		"sent":      func(p *FoundPeer) { p.Sent = 7 },
		"handshake": func(p *FoundPeer) { p.LastHandshake = time.Unix(7, 7) },
	} {
		if hash(edit, 51820) != same {
			t.Errorf("%s is in the hash", name)
		}
	}
	for name, edit := range map[string]func(*FoundPeer){
		"key":       func(p *FoundPeer) { p.Key[31] = 1 },
		"psk":       func(p *FoundPeer) { p.PSK[0] = 1 },
		"keepalive": func(p *FoundPeer) { p.Keepalive = 6 },
		"prefix":    func(p *FoundPeer) { p.Allowed[0] = netip.MustParsePrefix("172.7.21.0/25") },
	} {
		if hash(edit, 51820) == same {
			t.Errorf("%s is not in the hash", name)
		}
	}
	if hash(func(*FoundPeer) {}, 51821) == same {
		t.Error("the port is not in the hash")
	}
}

// dumpOf is what Linux tells of a device.
func dumpOf(t *testing.T, p FoundPeer, port uint16) []byte {
	e := netlink.NewAttributeEncoder()
	e.Uint16(unix.WGDEVICE_A_LISTEN_PORT, port)
	e.Nested(unix.WGDEVICE_A_PEERS, func(e *netlink.AttributeEncoder) error {
		e.Nested(0, func(e *netlink.AttributeEncoder) error {
			e.Bytes(unix.WGPEER_A_PUBLIC_KEY, p.Key[:])
			e.Bytes(unix.WGPEER_A_PRESHARED_KEY, p.PSK[:])
			e.Uint64(unix.WGPEER_A_LAST_HANDSHAKE_TIME, uint64(p.LastHandshake.UnixNano()))
			e.Uint16(unix.WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, uint16(p.Keepalive))
			e.Uint64(unix.WGPEER_A_TX_BYTES, uint64(p.Sent))
			e.Uint64(unix.WGPEER_A_RX_BYTES, uint64(p.Received))
			e.Nested(unix.WGPEER_A_ALLOWEDIPS, func(e *netlink.AttributeEncoder) error {
				e.Nested(0, func(e *netlink.AttributeEncoder) error {
					e.Bytes(unix.WGALLOWEDIP_A_IPADDR, p.Allowed[0].Addr().AsSlice())
					e.Uint8(unix.WGALLOWEDIP_A_CIDR_MASK, uint8(p.Allowed[0].Bits()))
					return nil
				})
				return nil
			})
			return nil
		})
		return nil
	})
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzHashAttrs(f *testing.F) {
	f.Add([]byte{8, 0, 8, 128, 4, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, b []byte) { hashAttrs(&maphash.Hash{}, b, inDevice) })
}

// TestAnswer reads what it has written as wireguard-go would answer.
func TestAnswer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		peer := Peer{
			Key: Key{1, byte(rapid.IntRange(0, 255).Draw(t, "key"))}, PSK: Secret{2},
			Endpoint: rapid.SampledFrom([]netip.AddrPort{
				{}, netip.MustParseAddrPort("10.4.7.21:51820"), netip.MustParseAddrPort("[fd00::1]:9"), netip.MustParseAddrPort("[fe80::1%ens33]:9"),
			}).Draw(t, "endpoint"),
			Allowed: PrefixesOf(netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("fd00:7::/64")),
			// a keepalive of 0 is a greeting's
			Keepalive: rapid.IntRange(1, 65535).Draw(t, "keepalive"),
		}
		var none *memory
		change, _ := none.changes([]Peer{peer}, nil)
		var text bytes.Buffer
		appendConfig(&text, change)
		_, peers, err := parseDevice(text.Bytes())
		if err != nil || len(peers) != 1 || peers[0] != (FoundPeer{Peer: peer}) {
			t.Errorf("%s is %+v, wanted %+v: %v", text.Bytes(), peers, peer, err)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("private_key=00\nlisten_port=1\npublic_key=" + strings.Repeat("ab", 32) + "\nallowed_ip=::/0\nrx_bytes=1\n"))
	f.Fuzz(func(_ *testing.T, text []byte) { _, _, _ = parseDevice(text) })
}

func TestRoamedOrEdited(t *testing.T) {
	told, seen, other := netip.MustParseAddrPort("10.4.7.21:1"), netip.MustParseAddrPort("10.4.7.99:2"), netip.MustParseAddrPort("10.4.7.98:3")
	type look struct {
		at       netip.AddrPort
		received int64
		want     netip.AddrPort
		edited   bool
	}
	for name, looks := range map[string][]look{
		"the first look":              {{at: seen, received: 9, want: seen}},
		"stays":                       {{at: told, received: 0, want: told}, {at: told, received: 5, want: told}},
		"roams":                       {{at: told, received: 0, want: told}, {at: seen, received: 5, want: told}, {at: seen, received: 5, want: told}, {at: other, received: 6, want: told}, {at: told, received: 7, want: told}},
		"is edited":                   {{at: told, received: 5, want: told}, {at: seen, received: 5, want: seen}, {at: seen, received: 9, want: seen}},
		"is edited after it roamed":   {{at: told, received: 0, want: told}, {at: seen, received: 5, want: told}, {at: other, received: 5, want: other}, {at: seen, received: 9, want: other}},
		"is edited back to the first": {{at: told, received: 0, want: told}, {at: seen, received: 5, want: told}, {at: told, received: 5, want: told}},
		"begins anew":                 {{at: told, received: 9, want: told}, {at: seen, received: 0, want: seen}},
		"is edited among packets":     {{at: told, received: 0, want: told}, {at: seen, received: 5, want: seen, edited: true}},
		"another one is edited":       {{at: told, received: 0, want: told}, {at: told, received: 5, want: told, edited: true}},
	} {
		var m memory
		for i, l := range looks {
			peers := []FoundPeer{{Peer: Peer{Key: Key{1}, Endpoint: l.at}, Received: l.received}}
			m.found(peers, l.edited)
			if peers[0].Endpoint != l.want {
				t.Errorf("%s: look %d tells %v, wanted %v", name, i+1, peers[0].Endpoint, l.want)
			}
		}
	}
}

// While two hosts have one key, a device sends to the one that spoke last. Once the other one has got a key
// of its own, that is put right.
func TestRoamedToWhereAnotherPeerIs(t *testing.T) {
	one, copied, third := netip.MustParseAddrPort("10.4.7.21:1"), netip.MustParseAddrPort("10.4.7.99:1"), netip.MustParseAddrPort("10.4.7.23:1")
	for name, c := range map[string]struct {
		at  netip.AddrPort // of the first peer's last packet
		set netip.AddrPort // of the one that comes
		is  bool
	}{
		"at the copy, which gets a key":  {copied, copied, true},
		"at the copy, another one comes": {copied, third, false},
		"at home":                        {one, copied, false},
		"both at home":                   {one, one, false},
	} {
		var m memory
		for received, at := range []netip.AddrPort{one, c.at} {
			m.found([]FoundPeer{{Peer: Peer{Key: Key{1}, Endpoint: at}, Received: int64(received)}}, false)
		}
		set := []Peer{{Key: Key{2}, Endpoint: c.set}}
		change, _ := m.changes(set, nil)
		told := slices.IndexFunc(change.Peers, func(p wgtypes.PeerConfig) bool { return p.PublicKey == wgtypes.Key{1} })
		if told >= 0 != c.is || told >= 0 && change.Peers[told].Endpoint.AddrPort() != one {
			t.Errorf("%s: %v", name, change.Peers)
		}
		m.told(set, nil)
		peers := []FoundPeer{{Peer: Peer{Key: Key{1}, Endpoint: one}, Received: 1}}
		if m.found(peers, false); c.is && peers[0].Endpoint != one {
			t.Errorf("%s: then it is at %v", name, peers[0].Endpoint)
		}
		if change, _ := m.changes([]Peer{{Key: Key{3}, Endpoint: c.set}}, nil); len(change.Peers) != 1 {
			t.Errorf("%s: told twice: %v", name, change.Peers)
		}
	}
}

// TestWhoIsGreetedAgain asks at several times after the first greeting.
func TestWhoIsGreetedAgain(t *testing.T) {
	began := time.Now()
	peer := Peer{Key: Key{5}, Endpoint: netip.MustParseAddrPort("10.4.7.21:1"), Keepalive: 9}
	edited := peer
	edited.PSK = Secret{1}
	for name, c := range map[string]struct {
		own   byte // its key
		tries int
		after time.Duration
		is    FoundPeer
		again bool
		waits bool
	}{
		"too early":                 {own: 9, after: firstRetry - 1, is: FoundPeer{Peer: peer}, waits: true},
		"our key is greater":        {own: 9, after: firstRetry, is: FoundPeer{Peer: peer}, again: true, waits: true},
		"our key is smaller":        {own: 1, after: firstRetry, is: FoundPeer{Peer: peer}, waits: true},
		"our key is smaller, later": {own: 1, after: secondRetry, is: FoundPeer{Peer: peer}, again: true, waits: true},
		"a second time, too early":  {own: 9, tries: 1, after: 2*firstRetry - 1, is: FoundPeer{Peer: peer}, waits: true},
		"a second time":             {own: 9, tries: 1, after: 2 * firstRetry, is: FoundPeer{Peer: peer}, again: true, waits: true},
		"the last time":             {own: 9, tries: mostRetries - 1, after: mostRetries * firstRetry, is: FoundPeer{Peer: peer}, again: true},
		"a session":                 {own: 9, after: firstRetry, is: FoundPeer{Peer: peer, LastHandshake: began, Received: 92}},
		"a session after a mix-up":  {own: 9, after: firstRetry, is: FoundPeer{Peer: peer, LastHandshake: began, Received: 240}, again: true, waits: true},
		"a session that is used":    {own: 9, after: firstRetry, is: FoundPeer{Peer: peer, LastHandshake: began, Received: 272}},
		"edited":                    {own: 9, after: firstRetry, is: FoundPeer{Peer: edited}},
		"with more prefixes":        {own: 9, after: firstRetry, is: FoundPeer{Peer: peer, Extra: true}},
		"gone":                      {own: 9, after: firstRetry},
	} {
		g := greeted{peer.Key: greeting{peer, began, c.tries}}
		again := g.again(Key{c.own}, []FoundPeer{c.is}, began.Add(c.after))
		if got := len(again) == 1 && again[0] == peer; got != c.again || (len(g) > 0) != c.waits {
			t.Errorf("%s: greets %v again, and %v wait", name, again, g)
		}
	}
}

func TestLogHasNoKey(t *testing.T) {
	s := NewSecret()
	hexed := strings.TrimPrefix(strings.TrimSpace(keyLine(s)), "private_key=")
	for _, key := range []string{encode(s), hexed} {
		if got := sayable("failed to parse line \"private_key " + key + "\"\nmore"); strings.Contains(got, key[:16]) ||
			strings.ContainsRune(got, '\n') || !strings.Contains(got, "failed") {
			t.Errorf("it says %q", got)
		}
	}
	if got := sayable(strings.Repeat("word ", 1000)); len(got) > longest+len("…") {
		t.Errorf("it says %d bytes", len(got))
	}
}

func keyLine(s Secret) string {
	var b bytes.Buffer
	writeKey(&b, "private_key", [32]byte(s))
	return b.String()
}

// requests is an engine that notes what it is told.
type requests []wgtypes.Config

func (*requests) read() (Settings, []FoundPeer, error)     { return Settings{}, nil, nil }
func (r *requests) configure(request wgtypes.Config) error { *r = append(*r, request); return nil }
func (*requests) edits() int64                             { return 0 }

// TestRenewNamesEachPeerOnce in a request: wgctrl splits large ones, and drops then what else is said
// of a key that it has seen.
func TestRenewNamesEachPeerOnce(t *testing.T) {
	peers := make([]Peer, retryAtOnce)
	for i := range peers {
		peers[i] = Peer{Key: Key{1, byte(i)}, PSK: Secret{2}, Endpoint: netip.MustParseAddrPort("10.4.7.22:51820")}
	}
	var told requests
	if err := renew(&told, peers); err != nil {
		t.Fatal(err)
	}
	has := map[wgtypes.Key]bool{}
	for _, p := range peers {
		has[wgtypes.Key(p.Key)] = true
	}
	added := 0
	for i, request := range told {
		named := map[wgtypes.Key]bool{}
		for _, p := range request.Peers {
			if named[p.PublicKey] {
				t.Fatalf("request %d names %v twice", i, p.PublicKey)
			}
			named[p.PublicKey] = true
			switch {
			case p.Remove:
				delete(has, p.PublicKey)
			case !p.UpdateOnly:
				if added++; has[p.PublicKey] || p.Endpoint == nil || p.PresharedKey == nil {
					t.Fatalf("%v is no new peer, or lacks something", p.PublicKey)
				}
			}
		}
	}
	if added != len(peers) {
		t.Errorf("%d of %d were added", added, len(peers))
	}
}
