package monitor

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"flanneld/pkg/status"
)

const (
	atOnce     = 8  // peers that a round looks at
	againOnce  = 4  // of them, those that something is wrong with, where there are others
	known      = 64 // peers that are remembered
	knownWrong = 48 // of them, those that something is wrong with

	// settled is how long a way to a peer must have stood: who has just come, or changes its
	// backend, is not ready on its side.
	settled = 15 * time.Second
)

// Peers are the paths to all peers, at one moment.
type Peers struct {
	All iter.Seq2[netip.Prefix, time.Time]    // since when each is reached as it is
	Of  func(netip.Prefix) (p Path, has bool) // has: there is such a peer, and a way to it
}

// sample is the peers that are looked at. The others come in the order of a hash that this
// process alone has, so that all have their turn, and no two hosts go through them in step.
type sample struct {
	seed   [2]uint64
	turn   uint64 // the rank of the last one
	record map[netip.Prefix]*record
}

func newSample() *sample {
	return &sample{seed: [2]uint64{rand.Uint64(), rand.Uint64()}, record: map[netip.Prefix]*record{}}
}

// target is a peer that a round looks at.
type target struct {
	peer netip.Prefix
	path Path
	*record
}

type candidate struct {
	peer netip.Prefix
	rank uint64
}

func (s *sample) rank(peer netip.Prefix) uint64 {
	a := peer.Addr().As16()
	high, low := bits.Mul64(binary.BigEndian.Uint64(a[:8])^s.seed[0], binary.BigEndian.Uint64(a[8:])^s.seed[1])
	return high ^ low
}

// next chooses the peers of a round, and forgets who is none any more.
func (s *sample) next(now time.Time, peers Peers) []target {
	var wrong []netip.Prefix
	for peer, r := range s.record {
		p, has := peers.Of(peer)
		switch {
		case !has || !p.Since.Equal(r.since): // by another way it may be otherwise
			delete(s.record, peer)
		case r.suspect():
			wrong = append(wrong, peer)
		}
	}
	var ahead, behind []candidate // in order, and no more than atOnce
	for peer, since := range peers.All {
		if now.Sub(since) < settled {
			continue
		}
		c := candidate{peer, s.rank(peer)}
		if c.rank > s.turn {
			ahead = s.insert(ahead, c)
		} else {
			behind = s.insert(behind, c)
		}
	}
	others := append(ahead, behind...)
	slices.SortFunc(wrong, func(a, b netip.Prefix) int {
		return cmp.Or(s.record[a].asked.Compare(s.record[b].asked), a.Compare(b))
	})
	chosen := wrong[:min(len(wrong), max(againOnce, atOnce-len(others)))]
	others = others[:min(len(others), atOnce-len(chosen))]
	for _, c := range others {
		chosen, s.turn = append(chosen, c.peer), c.rank
	}
	targets := make([]target, 0, len(chosen))
	for _, peer := range chosen {
		p, _ := peers.Of(peer)
		r := s.record[peer]
		if r == nil {
			r = &record{since: p.Since, state: status.Well}
			s.record[peer] = r
		}
		r.asked = now
		targets = append(targets, target{peer, p, r})
	}
	return targets
}

// insert keeps the first ones of a sorted list, without those that are looked at anyhow.
func (s *sample) insert(list []candidate, c candidate) []candidate {
	if len(list) == atOnce && c.rank >= list[atOnce-1].rank {
		return list
	}
	if r := s.record[c.peer]; r != nil && r.suspect() {
		return list
	}
	i, _ := slices.BinarySearchFunc(list, c, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	list = slices.Insert(list, i, c)
	return list[:min(len(list), atOnce)]
}

// bound forgets those beyond what is remembered: of the well ones who was looked at longest
// ago, and of the others who came last, so that what is known to be wrong stays so.
func (s *sample) bound() {
	if len(s.record) <= known && len(s.record) <= knownWrong {
		return
	}
	var well, wrong []netip.Prefix
	for peer, r := range s.record {
		if r.suspect() {
			wrong = append(wrong, peer)
		} else {
			well = append(well, peer)
		}
	}
	if n := len(wrong) - knownWrong; n > 0 {
		slices.SortFunc(wrong, func(a, b netip.Prefix) int {
			return cmp.Or(s.record[b].first.Compare(s.record[a].first), a.Compare(b))
		})
		for _, peer := range wrong[:n] {
			delete(s.record, peer)
		}
	}
	if n := len(s.record) - known; n > 0 {
		slices.SortFunc(well, func(a, b netip.Prefix) int {
			return cmp.Or(s.record[a].asked.Compare(s.record[b].asked), a.Compare(b))
		})
		for _, peer := range well[:n] {
			delete(s.record, peer)
		}
	}
}

// shown are all that are remembered, the worst first.
func (s *sample) shown() []status.Probe {
	out := make([]status.Probe, 0, len(s.record))
	for peer, r := range s.record {
		if r.n > 0 {
			out = append(out, r.shown(peer))
		}
	}
	slices.SortFunc(out, status.Worse)
	return out
}
