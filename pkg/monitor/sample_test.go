package monitor

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"flanneld/pkg/status"
)

var epoch = time.Unix(1_700_000_000, 0)

// nth is the subnet of the nth peer; odd ones are of IPv6.
func nth(n int) netip.Prefix {
	if n%2 == 1 {
		return netip.MustParsePrefix(fmt.Sprintf("fd00:7:0:%x::/64", n))
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)
}

func settledPeers(n int) map[netip.Prefix]Path {
	all := make(map[netip.Prefix]Path, n)
	for i := range n {
		all[nth(i)] = Path{Since: epoch}
	}
	return all
}

func sequence(all map[netip.Prefix]Path) Peers {
	return Peers{
		All: func(yield func(netip.Prefix, time.Time) bool) {
			for peer, p := range all {
				if !yield(peer, p.Since) {
					return
				}
			}
		},
		Of: func(peer netip.Prefix) (Path, bool) { p, has := all[peer]; return p, has },
	}
}

// TestEachPeerHasItsTurn: however many are wrong, the others are all looked at within as many
// rounds as they need, and the wrong ones come back all the time.
func TestEachPeerHasItsTurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 120).Draw(t, "peers")
		dead := rapid.IntRange(0, n).Draw(t, "dead")
		all, s := settledPeers(n), newSample()
		last, lost := map[netip.Prefix]int{}, map[netip.Prefix]bool{} // round; dead
		for i := range dead {
			lost[nth(i)] = true
		}
		now := epoch.Add(time.Minute)
		longest := (n+atOnce-againOnce-1)/(atOnce-againOnce) + knownWrong/againOnce + 2
		for round := range 3 * longest {
			now = now.Add(every)
			targets := s.next(now, sequence(all))
			if len(targets) != min(n, atOnce) {
				t.Fatalf("%d targets of %d peers", len(targets), n)
			}
			seen := map[netip.Prefix]bool{}
			for _, target := range targets {
				if seen[target.peer] {
					t.Fatalf("%v twice", target.peer)
				}
				seen[target.peer] = true
				last[target.peer] = round
				var look []answer
				for _, p := range target.packets(target.peer, target.path, 1450) {
					look = append(look, answer{packet: p, reached: !lost[target.peer]})
				}
				target.look(now, target.path, 1450, look)
			}
			s.bound()
			wrong := 0
			for _, r := range s.record {
				if r.suspect() {
					wrong++
				}
			}
			if len(s.record) > known || wrong > knownWrong {
				t.Fatalf("%d are remembered, %d of them wrong", len(s.record), wrong)
			}
			if round < longest {
				continue
			}
			for i := range n {
				peer := nth(i)
				r := s.record[peer]
				if r != nil && r.suspect() {
					if ago := round - last[peer]; ago > knownWrong/againOnce+1 {
						t.Fatalf("%v is wrong, and was looked at %d rounds ago", peer, ago)
					}
				}
				if ago := round - last[peer]; ago > longest {
					t.Fatalf("%v was looked at %d rounds ago, of %d peers of which %d are dead", peer, ago, n, dead)
				}
			}
		}
		silent := 0
		for _, p := range s.shown() {
			if p.State == status.Silent {
				silent++
			}
		}
		if want := min(dead, knownWrong); silent < want/2 {
			t.Fatalf("%d of %d dead peers are known as such", silent, dead)
		}
	})
}

func TestWhoIsNotLookedAt(t *testing.T) {
	all, s := settledPeers(20), newSample()
	now := epoch.Add(settled - time.Second)
	if targets := s.next(now, sequence(all)); len(targets) != 0 {
		t.Errorf("peers that have come just now are looked at: %v", targets)
	}
	now = epoch.Add(settled)
	for _, target := range s.next(now, sequence(all)) {
		target.look(now, target.path, 1450, []answer{{packet: packet{full: true}}})
	}
	gone := slices.Sorted(func(yield func(string) bool) {
		for peer := range s.record {
			if !yield(peer.String()) {
				return
			}
		}
	})
	if len(gone) != atOnce {
		t.Fatal(gone)
	}
	delete(all, netip.MustParsePrefix(gone[0]))
	moved := netip.MustParsePrefix(gone[1])
	all[moved] = Path{Since: now} // by another way
	s.next(now.Add(time.Second), sequence(all))
	if s.record[netip.MustParsePrefix(gone[0])] != nil || s.record[moved] != nil {
		t.Error("who is no peer any more, or is reached in another way, is remembered as before")
	}
	s.next(now.Add(time.Minute), sequence(nil))
	if len(s.record) != 0 {
		t.Errorf("of no peers %d are remembered", len(s.record))
	}
}

func BenchmarkNext(b *testing.B) {
	for _, n := range []int{1000, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			all, s := settledPeers(n), newSample()
			for b.Loop() {
				s.next(epoch.Add(time.Hour), sequence(all))
			}
		})
	}
}
