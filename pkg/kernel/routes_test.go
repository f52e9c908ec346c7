package kernel_test

import (
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

func TestPlainRoutes(t *testing.T) {
	play(t,
		step{
			want: plain(22, 23),
			ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`,
		},
		step{restart: true, want: plain(22, 23)},
		step{
			want:  plain(22),
			ops:   `ip route del 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`,
			shows: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`,
		},
		step{
			want: with(plain(22), func(s *kernel.State) { s.Routes[0].Via = ipOf(122) }),
			ops:  `ip route replace 172.7.22.0/24 via 10.4.7.122 dev ens33 proto 77 (was 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77)`,
		},
	)
}

// A former flannel's routes, of protocol boot, are taken over in whichever mode
// it was, and whichever host had the subnet then.
func TestRoutesOfAFormerFlannel(t *testing.T) {
	t.Run("to a host that is gone", func(t *testing.T) {
		play(t, step{
			hand:  `ip route add 172.7.22.0/24 via 10.4.7.99 dev ens33`,
			want:  plain(22),
			ops:   `ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 (was 172.7.22.0/24 via 10.4.7.99 dev ens33 proto 3)`,
			shows: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`,
		})
	})
	t.Run("the same way", func(t *testing.T) {
		play(t, step{
			hand:  `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33`,
			want:  plain(22),
			ops:   `ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 (was 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 3)`,
			shows: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`,
		})
	})
	t.Run("host-gw, where a tunnel is wanted", func(t *testing.T) {
		play(t, step{
			hand: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33`,
			want: tunnel(22),
			ops: newDevice + `
				bridge fdb replace 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
				ip neigh replace 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				ip route replace 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77 (was 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 3)`,
		})
	})
	t.Run("vxlan, where plain routes are wanted", func(t *testing.T) {
		play(t, step{
			hand: formerDevice + `
				ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink
				ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink`,
			want: plain(22),
			ops:  `ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 (was 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 3)`,
			shows: `ip addr add 172.7.21.0/32 dev flannel.1
				ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning up
				ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.23.0/24 via 172.7.23.0 dev flannel.1 onlink proto 3`,
		})
	})
}

func TestEditedRouteIsPutRight(t *testing.T) {
	for name, edit := range map[string]string{
		"gateway":   `ip route replace 172.7.22.0/24 via 10.4.7.99 dev ens33`,
		"protocol":  `ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto static`,
		"attribute": `ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 mtu 1300`,
		"type":      `ip route replace blackhole 172.7.22.0/24`,
	} {
		was := map[string]string{
			"gateway":   `172.7.22.0/24 via 10.4.7.99 dev ens33 proto 3`,
			"protocol":  `172.7.22.0/24 via 10.4.7.22 dev ens33 proto 4`,
			"attribute": `172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77, not a plain one`,
			"type":      `172.7.22.0/24 proto 3, not a plain one`,
		}[name]
		t.Run(name, func(t *testing.T) {
			play(t,
				step{want: plain(22), ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`},
				step{
					hand: edit, want: plain(22),
					ops:   `repair: ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 (was ` + was + `)`,
					shows: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`,
				},
				step{
					hand: `ip route del 172.7.22.0/24`, want: plain(22),
					ops: `repair: ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`,
				},
			)
		})
	}
}

// An administrator's route that is there before ours stays. Once it goes, ours
// comes.
func TestAdministratorsRoutesStay(t *testing.T) {
	for name, r := range map[string]struct{ add, found, del string }{
		"static": {
			`ip route add 172.7.22.0/24 via 10.4.7.99 dev ens33 proto static`, `172.7.22.0/24 via 10.4.7.99 dev ens33 proto 4`,
			`ip route del 172.7.22.0/24`,
		},
		"static, the same way": {
			`ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto static`, `172.7.22.0/24 via 10.4.7.22 dev ens33 proto 4`,
			`ip route del 172.7.22.0/24`,
		},
		"boot, by the default gateway": {
			`ip route add 0.0.0.0/0 via 10.4.7.254 dev ens33
			ip route add 172.7.22.0/24 via 10.4.7.254 dev ens33`, `172.7.22.0/24 via 10.4.7.254 dev ens33 proto 3`,
			`ip route del 172.7.22.0/24`,
		},
		"boot, with an MTU of its own": {
			`ip route add 172.7.22.0/24 via 10.4.7.99 dev ens33 mtu 1400`,
			`172.7.22.0/24 via 10.4.7.99 dev ens33 proto 3`, `ip route del 172.7.22.0/24`,
		},
		"blackhole": {
			`ip route add blackhole 172.7.22.0/24`, `172.7.22.0/24 proto 3`,
			`ip route del 172.7.22.0/24`,
		},
		"connected network": {
			`ip link add docker0 type bridge
			ip addr add 172.7.22.1/24 dev docker0
			ip link set docker0 up`, `172.7.22.0/24 dev docker0 proto 2`,
			`ip link del docker0`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t,
				step{hand: r.add, want: plain(22, 23), conflicts: r.found, ops: `ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`},
				step{restart: true, want: plain(22, 23), conflicts: r.found},
				step{hand: r.del, want: plain(22, 23), ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`},
				step{hand: `ip route del 172.7.22.0/24`, want: plain(22, 23), ops: `repair: ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`},
			)
		})
	}
}

// The command in a conflict's text does what it says.
func TestConflictTellsTheWayOut(t *testing.T) {
	for _, hand := range []string{
		`ip route add 172.7.22.0/24 via 10.4.7.99 dev ens33 proto static`,
		`ip route add 172.7.22.0/24 via 172.7.22.9 dev ens33 onlink`,
		`ip route add blackhole 172.7.22.0/24`,
		`ip route add 172.7.22.0/24 dev ens33 scope link`,
	} {
		t.Run(hand, func(t *testing.T) {
			eachFamily(t, func(t *testing.T, l tongue, m machine) {
				m.sh(t, hand)
				s := kernel.NewSyncer(m)
				result, err := s.Apply(l.state(plain(22)))
				if err != nil || len(result.Conflicts) != 1 {
					t.Fatalf("%d conflicts, error: %v", len(result.Conflicts), err)
				}
				text := result.Conflicts[0].String()
				_, command, found := strings.Cut(text, l.hand("was written by somebody else and stays: to leave 172.7.22.0/24 to flanneld, type: "))
				if !found {
					t.Fatal(text)
				}
				m.sh(t, command)
				if result, err := s.Apply(l.state(plain(22))); err != nil || len(result.Conflicts) > 0 || len(result.Ops) != 1 {
					t.Errorf("after %s: conflicts %v, error: %v", command, result.Conflicts, err)
				}
			})
		})
	}
}

// A network that this host gets connected to is no edit of our route.
func TestConnectedNetworkInPlaceOfOurRoute(t *testing.T) {
	play(t,
		step{want: plain(22), ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`},
		step{
			hand: `ip route del 172.7.22.0/24
				ip link add docker0 type bridge
				ip addr add 172.7.22.1/24 dev docker0
				ip link set docker0 up`,
			want: plain(22), conflicts: `172.7.22.0/24 dev docker0 proto 2`,
		},
	)
}

// Routes of other destinations, other metrics, and in front of ours stay. Those that
// take packets of a peer's are told.
func TestRoutesBesideOursStay(t *testing.T) {
	steps := []step{
		{
			hand: `ip route add 172.7.22.0/24 via 10.4.7.99 dev ens33 metric 100
				ip route add 172.7.22.128/25 via 10.4.7.98 dev ens33
				ip route add 172.7.0.0/16 via 10.4.7.97 dev ens33 proto static
				ip route add 192.168.5.0/24 via 10.4.7.96 dev ens33`,
			want:      plain(22),
			ops:       `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`,
			conflicts: `in part: 172.7.22.128/25 via 10.4.7.98 dev ens33 proto 3`,
		},
		{
			hand: `ip route prepend 172.7.22.0/24 via 10.4.7.95 dev ens33`,
			want: plain(22),
			conflicts: `172.7.22.0/24 via 10.4.7.95 dev ens33 proto 3
				in part: 172.7.22.128/25 via 10.4.7.98 dev ens33 proto 3`,
		},
		{
			want: kernel.State{},
			ops:  `ip route del 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`,
			shows: `ip route add 172.7.0.0/16 via 10.4.7.97 dev ens33 proto 4
				ip route add 172.7.22.0/24 via 10.4.7.95 dev ens33 proto 3
				ip route add 172.7.22.0/24 via 10.4.7.99 dev ens33 proto 3 metric 100
				ip route add 172.7.22.128/25 via 10.4.7.98 dev ens33 proto 3
				ip route add 192.168.5.0/24 via 10.4.7.96 dev ens33 proto 3`,
		},
	}
	play4(t, steps...)
	playIn(t, tongues()[1:], 1000, steps[0]) // what would be in front is one more hop of ours
}

// Whatever bears our protocol number is ours, however it got there.
func TestStaleRoutesOfOurs(t *testing.T) {
	const several = `
				ip route append 172.7.24.0/24 via 10.4.7.99 dev ens33 proto 77
				ip route append 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`
	for _, l := range tongues() {
		several, one := several, `
				ip route del 172.7.24.0/24 via 10.4.7.99 dev ens33 proto 77`
		if l.family == inet.IPv6 { // which makes one route of them
			several, one = `
				ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`, ``
		}
		playIn(t, []tongue{l}, 1000, step{
			hand: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 metric 100
				ip route add 172.7.23.0/24 via 10.4.7.99 dev ens33 proto 77` + several + `
				ip route add 172.7.96.0/24 via 10.4.7.96 dev ens33 proto 77
				ip route add 172.7.97.0/24 dev ens33 proto 77
				ip route add blackhole 172.7.98.0/24 proto 77`,
			want: plain(22, 23, 24),
			ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
				ip route replace 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77 (was 172.7.23.0/24 via 10.4.7.99 dev ens33 proto 77)
				ip route del 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 metric 100` + one + `
				ip route del 172.7.96.0/24 via 10.4.7.96 dev ens33 proto 77
				ip route del 172.7.97.0/24 dev ens33 proto 77
				ip route del 172.7.98.0/24 proto 77`,
			shows: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
				ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77
				ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`,
		})
	}
}

func TestPartialStateRemovesNothing(t *testing.T) {
	play(t,
		step{want: plain(22, 23), ops: `ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`},
		step{restart: true, want: partial(plain(24)), ops: `ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`},
		step{hand: `ip route del 172.7.24.0/24`, want: partial(plain(24)), ops: `repair: ip route add 172.7.24.0/24 via 10.4.7.24 dev ens33 proto 77`},
		step{
			want: plain(24),
			ops: `ip route del 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
				ip route del 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77`,
		},
	)
}

// A route with several next hops has none that our own form could name.
func TestMultipathRouteOfOurs(t *testing.T) {
	m := linux(t)
	m.sh(t, `ip route add 172.7.22.0/24 proto 77 nexthop via 10.4.7.2 nexthop via 10.4.7.3
		ip route add 172.7.23.0/24 proto 77 nexthop via 10.4.7.2 nexthop via 10.4.7.3
		ip route add 172.7.22.0/24 via 10.4.7.9 tos 4`)
	s := kernel.NewSyncer(m)
	result, err := s.Apply(plain(22))
	if err != nil || len(result.Conflicts) > 0 {
		t.Error(err, result.Conflicts)
	}
	compare(t, "ops", texts(result.Ops), `
		ip route replace 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77 (was 172.7.22.0/24 proto 77, not a plain one)
		ip route del 172.7.23.0/24 proto 77`)
	compare(t, "routes", output(t, "ip route show"), `
		10.4.7.0/24 dev ens33 proto kernel scope link src 10.4.7.21
		172.7.22.0/24 tos 0x04 via 10.4.7.9 dev ens33
		172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`)
}
