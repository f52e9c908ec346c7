package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// secret is what containers say to each other.
const secret = "attack-at-dawn-0123456789"

// TestNoPlaintext looks at each frame on the segment while containers talk by TCP, UDP and ICMP:
// in mode wireguard what they say is in none, whatever carries it. In vxlan it is, so this sees it.
func TestNoPlaintext(t *testing.T) {
	for _, tt := range []struct {
		name, backend string
		stack         lab.Stack
		plain         bool
		one           string // where the peer is, if one device carries both families
	}{
		{"vxlan", `{"Type": "vxlan"}`, lab.Stacks[2], true, ""},
		{"separate, IPv4", `{"Type": "wireguard"}`, lab.Stacks[0], false, ""},
		{"separate, IPv6", `{"Type": "wireguard", "Mode": "separate"}`, lab.Stacks[1], false, ""},
		{"separate", `{"Type": "wireguard", "Mode": "separate", "PSK": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`, lab.Stacks[2], false, ""},
		{"auto", `{"Type": "wireguard", "Mode": "auto"}`, lab.Stacks[2], false, "10.4.7.22:51820"},
		{"ipv4", `{"Type": "wireguard", "Mode": "ipv4"}`, lab.Stacks[2], false, "10.4.7.22:51820"},
		{"ipv6", `{"Type": "wireguard", "Mode": "ipv6"}`, lab.Stacks[2], false, "[fd00:4::22]:51820"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newModes(t, tt.stack, lab.EtcdOptions{Newest: true}, tt.stack.Config(tt.backend))
			s := sniff(t, c.hosts[0].Node, "ens33", secret)
			c.connected(soon)
			for _, f := range c.families() {
				a, b := c.hosts[0].box, c.hosts[1].box
				talks(t, a, b, f)
				talks(t, b, a, f)
			}
			lab.Eventually(t, soon, "the frames", func() error {
				if s.frames.Load() < 20 || tt.plain && s.hits.Load() < 6 {
					return fmt.Errorf("there are %d frames, %d with the text", s.frames.Load(), s.hits.Load())
				}
				return nil
			})
			if hits := s.hits.Load(); !tt.plain && hits > 0 {
				t.Errorf("the text is in %d frames of %d", hits, s.frames.Load())
			}
			if dropped := s.dropped(); dropped > 0 {
				t.Errorf("%d frames were not seen", dropped)
			}
			if tt.one != "" {
				c.hosts[0].oneDevice(t, tt.one)
			}
		})
	}
}

// oneDevice: flannel-wg carries both families, to one peer.
func (n *node) oneDevice(t *testing.T, endpoint string) {
	t.Helper()
	if text := n.deviceText("flannel-wg-v6"); text != "missing" {
		t.Errorf("IPv6 has a device of its own: %s", text)
	}
	eventually(t, "the routes", n.routes, "172.7.0.0/16 dev flannel-wg proto 77\nfc00:7::/48 dev flannel-wg proto 77 metric 1024")
	text := wgText(n.wg(t, "flannel-wg", nil))
	if want := " endpoint " + endpoint + " allowed 172.7.22.0/24,fc00:7:0:22::/64"; !strings.HasSuffix(text, want) || strings.Count(text, "\n") != 1 {
		t.Errorf("no %q in\n%s", want, text)
	}
}

// talks has one container say the secret to the other by each protocol, until it is heard.
func talks(t *testing.T, from, to *lab.Container, f inet.Family) {
	t.Helper()
	ip := to.In(f).Address().String()
	listener := to.Listen("tcp", net.JoinHostPort(ip, "6000"))
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	said, err := from.Dial(ctx, "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	heard, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	text := make([]byte, len(secret))
	if _, err := io.WriteString(said, secret); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(heard, text); err != nil || string(text) != secret {
		t.Fatalf("it heard %q, %v", text, err)
	}

	var in, out net.PacketConn
	var pings *icmp.PacketConn
	network, any := echoOf(f)
	for _, open := range []struct {
		on *lab.Container
		do func() error
	}{
		{to, func() (err error) { in, err = net.ListenPacket("udp", net.JoinHostPort(ip, "6001")); return err }},
		{from, func() (err error) {
			out, err = net.ListenPacket("udp", net.JoinHostPort(from.In(f).Address().String(), "0"))
			return err
		}},
		{from, func() (err error) { pings, err = icmp.ListenPacket(network, any); return err }},
	} {
		if err := open.on.Do(open.do); err != nil {
			t.Fatal(err)
		}
	}
	defer in.Close()
	defer out.Close()
	defer pings.Close()
	exchange(t, in, func() error { _, err := out.WriteTo([]byte(secret), in.LocalAddr()); return err })
	exchange(t, pings, func() error {
		packet, err := echoRequest(f)
		if err == nil {
			_, err = pings.WriteTo(packet, &net.UDPAddr{IP: to.In(f).Address().AsSlice()})
		}
		return err
	})
}

// exchange sends until something with the secret comes.
func exchange(t *testing.T, in net.PacketConn, send func() error) {
	t.Helper()
	packet := make([]byte, 1500)
	lab.Eventually(t, soon, "what was said", func() error {
		if err := send(); err != nil {
			return err
		}
		_ = in.SetReadDeadline(time.Now().Add(time.Second))
		n, _, err := in.ReadFrom(packet)
		if err == nil && !strings.Contains(string(packet[:n]), secret) {
			err = fmt.Errorf("%q", packet[:n])
		}
		return err
	})
}

func echoOf(f inet.Family) (network, any string) {
	if f == inet.IPv6 {
		return "udp6", "::"
	}
	return "udp4", "0.0.0.0"
}

func echoRequest(f inet.Family) ([]byte, error) {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Seq: 1, Data: []byte(secret)}}
	if f == inet.IPv6 {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	return m.Marshal(nil)
}
