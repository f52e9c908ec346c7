package kernel_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

// TestStraysBesideOurs: the kernel may take the delete of a route for that of
// another. Whatever stands there, one pass leaves our route alone and no other.
func TestStraysBesideOurs(t *testing.T) {
	for _, c := range []struct {
		name, hand string
		restart    bool // the daemon finds it, instead of having written its route before
	}{
		{"a blackhole", `ip route append blackhole 172.7.22.0/24 proto 77`, false},
		{"several next hops", `ip route append 172.7.22.0/24 proto 77 nexthop via 10.4.7.23 nexthop via 10.4.7.24`, false},
		{"twice several next hops", `ip route append 172.7.22.0/24 proto 77 nexthop via 10.4.7.23 nexthop via 10.4.7.24
			ip route append 172.7.22.0/24 proto 77 nexthop via 10.4.7.25 nexthop via 10.4.7.26`, false},
		{"other metrics", `ip route append 172.7.22.0/24 via 10.4.7.22 mtu 1000 proto 77`, false},
		{"no gateway", `ip route append 172.7.22.0/24 dev ens33 proto 77`, false},
		{"a gateway of IPv6", `ip route append 172.7.22.0/24 via inet6 fe80::99 dev ens33 proto 77`, false},
		{"another gateway", `ip route append 172.7.22.0/24 via 10.4.7.99 proto 77`, false},
		{"another metric", `ip route append 172.7.22.0/24 via 10.4.7.22 proto 77 metric 100`, false},
		{"a next hop object", `ip nexthop add id 5 via 10.4.7.99 dev ens33
			ip route append 172.7.22.0/24 nhid 5 proto 77`, false},
		{"another gateway and several next hops, and not ours", `ip route append 172.7.22.0/24 via 10.4.7.99 proto 77
			ip route append 172.7.22.0/24 proto 77 nexthop via 10.4.7.23 nexthop via 10.4.7.24`, true},
		{"a next hop object where nothing is wanted", `ip nexthop add id 5 via 10.4.7.99 dev ens33
			ip route add 172.7.96.0/24 nhid 5 proto 77`, false},
	} {
		for _, from := range []int{1000, 0} {
			t.Run(fmt.Sprint(c.name, from), func(t *testing.T) {
				eachFamily(t, func(t *testing.T, l tongue, m machine) {
					if l.family == inet.IPv6 && (strings.Contains(c.hand, "via inet6") || c.name == "other metrics") {
						return // IPv6 has no such
					}
					s := kernel.NewSyncerFrom(m, from)
					want := l.state(plain(22))
					if !c.restart {
						onePass(t, s, want)
					}
					m.sh(t, c.hand)
					onePass(t, s, want)
					now := asPlain(lines(kerneltest.Render(m)))
					if want := lines(l.shows("ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77")); !slices.Equal(ours(now), want) {
						t.Errorf("after a pass there is\n%s", strings.Join(now, "\n"))
					}
					if again := onePass(t, s, want); len(again.Ops) > 0 {
						t.Errorf("another pass found something to do: %s", texts(again.Ops))
					}
				})
			})
		}
	}
}

// ours are the routes with our mark.
func ours(state []string) []string {
	return slices.DeleteFunc(slices.Clone(state), func(line string) bool {
		return !strings.HasPrefix(line, "ip route") || !strings.Contains(line, "proto 77")
	})
}

func onePass(t *testing.T, s *kernel.Syncer, want kernel.State) kernel.Result {
	t.Helper()
	r, err := s.Apply(want)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
