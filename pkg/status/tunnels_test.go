package status

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

const wgKey = "8dPfT0MPHsJiQmmtW+8iMAiseyi44Tv4ByAGnT9m2XM="

func TestPrintTunnels(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	base := func(backend string, d *Device, peers ...Peer) Status {
		return Status{Time: now, Daemon: &Daemon{Version: "0.3.0", PID: 8, Started: now.Add(-time.Minute), Ready: true},
			Network: &Network{prefix("172.7.0.0/16"), 24, backend, ""}, Device: d, Etcd: Etcd{Member: "http://b:1", Current: true}, Peers: peers}
	}
	peer := func(n string, mode, dev string, s *Session) Peer {
		p := Peer{Subnet: prefix("172.7." + n + ".0/24"), PublicIP: addr("10.4.7." + n), Mode: mode, Dev: dev, Since: now.Add(-time.Hour), Session: s}
		if mode != External {
			p.Kernel = InPlace
		}
		return p
	}
	wg := base("wireguard", &Device{Name: "flannel-wg", Kind: WireGuard, Port: 51820, MTU: 1420, PublicKey: wgKey},
		peer("22", Tunnel, "flannel-wg", &Session{Handshake: now.Add(-70 * time.Second), Sent: 1023, Received: 5 << 20}),
		peer("23", Tunnel, "flannel-wg", &Session{}), peer("24", Direct, "ens33", nil))
	for i := range wg.Peers {
		wg.Peers[i].Backend = "wireguard"
	}
	user := base("wireguard", &Device{Name: "flannel-wg", Kind: WireGuard, UserSpace: true, Port: 51820, MTU: 1420, PublicKey: wgKey})
	udp := base("udp", &Device{Name: "flannel0", Kind: UDP, UserSpace: true, Port: 8285, MTU: 1472},
		peer("22", Tunnel, "flannel0", nil), peer("23", NoWay, "", nil))
	udp.Peers[1].Kernel = ""
	alloc := base("alloc", nil, peer("22", External, "", nil))
	for name, tt := range map[string]struct {
		s    Status
		want string
	}{
		"wireguard": {wg, `
flanneld  0.3.0, pid 8, up 1m0s, ready
network   172.7.0.0/16 in subnets of /24, backend wireguard
device    flannel-wg, wireguard, the kernel's, UDP port 51820, MTU 1420, public key 8dPfT0MPHsJiQmmtW+8iMAiseyi44Tv4ByAGnT9m2XM=
etcd      http://b:1, current

PEER           PUBLIC IP  BACKEND    REACHED                KERNEL    SINCE  HANDSHAKE  SENT    RECEIVED
172.7.22.0/24  10.4.7.22  wireguard  tunnel, by flannel-wg  in place  1h0m   1m10s ago  1023 B  5.0 MiB
172.7.23.0/24  10.4.7.23  wireguard  tunnel, by flannel-wg  in place  1h0m   none yet   0 B     0 B
172.7.24.0/24  10.4.7.24  wireguard  direct, by ens33       in place  1h0m   -          -       -
`},
		"in user space": {user, `
flanneld  0.3.0, pid 8, up 1m0s, ready
network   172.7.0.0/16 in subnets of /24, backend wireguard
device    flannel-wg, wireguard in user space, by flanneld itself, UDP port 51820, MTU 1420, public key 8dPfT0MPHsJiQmmtW+8iMAiseyi44Tv4ByAGnT9m2XM=
etcd      http://b:1, current

no other host has a lease
`},
		"udp": {udp, `
flanneld  0.3.0, pid 8, up 1m0s, ready
network   172.7.0.0/16 in subnets of /24, backend udp
device    flannel0, udp by flanneld itself, UDP port 8285, MTU 1472
etcd      http://b:1, current

PEER           PUBLIC IP  BACKEND  REACHED              KERNEL    SINCE
172.7.22.0/24  10.4.7.22  udp      tunnel, by flannel0  in place  1h0m
172.7.23.0/24  10.4.7.23  udp      no way               -         1h0m
`},
		"alloc": {alloc, `
flanneld  0.3.0, pid 8, up 1m0s, ready
network   172.7.0.0/16 in subnets of /24, backend alloc
etcd      http://b:1, current

PEER           PUBLIC IP  BACKEND  REACHED                    KERNEL  SINCE
172.7.22.0/24  10.4.7.22  alloc    external, not by flanneld  -       1h0m
`},
	} {
		if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), text(t, tt.s, false)); diff != "" {
			t.Errorf("%s, -want +got:\n%s", name, diff)
		}
	}
	if strings.Contains(text(t, alloc, true), red) {
		t.Error("an external peer is red")
	}
}

// TestStateOfPeers judges a way by its route and by the entry of the device's own table.
func TestStateOfPeers(t *testing.T) {
	key, err := wgdevice.ParseKey(wgKey)
	if err != nil {
		t.Fatal(err)
	}
	far, whole, at := netip.MustParsePrefix("172.7.22.0/24"), netip.MustParsePrefix("172.7.0.0/16"), netip.MustParseAddrPort("10.4.7.22:51820")
	route := func(dst netip.Prefix, dev string) kernel.FoundRoute {
		return kernel.FoundRoute{Route: kernel.Route{Dst: dst, Dev: dev}, Protocol: kernel.Protocol}
	}
	entry := func(change func(*kernel.FoundPeer)) []kernel.FoundPeer {
		p := kernel.FoundPeer{Peer: kernel.Peer{Dev: "flannel-wg", Peer: wgdevice.Peer{Key: key, Endpoint: at, Allowed: wgdevice.PrefixesOf(far)}},
			Session: kernel.Session{Handshake: now, Sent: 3, Received: 4}}
		if change != nil {
			change(&p)
		}
		return []kernel.FoundPeer{p}
	}
	one, all := []kernel.FoundRoute{route(far, "flannel-wg")}, []kernel.FoundRoute{route(whole, "flannel-wg")}
	for _, tt := range []struct {
		route  netip.Prefix // of the peer
		routes []kernel.FoundRoute
		peers  []kernel.FoundPeer
		want   string
	}{
		{netip.Prefix{}, one, entry(nil), InPlace},
		{whole, all, entry(nil), InPlace},
		{whole, one, entry(nil), InPlace},
		{netip.Prefix{}, all, entry(nil), "no route"},
		{whole, nil, entry(nil), "no route"},
		{whole, []kernel.FoundRoute{route(whole, "ens33")}, entry(nil), "another route: 172.7.0.0/16 dev ens33 proto 77"},
		{whole, append(all[:1:1], route(far, "ens33")), entry(nil), "another route: 172.7.22.0/24 dev ens33 proto 77"},
		{whole, all, nil, "flannel-wg has no peer for 172.7.22.0/24"},
		{whole, all, entry(func(p *kernel.FoundPeer) { p.Dev = "flannel-wg-v6" }), "flannel-wg has no peer for 172.7.22.0/24"},
		{whole, all, entry(func(p *kernel.FoundPeer) { p.Allowed = wgdevice.PrefixesOf(whole) }), "flannel-wg has no peer for 172.7.22.0/24"},
		{whole, all, entry(func(p *kernel.FoundPeer) { p.Key[0]++ }), "flannel-wg sends to another public key: 8tPfT0"},
		{whole, all, entry(func(p *kernel.FoundPeer) { p.Endpoint = netip.MustParseAddrPort("10.4.7.22:5") }), "flannel-wg sends to 10.4.7.22:5, and not to 10.4.7.22:51820"},
		{whole, all, entry(func(p *kernel.FoundPeer) { p.More = true }), "flannel-wg takes from that peer more than its subnets"},
		{whole, all, entry(func(p *kernel.FoundPeer) { p.Key = wgdevice.Key{} }), InPlace}, // udp
	} {
		p := Peer{Subnet: far, Mode: Tunnel, Dev: "flannel-wg", Endpoint: at, PublicKey: wgKey, Route: tt.route}
		k := NewKernel(tt.routes, kernel.Entries{Peers: tt.peers})
		if got := k.State(p); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	k := NewKernel(all, kernel.Entries{Peers: entry(nil)})
	if s := k.Session(Peer{Subnet: far, Dev: "flannel-wg"}); s == nil || *s != (Session{now, 3, 4}) {
		t.Error(s)
	}
	if s := k.Session(Peer{Subnet: whole, Dev: "flannel-wg"}); s != nil {
		t.Error(s)
	}
}

func TestPublicKeyOf(t *testing.T) {
	for data, want := range map[string]string{
		`{"PublicKey":"` + wgKey + `","Port":51820}`: wgKey, `{"publickey":"` + wgKey + `"}`: wgKey, `{"PublicKey":"x"}`: "", "": "", "Key": "",
		`{"VNI":1,"VtepMAC":"0a:39:13:5c:8e:41"}`:                      "",
		`{"PublicKey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`: "",
	} {
		if got := PublicKeyOf(data); got != want {
			t.Errorf("%s: %q", data, got)
		}
	}
	if p := NewPeer(subnet.Lease{Subnet: netip.MustParsePrefix("172.7.22.0/24"), Attrs: subnet.Attrs{BackendData: `{"PublicKey":"` + wgKey + `"}`}}); p.PublicKey != wgKey {
		t.Errorf("%+v", p)
	}
}
