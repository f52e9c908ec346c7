package metrics

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/status"
)

// TestTunnels: what containers send by WireGuard and udp is counted by device, peers with and
// without a session, and nothing of them where the backend is another one.
func TestTunnels(t *testing.T) {
	var c Counts
	told := func(s status.Status) string {
		return scrape(t, &c, func(context.Context) (status.Status, error) { return s, nil })
	}
	peer := func(dev, key string, last time.Time) status.Peer {
		return status.Peer{Mode: status.Tunnel, Dev: dev, PublicKey: key, Kernel: status.InPlace, Session: &status.Session{Handshake: last}}
	}
	wg := working()
	wg.Device = &status.Device{Name: "flannel-wg", Kind: status.WireGuard, Traffic: &status.Traffic{Sent: 5, Received: 7}}
	six := *wg.Device
	wg.IPv6 = &status.Half{Lease: &status.Lease{Subnet: netip.MustParsePrefix("fd00:7:0:21::/64")}, Device: &six} // the same device
	wg.Peers = []status.Peer{
		peer("flannel-wg", "a", epoch.Add(-time.Minute)), peer("flannel-wg", "a", epoch.Add(-time.Minute)),
		peer("flannel-wg", "b", epoch.Add(-4*time.Minute)), peer("flannel-wg", "c", time.Time{}),
	}
	expect(t, told(wg), "wireguard_peers 3", "wireguard_stale_handshakes 2", `wireguard_bytes_total{direction="sent"} 5`, `wireguard_bytes_total{direction="received"} 7`)
	six.Name, six.Traffic = "flannel-wg-v6", &status.Traffic{Sent: 100}
	expect(t, told(wg), `wireguard_bytes_total{direction="sent"} 105`)

	udp := working()
	udp.Device = &status.Device{Name: "flannel0", Kind: status.UDP, Traffic: &status.Traffic{Sent: 3, Dropped: map[string]uint64{"no route": 2}}}
	udp.Peers = append(udp.Peers, status.Peer{Mode: status.External})
	expect(t, told(udp), `udp_bytes_total{direction="sent"} 3`, `udp_dropped_packets_total{reason="no route"} 2`, `peers{mode="external"} 1`, "peers_wrong 2")

	for _, s := range []status.Status{working(), udp} {
		if strings.Contains(told(s), "wireguard_") {
			t.Error(told(s))
		}
	}
}
