package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"flanneld/pkg/status"
)

// probes are the packets that were sent to a sample of the peers.
type probes struct {
	lost, answered, timed uint64                  // the last are those whose round trip is known
	trips                 [len(tripBounds)]uint64 // of those
	took                  time.Duration           // of all of them together
}

// tripBounds are the upper bounds of the histogram of round trips: a rack takes a tenth of
// a millisecond, the way around the world a third of a second.
var tripBounds = [...]time.Duration{
	100 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond,
	30 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second,
}

// Probed counts a packet that was sent to a peer, and its round trip if it was answered; 0: not known.
func (c *Counts) Probed(answered bool, rtt time.Duration) {
	c.change(func(t *tally) {
		if !answered {
			t.probes.lost++
			return
		}
		t.probes.answered++
		if rtt <= 0 {
			return
		}
		t.probes.timed++
		t.probes.took += rtt
		for i, bound := range tripBounds {
			if rtt <= bound {
				t.probes.trips[i]++
			}
		}
	})
}

// probed shows what the probes of peers have found, where there are any: no label names a peer.
func (c collector) probed(out chan<- prometheus.Metric) {
	if c.status.Probes == nil {
		return
	}
	of := c.status.Probes.Count()
	for _, state := range status.ProbeStates() {
		metric(out, prometheus.GaugeValue, "peer_probe_peers", "Peers that were probed lately, by how they answer.",
			float64(of[state]), "state", state)
	}
	p := c.probes
	for result, n := range map[string]uint64{"answered": p.answered, "lost": p.lost} {
		metric(out, prometheus.CounterValue, "peer_probe_packets_total", "Packets sent to peers to see whether they answer.",
			float64(n), "result", result)
	}
	buckets := make(map[float64]uint64, len(tripBounds))
	for i, bound := range tripBounds {
		buckets[bound.Seconds()] = p.trips[i]
	}
	desc := prometheus.NewDesc("flanneld_peer_probe_rtt_seconds", "How long peers take to answer probes.", nil, nil)
	out <- prometheus.MustNewConstHistogram(desc, p.timed, p.took.Seconds(), buckets)
}
