package probe

import (
	"net/netip"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"flanneld/pkg/firewall/firewalltest"
	"flanneld/pkg/inet"
)

// target is a peer's docker0.
func target(f inet.Family) netip.Addr {
	return firewalltest.Addr(f, netip.MustParseAddr("172.7.22.1"))
}

// router is between here and there.
func router(f inet.Family) netip.Addr {
	return firewalltest.Addr(f, netip.MustParseAddr("10.4.7.254"))
}

// TestWhoseEcho: an echo is of whom it was asked of, but for the address that all routers of a subnet have.
func TestWhoseEcho(t *testing.T) {
	for _, tt := range []struct {
		dst, from string
		want      bool
	}{
		{"172.7.22.1", "172.7.22.1", true},
		{"172.7.22.1", "172.7.23.1", false},
		{"172.7.22.0", "172.7.22.1", false},
		{"fc00:ac:7:16::1", "fc00:ac:7:16::1", true},
		{"fc00:ac:7:16::1", "fc00:a:4:7::16", false},
		{"fc00:ac:7:16::", "fc00:ac:7:16::1", true},
	} {
		dst, from := netip.MustParseAddr(tt.dst), netip.MustParseAddr(tt.from)
		echo, err := (&icmp.Message{Type: wires[inet.Of(dst)].reply, Body: &icmp.Echo{ID: 7, Seq: 9}}).Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		if a, ours := answer(echo, from, dst, 7, 9); ours != tt.want || ours && a.From != from {
			t.Errorf("an echo from %v of %v: %+v, %t", from, dst, a, ours)
		}
	}
}

func TestMeaning(t *testing.T) {
	for f, meant := range map[inet.Family]map[icmp.Type]map[int]string{
		inet.IPv4: {ipv4.ICMPTypeDestinationUnreachable: {
			0: "there is no route to that network", 1: "there is no such host", 3: "there is no such port", 4: "it is longer than a packet on this path may be",
			13: "a firewall forbids it", 5: "it cannot be delivered (code 5)",
		}, ipv4.ICMPTypeTimeExceeded: {0: "it went in a circle"}},
		inet.IPv6: {ipv6.ICMPTypeDestinationUnreachable: {
			0: "there is no route to that network", 1: "a firewall forbids it", 3: "there is no such host", 4: "there is no such port",
			5: "a firewall forbids it", 6: "there is no route to that network", 9: "it cannot be delivered (code 9)",
		}, ipv6.ICMPTypeTimeExceeded: {0: "it went in a circle"}, ipv6.ICMPTypePacketTooBig: {0: "it is longer than a packet on this path may be"}},
	} {
		dst := target(f)
		for kind, codes := range meant {
			for code, want := range codes {
				if got, ours := answer(refusing(t, f, kind, code), router(f), dst, 7, 9); !ours || got.Text != want {
					t.Errorf("%v %v %d: %+v", f, kind, code, got)
				}
				if got, ours := answer(refusing(t, f, kind, code), router(f), dst.Next(), 7, 9); ours {
					t.Errorf("%v %v %d is about another target: %+v", f, kind, code, got)
				}
			}
		}
	}
}

// refusing is an ICMP message about our echo 9 of 7, to a peer's docker0.
func refusing(t testing.TB, f inet.Family, kind icmp.Type, code int) []byte {
	t.Helper()
	marshal := func(m icmp.Message) []byte {
		packet, err := m.Marshal(nil)
		if err != nil {
			t.Fatal(err)
		}
		return packet
	}
	original := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 172, 7, 22, 1}
	if f == inet.IPv6 {
		original = append([]byte{0x60, 0, 0, 0, 0, 8, 58, 64}, make([]byte, 16)...)
		original = append(original, target(f).AsSlice()...)
	}
	original = append(original, marshal(icmp.Message{Type: wires[f].echo, Body: &icmp.Echo{ID: 7, Seq: 9}})...)
	var body icmp.MessageBody = &icmp.DstUnreach{Data: original}
	switch kind {
	case ipv4.ICMPTypeTimeExceeded, ipv6.ICMPTypeTimeExceeded:
		body = &icmp.TimeExceeded{Data: original}
	case ipv6.ICMPTypePacketTooBig:
		body = &icmp.PacketTooBig{MTU: 1280, Data: original}
	}
	return marshal(icmp.Message{Type: kind, Code: code, Body: body})
}

// FuzzAnswer reads what a raw socket may bring, by whomever it was sent.
func FuzzAnswer(f *testing.F) {
	unreachable := map[inet.Family]icmp.Type{inet.IPv4: ipv4.ICMPTypeDestinationUnreachable, inet.IPv6: ipv6.ICMPTypeDestinationUnreachable}
	forbidding := map[inet.Family]int{inet.IPv4: 13, inet.IPv6: 1}
	f.Add([]byte{11, 0, 0, 0, 0, 0, 0, 0, 0x4f, 0, 0, 1})
	var all []netip.Addr
	for _, family := range inet.Families() {
		dst := target(family)
		all = append(all, dst)
		echo, err := (&icmp.Message{Type: wires[family].reply, Body: &icmp.Echo{ID: 7, Seq: 9, Data: []byte{1, 2}}}).Marshal(nil)
		if err != nil {
			f.Fatal(err)
		}
		forbidden := refusing(f, family, unreachable[family], forbidding[family])
		f.Add(echo)
		f.Add(forbidden)
		if a, ours := answer(echo, dst, dst, 7, 9); !ours || !a.Echo {
			f.Errorf("an echo is read as %+v, %t", a, ours)
		}
		if a, ours := answer(forbidden, router(family), dst, 7, 9); !ours || a.Echo || !a.Answered || a.Text != "a firewall forbids it" {
			f.Errorf("a prohibition is read as %+v, %t", a, ours)
		}
		if _, ours := answer(forbidden, router(family), dst, 7, 10); ours {
			f.Error("an answer to another's ping is ours")
		}
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, dst := range all {
			if a, ours := answer(packet, dst, dst, 7, 9); ours && !a.Answered {
				t.Errorf("%+v", a)
			}
		}
	})
}
