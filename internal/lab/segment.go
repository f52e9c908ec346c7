package lab

import (
	"fmt"
	"net/netip"
)

// Segment is one link that hosts share, such as a switch.
type Segment struct {
	lab    *Lab
	bridge int // index in the wire namespace
	ports  []port
}

// Segment returns the segment of a network such as "10.4.7.0/24", which is made
// where no host is on it yet.
func (l *Lab) Segment(network string) *Segment {
	l.t.Helper()
	p, err := netip.ParsePrefix(network)
	l.must("make a segment", err)
	return l.segment([]netip.Prefix{p})
}

// segment is that of any of the networks, and of all of them from now on.
func (l *Lab) segment(networks []netip.Prefix) *Segment {
	l.t.Helper()
	var s *Segment
	for _, p := range networks {
		if known := l.segments[p.Masked()]; known != nil {
			s = known
		}
	}
	if s == nil {
		bridge, err := l.wire.addBridge(fmt.Sprintf("segment%d", len(l.segments)+1), 0)
		l.must("make a segment", err)
		s = &Segment{lab: l, bridge: bridge}
	}
	for _, p := range networks {
		l.segments[p.Masked()] = s
	}
	return s
}

// Cut ends all traffic on the segment. Its hosts keep their carrier.
func (s *Segment) Cut() {
	for _, p := range s.ports {
		p.cut()
	}
}

// Heal ends every Cut, of the segment and of single hosts.
func (s *Segment) Heal() {
	for _, p := range s.ports {
		p.heal()
	}
}

// connect lays a cable from the segment to a new interface called nic.
func (s *Segment) connect(to *namespace, nic string) port {
	s.lab.t.Helper()
	p := port{segment: s, name: fmt.Sprintf("port%d", s.lab.counter.Add(1))}
	s.lab.must("connect a host", s.lab.wire.plug(p.name, s.bridge, 0, to, nic))
	s.ports = append(s.ports, p)
	return p
}

// port is the segment's end of a cable.
type port struct {
	segment *Segment
	name    string
}

// cut takes the port off the segment, which the other end cannot see.
func (p port) cut() {
	p.segment.lab.t.Helper()
	p.segment.lab.must("cut a cable", p.segment.lab.wire.nl.LinkSetNoMaster(named(p.name)))
}

func (p port) heal() {
	p.segment.lab.t.Helper()
	p.segment.lab.must("heal a cable", p.segment.lab.wire.nl.LinkSetMasterByIndex(named(p.name), p.segment.bridge))
}
