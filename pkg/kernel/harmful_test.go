package kernel_test

import (
	"net/netip"
	"strings"
	"testing"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

// TestHarmfulRoutes has routes to what must not be led away: those of ours and of
// an older flannel's tunnel go, also where nothing else is removed, and nobody
// else's does. Nor do others of ours.
func TestHarmfulRoutes(t *testing.T) {
	eachMachine(t, func(t *testing.T, l tongue, m machine) {
		prefix := func(s string) netip.Prefix { return netip.MustParsePrefix(l.hand(s)) }
		addr := func(s string) netip.Addr { return netip.MustParseAddr(l.hand(s)) }
		script := `
				ip link add flannel.1 mtu 1450 address 0a:39:13:5c:8e:15 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
				ip link set flannel.1 up
				ip link add wg0 type bridge
				ip link set wg0 up
				ip neigh add 10.4.8.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
				bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
				ip route add 10.4.8.0/24 via 10.4.8.0 dev flannel.1 onlink proto 77
				ip route add 10.4.8.128/25 via 10.4.8.128 dev flannel.1 onlink proto boot
				ip route add 10.4.8.0/26 via 10.4.8.0 dev wg0 onlink proto boot
				ip route add 10.4.8.0/27 via 10.4.7.99 dev ens33 proto boot
				ip route add 10.4.9.0/24 via 10.4.7.23 dev ens33 proto 77`
		if l.family == inet.IPv6 { // which refuses a gateway that is led elsewhere
			script = strings.Replace(l.hand(script), "via fd01:10:4:8::128 ", "via fd01:10:4:8:8000:: ", 1)
			script = strings.Replace(script, "via fd01:10:4:8:: dev wg0", "via fe80::9 dev wg0", 1)
		}
		m.sh(t, script)
		s := kernel.NewSyncer(m)
		harmful := func(p netip.Prefix) bool { return p.Overlaps(prefix("10.4.8.0/24")) }
		result := onePass(t, s, kernel.State{Partial: true, Harmful: harmful})
		if len(result.Ops) != 2 || len(result.Conflicts) != 0 {
			t.Errorf("it did\n%s", texts(result.Ops))
		}
		left := map[string]bool{}
		routes, err := m.Routes()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			left[r.Dst.String()] = true
		}
		for dst, want := range map[string]bool{
			"10.4.8.0/24": false, "10.4.8.128/25": false, "10.4.8.0/26": true, "10.4.8.0/27": true, "10.4.9.0/24": true,
		} {
			if left[l.hand(dst)] != want {
				t.Errorf("a route to %s is there: %t", dst, left[dst])
			}
		}
		if again := onePass(t, s, kernel.State{Partial: true, Harmful: harmful}); len(again.Ops) > 0 {
			t.Errorf("another pass found something to do: %s", texts(again.Ops))
		}
		// What the route led to is known as ours still, and goes with the next whole pass.
		want := l.state(tunnel())
		want.Harmful = harmful
		onePass(t, s, want)
		entries, err := m.Entries(named(t, m, l.hand("flannel.1")))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range entries.Neighbours {
			if n.Addr == addr("10.4.8.0") {
				t.Errorf("the neighbour stays: %+v", n)
			}
		}
		for _, f := range entries.FDB {
			if f.Dst == addr("10.4.7.22") {
				t.Errorf("the forwarding entry stays: %+v", f)
			}
		}
	})
}

func named(t *testing.T, m machine, name string) kernel.Link {
	t.Helper()
	links, err := m.Links()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Name == name {
			return l
		}
	}
	t.Fatalf("no %s", name)
	return kernel.Link{}
}
