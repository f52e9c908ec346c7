package vxlan

import (
	"net/netip"
	"slices"
	"testing"

	"flanneld/pkg/backend"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

// onLink has 10.4.7.22 and 23 on the link, 32 and 33 behind a router; of 42 and
// 43 the kernel does not say.
func onLink(ip netip.Addr) backend.Answer {
	switch n := ip.As4()[3]; {
	case n < 30:
		return backend.Yes
	case n < 40:
		return backend.No
	}
	return backend.Unknown
}

// checkPaths compares paths with the state that they were made with.
func checkPaths(t *testing.T, s kernel.State, peers []subnet.Lease, paths []backend.Path) {
	t.Helper()
	if len(paths) != len(peers) {
		t.Fatalf("%d paths for %d peers", len(paths), len(peers))
	}
	reached := 0
	for i, p := range paths {
		if p.Mode == backend.None {
			if p.Reason.String() == "" {
				t.Errorf("none to %v: %+v", peers[i].Subnet, p)
			}
			continue
		}
		reached++
		r := s.Routes[p.Route]
		if r.Dst != peers[i].Subnet || p.Reason != 0 {
			t.Errorf("path to %v: %+v by %v", peers[i].Subnet, p, r)
		}
		hop := kernel.Neighbour{Dev: r.Dev, Addr: r.Via, MAC: p.MAC}
		if tunnel := p.Mode == backend.Tunnel; slices.Contains(s.Neighbours, hop) != tunnel || (r.Dev == "flannel.1") != tunnel {
			t.Errorf("path to %v: %+v by %v", peers[i].Subnet, p, r)
		}
	}
	if reached != len(s.Routes) {
		t.Errorf("%d peers are reached, by %d routes", reached, len(s.Routes))
	}
}

// Each peer without a path has the reason that is true.
func TestReasons(t *testing.T) {
	for _, c := range []struct {
		name, options string
		peers         []subnet.Lease
		want          backend.Path // of the last
	}{
		{"through the tunnel", `{}`, []subnet.Lease{vtep(22)}, backend.Path{Mode: backend.Tunnel}},
		{"direct", `{"DirectRouting":true}`, []subnet.Lease{vtep(22)}, backend.Path{Mode: backend.Direct}},
		{"no VTEP, on the link", `{}`, []subnet.Lease{lease(22, "host-gw", "")}, backend.Path{Mode: backend.Direct}},
		{"no VTEP, behind a router", `{}`, []subnet.Lease{lease(32, "host-gw", "")}, backend.Path{Reason: backend.NoEndpoint}},
		{"no data at all", `{}`, []subnet.Lease{lease(22, Type, "")}, backend.Path{Reason: backend.BadEndpoint}},
		{"an empty MAC", `{}`, []subnet.Lease{lease(22, Type, `{"VNI":1,"VtepMAC":""}`)}, backend.Path{Reason: backend.BadEndpoint}},
		{"nonsense for a MAC", `{}`, []subnet.Lease{lease(22, Type, `{"VtepMAC":"nonsense"}`)}, backend.Path{Reason: backend.BadEndpoint}},
		{"nonsense, with DirectRouting", `{"DirectRouting":true}`, []subnet.Lease{lease(22, Type, `{"VtepMAC":"nonsense"}`)}, backend.Path{Reason: backend.BadEndpoint}},
		{"nonsense, and the kernel does not say", `{"DirectRouting":true}`, []subnet.Lease{lease(42, Type, `{}`)}, backend.Path{Reason: backend.BadEndpoint}},
		{"a VNI that is no number", `{}`, []subnet.Lease{lease(22, Type, `{"VNI":"one","VtepMAC":"0a:39:13:5c:8e:16"}`)}, backend.Path{Reason: backend.BadEndpoint}},
		{"a VNI below all", `{}`, []subnet.Lease{lease(22, Type, `{"VNI":-1,"VtepMAC":"0a:39:13:5c:8e:16"}`)}, backend.Path{Reason: backend.BadEndpoint}},
		{"a VNI beyond 24 bits", `{"DirectRouting":true}`, []subnet.Lease{lease(22, Type, `{"VNI":16777216,"VtepMAC":"0a:39:13:5c:8e:16"}`)}, backend.Path{Reason: backend.BadEndpoint}},
		{"the largest VNI", `{}`, []subnet.Lease{lease(22, Type, `{"VNI":16777215,"VtepMAC":"0a:39:13:5c:8e:16"}`)}, backend.Path{Mode: backend.Tunnel}},
		{"no VNI", `{}`, []subnet.Lease{lease(22, Type, `{"VNI":null,"VtepMAC":"0a:39:13:5c:8e:16"}`)}, backend.Path{Mode: backend.Tunnel}},
		{"our MAC", `{}`, []subnet.Lease{lease(32, Type, ownData)}, backend.Path{Reason: backend.DuplicateMAC}},
		{"another's MAC", `{}`, []subnet.Lease{vtep(32), lease(33, Type, vtep(32).BackendData)}, backend.Path{Reason: backend.DuplicateMAC}},
		{"no answer", `{"DirectRouting":true}`, []subnet.Lease{vtep(42)}, backend.Path{Reason: backend.OnLinkUnknown}},
		{"no answer, and no need of one", `{}`, []subnet.Lease{vtep(42)}, backend.Path{Mode: backend.Tunnel}},
		{"no answer, no VTEP", `{}`, []subnet.Lease{lease(42, "host-gw", "")}, backend.Path{Reason: backend.OnLinkUnknown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, paths := mode(t, c.options, host()).Desired(lease(21, Type, ownData), c.peers, backend.Around{OnLink: onLink})
			checkPaths(t, s, c.peers, paths)
			if got := paths[len(paths)-1]; got.Mode != c.want.Mode || got.Reason != c.want.Reason {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}
