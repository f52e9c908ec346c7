package metrics

import (
	"context"
	"strings"
	"testing"
	"time"

	"flanneld/pkg/status"
)

func TestProbes(t *testing.T) {
	var c Counts
	s := working()
	told := func() string {
		return scrape(t, &c, func(context.Context) (status.Status, error) { return s, nil })
	}
	if lines := told(); strings.Contains(lines, "peer_probe") {
		t.Errorf("without probes:%s", lines)
	}
	s.Probes = &status.Probes{}
	expect(t, told(), `peer_probe_packets_total{result="answered"} 0`, `peer_probe_packets_total{result="lost"} 0`, `peer_probe_peers{state="silent"} 0`, "peer_probe_rtt_seconds_count 0")
	for range 3 {
		c.Probed(true, 200*time.Microsecond)
	}
	c.Probed(true, 2*time.Second)
	c.Probed(true, 0) // not known
	c.Probed(false, 0)
	s.Probes.Peers = []status.Probe{{State: status.Silent}, {State: status.Lossy}, {State: status.Well}, {State: status.Well}}
	lines := told()
	expect(t, lines, `peer_probe_packets_total{result="answered"} 5`, `peer_probe_packets_total{result="lost"} 1`,
		`peer_probe_peers{state="silent"} 1`, `peer_probe_peers{state="lossy"} 1`, `peer_probe_peers{state="narrow"} 0`, `peer_probe_peers{state="well"} 2`,
		`peer_probe_rtt_seconds_bucket{le="0.0001"} 0`, `peer_probe_rtt_seconds_bucket{le="0.0003"} 3`, `peer_probe_rtt_seconds_bucket{le="1"} 3`, "peer_probe_rtt_seconds_count 4")
	before := strings.Count(lines, "\n")
	for range 60 {
		s.Probes.Peers = append(s.Probes.Peers, status.Probe{State: status.Well})
	}
	if n := strings.Count(told(), "\n"); n != before {
		t.Errorf("%d lines for few peers, %d for many", before, n)
	}
}
