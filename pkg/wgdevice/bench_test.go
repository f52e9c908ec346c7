package wgdevice_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl"

	"flanneld/pkg/wgdevice"
)

// BenchmarkLook is what it costs to know what a device in this process is.
func BenchmarkLook(b *testing.B) {
	for _, n := range []int{100, 1000, 4000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			c := wgdevice.New()
			defer c.Close()
			crowd(b, c, n)
			b.Run("read", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, peers, err := c.Read(dev); err != nil || len(peers) != n {
						b.Fatal(len(peers), err)
					}
				}
			})
			b.Run("changed", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Changed(dev); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("wgctrl", func(b *testing.B) { // what Read would cost by the socket
				client, err := wgctrl.New()
				if err != nil {
					b.Fatal(err)
				}
				defer client.Close()
				b.ReportAllocs()
				for b.Loop() {
					if d, err := client.Device(dev); err != nil || len(d.Peers) != n {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkSetPeers is what it costs to add all peers to a device, and to remove them.
func BenchmarkSetPeers(b *testing.B) {
	for _, n := range []int{100, 1000, 4000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			c := wgdevice.New()
			defer c.Close()
			peers := crowd(b, c, n)
			keys := make([]wgdevice.Key, n)
			for i := range peers {
				keys[i] = peers[i].Key
			}
			for b.Loop() {
				if err := c.SetPeers(dev, nil, keys); err != nil {
					b.Fatal(err)
				}
				if err := c.SetPeers(dev, peers, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// crowd has a device of so many peers, at an address that swallows what they are sent.
func crowd(b testing.TB, c *wgdevice.Control, n int) []wgdevice.Peer {
	b.Helper()
	if os.Getenv(kernelEnv) != "" {
		if err := exec.Command("ip", "link", "add", dev, "type", "wireguard").Run(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = exec.Command("ip", "link", "delete", dev).Run() })
		defer func() { _ = exec.Command("ip", "link", "set", dev, "up").Run() }()
	} else if err := c.StartUserspace(dev, 1420); err != nil {
		b.Fatal(err)
	}
	if err := c.Configure(dev, wgdevice.Settings{Private: wgdevice.NewSecret(), ListenPort: 51820}); err != nil {
		b.Fatal(err)
	}
	peers := make([]wgdevice.Peer, n)
	for i := range peers {
		peers[i] = wgdevice.Peer{
			Key: wgdevice.NewSecret().Public(), Endpoint: netip.MustParseAddrPort("127.0.0.1:9"),
			Allowed: wgdevice.PrefixesOf(
				netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(16 + i>>8), byte(i), 0}), 24),
				netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 7, 7: byte(i >> 8), 8: byte(i)}), 72)),
		}
	}
	if err := c.SetPeers(dev, peers, nil); err != nil {
		b.Fatal(err)
	}
	return peers
}
