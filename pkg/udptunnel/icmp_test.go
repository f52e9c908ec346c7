package udptunnel

import (
	"testing"
	"time"
)

// TestWhatGetsNoError (RFC 1812, 4.3.2.7).
func TestWhatGetsNoError(t *testing.T) {
	good := func(protocol byte, payload ...byte) []byte {
		p := []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0, 172, 7, 21, 2, 172, 7, 22, 2}
		return append(p, payload...)
	}
	edit := func(at int, b byte) []byte {
		p := good(protocolUDP, 1, 2, 3, 4)
		p[at] = b
		return p
	}
	for name, tt := range map[string]struct {
		packet []byte
		want   bool
	}{
		"UDP":                   {good(protocolUDP, 1, 2, 3, 4), true},
		"UDP, no payload":       {good(protocolUDP), true},
		"a ping":                {good(protocolICMP, 8, 0), true},
		"its answer":            {good(protocolICMP, 0, 0), true},
		"an error":              {good(protocolICMP, icmpUnreachable, 1), false},
		"another error":         {good(protocolICMP, icmpExceeded, 0), false},
		"a redirect":            {good(protocolICMP, 5, 0), false},
		"of no type":            {good(protocolICMP), false},
		"an unknown type":       {good(protocolICMP, 99), false},
		"the first fragment":    {edit(ipFragment, 0x20), true},
		"a later fragment":      {edit(ipFragment+1, 1), false},
		"the last fragment":     {edit(ipFragment, 0x01), false},
		"from nobody":           {edit(ipSource, 0), false},
		"from multicast":        {edit(ipSource, 224), false},
		"from loopback":         {edit(ipSource, 127), false},
		"to multicast":          {edit(ipTarget, 239), false},
		"to a reserved address": {edit(ipTarget, 250), false},
	} {
		if got := deserves(tt.packet); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestErrorQuotes the packet, as far as there is room in 576 bytes.
func TestErrorQuotes(t *testing.T) {
	about := make([]byte, 1400)
	copy(about, []byte{0x45, 0, 5, 0x78, 0, 1, 0x40, 0, 64, 17, 0, 0, 172, 7, 21, 2, 172, 7, 22, 2})
	for _, tt := range []struct{ have, want int }{{1400, 576}, {60, 88}, {20, 48}} {
		p := icmpError(icmpUnreachable, codeTooBig, 1372, 0xac071500, about[:tt.have])
		m := p[ipShortest:]
		if len(p) != tt.want || int(be16(p[ipLength:])) != tt.want || sum16(m) != 0xffff || string(m[8:]) != string(about[:tt.want-28]) {
			t.Errorf("about %d bytes: % x", tt.have, p)
		}
		if m[0] != 3 || m[1] != 4 || be16(m[6:]) != 1372 || be32(p[ipTarget:]) != 0xac071502 || be32(p[ipSource:]) != 0xac071500 {
			t.Errorf("about %d bytes: % x", tt.have, p)
		}
	}
}

// TestPace: a few about each pair of hosts and then one a second, and no more than a
// thousand a second in all, as Linux itself does it.
func TestPace(t *testing.T) {
	now := time.Unix(1000, 0)
	p := pace{now: func() time.Time { return now }}
	count := func(times int, pair func(i int) uint32) (n int) {
		for i := range times {
			if p.allows(pair(i)) {
				n++
			}
		}
		return n
	}
	one := func(int) uint32 { return 7 }
	if n := count(100, one); n != 6 {
		t.Errorf("%d about one pair at once", n)
	}
	now = now.Add(time.Second)
	if n := count(100, one); n != 1 {
		t.Errorf("%d about it a second later", n)
	}
	now = now.Add(time.Hour)
	if n := count(100, one); n != 6 {
		t.Errorf("%d about it an hour later", n)
	}
	now = now.Add(time.Hour)
	if n := count(5000, func(i int) uint32 { return uint32(i) }); n != 50 {
		t.Errorf("%d about many pairs at once", n)
	}
	now = now.Add(30 * time.Millisecond)
	if n := count(5000, func(i int) uint32 { return uint32(i) * 31 }); n != 30 {
		t.Errorf("%d about many pairs 30 ms later", n)
	}
}
