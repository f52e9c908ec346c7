package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flanneld/pkg/status"
)

// staleHandshake is how long a WireGuard session lives at most: what is to be sent later needs
// a new handshake (the WireGuard paper, 6.1: REJECT-AFTER-TIME).
const staleHandshake = 3 * time.Minute

// tunnels are counted by what carries their packets: no label names a peer.
func (c collector) tunnels(out chan<- prometheus.Metric) {
	traffic := map[string]*status.Traffic{} // by kind
	seen := map[string]bool{}
	for _, h := range c.status.Halves() {
		d := h.Device
		if d == nil || seen[d.Name] || d.Kind != status.WireGuard && d.Kind != status.UDP {
			continue
		}
		seen[d.Name] = true
		if traffic[d.Kind] == nil {
			traffic[d.Kind] = &status.Traffic{Dropped: map[string]uint64{}}
		}
		if d.Traffic != nil {
			traffic[d.Kind].Add(*d.Traffic)
		}
	}
	for kind, t := range traffic {
		const help = "What containers have sent to peers and received, without the tunnel's own headers."
		for direction, n := range map[string]uint64{"sent": t.Sent, "received": t.Received} {
			metric(out, prometheus.CounterValue, kind+"_bytes_total", help, float64(n), "direction", direction)
		}
		for reason, n := range t.Dropped {
			metric(out, prometheus.CounterValue, kind+"_dropped_packets_total",
				"Packets that flanneld could not carry.", float64(n), "reason", reason)
		}
	}
	if traffic[status.WireGuard] != nil {
		c.sessions(out)
	}
}

// sessions are WireGuard's. A peer that has one for both families is one.
func (c collector) sessions(out chan<- prometheus.Metric) {
	stale := map[[2]string]bool{} // by device and public key
	for _, p := range c.status.Peers {
		if p.Session != nil {
			stale[[2]string{p.Dev, p.PublicKey}] = c.status.Time.Sub(p.Session.Handshake) > staleHandshake
		}
	}
	n := 0
	for _, is := range stale {
		if is {
			n++
		}
	}
	metric(out, prometheus.GaugeValue, "wireguard_peers", "Peers that WireGuard devices have.", float64(len(stale)))
	metric(out, prometheus.GaugeValue, "wireguard_stale_handshakes",
		"Peers without a handshake in the last three minutes: nothing was sent since, or none came about.", float64(n))
}
