package hostgw_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/backend"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

func host(addr string) backend.Host {
	ip := netip.MustParseAddr("10.4.7.21")
	return backend.Host{
		Link:  kernel.Link{Name: "ens33", MTU: 1500, Up: true, Addrs: []kernel.Addr{{Prefix: netip.MustParsePrefix(addr)}}},
		Local: ip, PublicIP: ip,
	}
}

func lease(n int, backendType, data string) subnet.Lease {
	return subnet.Lease{
		Subnet: netip.MustParsePrefix(fmt.Sprintf("172.7.%d.0/24", n)),
		Attrs:  subnet.Attrs{PublicIP: netip.MustParseAddr(fmt.Sprintf("10.4.7.%d", n)), BackendType: backendType, BackendData: data},
	}
}

func TestHostGW(t *testing.T) {
	b, err := hostgw.New(subnet.Config{}, host("10.4.7.21/24"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := b.Attrs().Marshal(), `{"PublicIP":"10.4.7.21","BackendType":"host-gw"}`; got != want {
		t.Errorf("lease: %s\nwant:  %s", got, want)
	}
	if b.MTU() != 1500 {
		t.Errorf("MTU %d", b.MTU())
	}
	peers := []subnet.Lease{
		lease(22, "host-gw", ""),
		lease(23, "vxlan", `{"VtepMAC":"0a:39:13:5c:8e:17"}`), // gone over already, and still takes plain packets
		lease(24, "host-gw", ""),                              // behind a router
		lease(25, "udp", ""),
	}
	s, paths := b.Desired(lease(21, "host-gw", ""), peers, backend.Around{OnLink: func(ip netip.Addr) backend.Answer {
		if ip == peers[2].PublicIP {
			return backend.No
		}
		return backend.Yes
	}})
	for i, p := range paths {
		reached := i != 2
		if (p.Mode == backend.Direct) != reached || reached && s.Routes[p.Route].Dst != peers[i].Subnet || (p.Reason == backend.NotOnLink) == reached {
			t.Errorf("path to %v: %+v", peers[i].Subnet, p)
		}
	}
	var routes []string
	for _, r := range s.Routes {
		routes = append(routes, fmt.Sprintf("%v peer %v", r, r.Peer))
	}
	if diff := cmp.Diff([]string{
		"172.7.22.0/24 via 10.4.7.22 dev ens33 peer 10.4.7.22",
		"172.7.23.0/24 via 10.4.7.23 dev ens33 peer 10.4.7.23",
		"172.7.25.0/24 via 10.4.7.25 dev ens33 peer 10.4.7.25",
	}, routes); diff != "" {
		t.Errorf("routes: wanted (-), got (+):\n%s", diff)
	}
	if len(s.Devices)+len(s.Neighbours)+len(s.FDB) > 0 || s.Partial {
		t.Errorf("more than routes: %+v", s)
	}
	if s, _ := b.Desired(lease(21, "host-gw", ""), nil, backend.Around{}); len(s.Routes) > 0 {
		t.Errorf("routes without peers: %v", s.Routes)
	}
}

func TestPublicIPMustBeOnTheInterface(t *testing.T) {
	_, err := hostgw.New(subnet.Config{}, host("192.168.1.21/24"))
	want := "host-gw needs a public IP that is an address of the external interface, and 10.4.7.21 is none of ens33: " +
		"choose another with --public-ip or --iface, or use the vxlan backend"
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	h := host("192.168.1.21/24")
	h.Links = []kernel.Link{h.Link, {Name: "ens34", Addrs: []kernel.Addr{{Prefix: netip.MustParsePrefix("10.4.7.21/24")}}}}
	_, err = hostgw.New(subnet.Config{}, h)
	if want := strings.Replace(want, "none of ens33", "none of ens33, but of ens34", 1); err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

func BenchmarkDesired(b *testing.B) {
	for _, n := range []int{250, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h, err := hostgw.New(subnet.Config{}, host("10.4.7.21/24"))
			if err != nil {
				b.Fatal(err)
			}
			peers := make([]subnet.Lease, n)
			for i := range peers {
				peers[i] = lease(22, "host-gw", "")
				peers[i].Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
			}
			for b.Loop() {
				if s, _ := h.Desired(subnet.Lease{}, peers, backend.Around{OnLink: func(netip.Addr) backend.Answer { return backend.Yes }}); len(s.Routes) != n {
					b.Fatalf("%d routes", len(s.Routes))
				}
			}
		})
	}
}
