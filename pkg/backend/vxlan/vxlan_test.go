package vxlan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/backend"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
)

const ownData = `{"VtepMAC":"0a:39:13:5c:8e:15"}`

// host is 10.4.7.21 with the lease of an earlier run.
func host() backend.Host {
	ip := netip.MustParseAddr("10.4.7.21")
	nic := kernel.Link{Name: "ens33", Index: 2, MTU: 1500, Up: true, Addrs: []kernel.Addr{{Prefix: netip.MustParsePrefix("10.4.7.21/24")}}}
	return backend.Host{
		Link: nic, Local: ip, PublicIP: ip, Links: []kernel.Link{nic},
		Lease: subnet.Attrs{PublicIP: ip, BackendType: Type, BackendData: ownData},
	}
}

func config(options string) subnet.Config {
	return subnet.Config{Backend: json.RawMessage(options)}
}

func mode(t testing.TB, options string, h backend.Host) backend.Backend {
	t.Helper()
	b, err := New(config(options), h)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func lease(n int, backendType, data string) subnet.Lease {
	return subnet.Lease{
		Subnet: netip.MustParsePrefix(fmt.Sprintf("172.7.%d.0/24", n)),
		Attrs:  subnet.Attrs{PublicIP: netip.MustParseAddr(fmt.Sprintf("10.4.7.%d", n)), BackendType: backendType, BackendData: data},
	}
}

func vtep(n int) subnet.Lease {
	return lease(n, Type, fmt.Sprintf(`{"VtepMAC":"0a:39:13:5c:8e:%02x"}`, n))
}

// render is a state as commands, in its own order.
func render(s kernel.State) string {
	var lines []string
	add := func(o kernel.Object) { lines = append(lines, kernel.Op{Action: kernel.Add, Object: o}.String()) }
	for _, d := range s.Devices {
		add(d)
		add(kernel.Address{Dev: d.Name, Prefix: d.Addrs.Of(inet.IPv4).Prefix})
	}
	for _, f := range s.FDB {
		add(f)
	}
	for _, n := range s.Neighbours {
		add(n)
	}
	for _, r := range s.Routes {
		add(r)
	}
	return strings.Join(lines, "\n")
}

func compare(t *testing.T, got, want string) {
	t.Helper()
	want = strings.ReplaceAll(strings.TrimSpace(want), "\t", "")
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("wanted (-), got (+):\n%s", diff)
	}
}

const ownDevice = `
	ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning
	ip addr add 172.7.21.0/32 dev flannel.1`

func TestDesired(t *testing.T) {
	const far = `
		bridge fdb add 0a:39:13:5c:8e:20 dev flannel.1 dst 10.4.7.32 self permanent
		ip neigh add 172.7.32.0 lladdr 0a:39:13:5c:8e:20 dev flannel.1 nud permanent
		ip route add 172.7.32.0/24 via 172.7.32.0 dev flannel.1 onlink proto 77`
	const near = `
		bridge fdb add 0a:39:13:5c:8e:16 dev flannel.1 dst 10.4.7.22 self permanent
		ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent
		ip route add 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77`
	const plain = `
		ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77`
	for _, c := range []struct {
		name    string
		options string
		peers   []subnet.Lease
		want    string // beside the device
	}{
		{"no peers", `{}`, nil, ``},
		{"a VTEP on the link", `{}`, []subnet.Lease{vtep(22)}, near},
		{"a VTEP behind a router", `{}`, []subnet.Lease{vtep(32)}, far},
		{"as later releases write it", `{}`, []subnet.Lease{lease(22, Type, `{"VNI":1,"VtepMAC":"0a:39:13:5c:8e:16"}`)}, near},
		{"in capitals", `{}`, []subnet.Lease{lease(22, Type, `{"vtepmac":"0A:39:13:5C:8E:16"}`)}, near},
		{"host-gw on the link", `{}`, []subnet.Lease{lease(22, "host-gw", ``)}, plain},
		{"host-gw, of a host that still has a VTEP", `{}`, []subnet.Lease{lease(22, "host-gw", vtep(22).BackendData)}, near},
		{"host-gw behind a router", `{}`, []subnet.Lease{lease(32, "host-gw", ``)}, ``},

		{"direct: VTEP on the link", `{"DirectRouting":true}`, []subnet.Lease{vtep(22)}, plain},
		{"direct: VTEP behind a router", `{"DirectRouting":true}`, []subnet.Lease{vtep(32)}, far},
		{"direct: the tutorial's spelling", `{"Directrouting":true}`, []subnet.Lease{vtep(22)}, plain},
		{"direct: host-gw on the link", `{"DirectRouting":true}`, []subnet.Lease{lease(22, "host-gw", ``)}, plain},
		{"direct: host-gw behind a router", `{"DirectRouting":true}`, []subnet.Lease{lease(32, "host-gw", ``)}, ``},

		{"no MAC", `{}`, []subnet.Lease{lease(32, Type, `{}`)}, ``},
		{"no data", `{}`, []subnet.Lease{lease(32, Type, ``)}, ``},
		{"data that is no object", `{}`, []subnet.Lease{lease(32, Type, `[1]`)}, ``},
		{"a MAC that is a number", `{}`, []subnet.Lease{lease(32, Type, `{"VtepMAC":5}`)}, ``},
		{"a MAC that is none", `{}`, []subnet.Lease{lease(32, Type, `{"VtepMAC":"0a:39:13:5c:8e"}`)}, ``},
		{"a MAC of eight bytes", `{}`, []subnet.Lease{lease(32, Type, `{"VtepMAC":"0a:39:13:5c:8e:16:17:18"}`)}, ``},
		{"a multicast MAC", `{}`, []subnet.Lease{lease(32, Type, `{"VtepMAC":"01:39:13:5c:8e:16"}`)}, ``},
		{"the broadcast MAC", `{}`, []subnet.Lease{lease(32, Type, `{"VtepMAC":"ff:ff:ff:ff:ff:ff"}`)}, ``},
		{"the zero MAC", `{}`, []subnet.Lease{lease(32, Type, `{"VtepMAC":"00:00:00:00:00:00"}`)}, ``},
		{"no MAC, on the link", `{}`, []subnet.Lease{lease(22, Type, `{}`)}, ``},
		{"our MAC", `{}`, []subnet.Lease{lease(32, Type, ownData)}, ``},
		{"our MAC, direct and on the link", `{"DirectRouting":true}`, []subnet.Lease{lease(22, Type, ownData)}, plain},
		{"one MAC twice", `{}`, []subnet.Lease{vtep(22), lease(32, Type, vtep(22).BackendData)}, near},
		{"one MAC twice, one of them direct", `{"DirectRouting":true}`, []subnet.Lease{lease(22, Type, vtep(32).BackendData), vtep(32)}, `
			bridge fdb add 0a:39:13:5c:8e:20 dev flannel.1 dst 10.4.7.32 self permanent
			ip neigh add 172.7.32.0 lladdr 0a:39:13:5c:8e:20 dev flannel.1 nud permanent
			ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			ip route add 172.7.32.0/24 via 172.7.32.0 dev flannel.1 onlink proto 77`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, paths := mode(t, c.options, host()).Desired(lease(21, Type, ownData), c.peers, backend.Around{OnLink: onLink})
			compare(t, render(s), ownDevice+c.want)
			checkPaths(t, s, c.peers, paths)
			for _, r := range s.Routes {
				if !slices.ContainsFunc(c.peers, func(p subnet.Lease) bool { return p.Subnet == r.Dst && p.PublicIP == r.Peer }) {
					t.Errorf("route %v is for %v, who does not hold that subnet", r, r.Peer)
				}
			}
		})
	}
}

func TestDevicesHaveNoNeedOfPeers(t *testing.T) {
	s, _ := mode(t, `{}`, host()).Desired(lease(21, Type, ownData), nil, backend.Around{})
	compare(t, render(s), ownDevice)
}

func TestLeaseSaysExactlyWhatFlannelsDoes(t *testing.T) {
	b := mode(t, `{}`, host())
	want := `{"PublicIP":"10.4.7.21","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:39:13:5c:8e:15"}}`
	if got := b.Attrs().Marshal(); got != want {
		t.Errorf("lease: %s\nwant:  %s", got, want)
	}
	if back, err := subnet.ParseAttrs(want); err != nil || back != b.Attrs() {
		t.Errorf("read back: %+v, %v", back, err)
	}
}

func TestMACIsKept(t *testing.T) {
	present := mode(t, `{}`, host()).(*vxlan).device
	link := kernel.Link{Name: "flannel.1", Type: "vxlan", MAC: kernel.MAC{0x0a, 1, 1, 1, 1, 1}, Kind: present.Kind}
	other := present.Kind.(kernel.VXLAN)
	other.Port = 4789
	for _, c := range []struct {
		name string
		edit func(*backend.Host)
		want string // "": a new one
	}{
		{"the lease's", func(*backend.Host) {}, "0a:39:13:5c:8e:15"},
		{"the device's first", func(h *backend.Host) { h.Links = append(h.Links, link) }, "0a:01:01:01:01:01"},
		{"a device's for another port, which is made anew", func(h *backend.Host) {
			l := link
			l.Kind = other
			h.Links = append(h.Links, l)
		}, "0a:01:01:01:01:01"},
		{"a device's on another interface, from another address", func(h *backend.Host) {
			l := link
			l.Kind = kernel.VXLAN{VNI: 1, Port: 8472, Parent: "ens34", Local: netip.MustParseAddr("10.4.8.21")}
			h.Lease, h.Links = subnet.Attrs{}, append(h.Links, l)
		}, "0a:01:01:01:01:01"},
		{"our device's for another VNI", func(h *backend.Host) {
			l := link
			l.Kind, l.Alias = kernel.VXLAN{VNI: 7}, kernel.Alias
			h.Links = append(h.Links, l)
		}, "0a:01:01:01:01:01"},
		{"not a stranger's for another VNI", func(h *backend.Host) {
			l := link
			l.Kind = kernel.VXLAN{VNI: 7}
			h.Links = append(h.Links, l)
		}, "0a:39:13:5c:8e:15"},
		{"not one that another host's lease has", func(h *backend.Host) {
			h.Lease, h.Links = subnet.Attrs{}, append(h.Links, link)
			h.Others = func(m kernel.MAC) bool { return m == link.MAC }
		}, ""},
		{"one that a lease of ours has, whoever has it too", func(h *backend.Host) {
			h.Lease.BackendData, h.Links = leaseData(link.MAC), append(h.Links, link)
			h.Others = func(m kernel.MAC) bool { return m == link.MAC }
		}, "0a:01:01:01:01:01"},
		{"not another device's", func(h *backend.Host) {
			l := link
			l.Name = "flannel.2"
			h.Links = append(h.Links, l)
		}, "0a:39:13:5c:8e:15"},
		{"not one that no host can have", func(h *backend.Host) {
			l := link
			l.MAC = kernel.MAC{}
			h.Links = append(h.Links, l)
		}, "0a:39:13:5c:8e:15"},
		{"no lease", func(h *backend.Host) { h.Lease = subnet.Attrs{} }, ""},
		{"a host-gw lease", func(h *backend.Host) { h.Lease = subnet.Attrs{BackendType: "host-gw"} }, ""},
		{"a lease with garbage", func(h *backend.Host) { h.Lease.BackendData = `{"VtepMAC":"x"}` }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host()
			c.edit(&h)
			got := mode(t, `{}`, h).(*vxlan).device.MAC
			switch {
			case c.want != "" && got.String() != c.want:
				t.Errorf("%v, want %s", got, c.want)
			case c.want == "" && (!got.Unicast() || got[0]&2 == 0):
				t.Errorf("new MAC %v is not a locally administered one of a host", got)
			case c.want == "" && got == mode(t, `{}`, h).(*vxlan).device.MAC:
				t.Error("two new MACs are the same")
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		options string
		mtu     int // of containers
		want    string
	}{
		{`{}`, 1450, `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning`},
		{`{"Type":"VxLAN"}`, 1450, `ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning`},
		{`{"vni":0,"PORT":0,"gbp":true}`, 1450,
			`ip link add flannel.0 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 0 local 10.4.7.21 dev ens33 dstport 8472 nolearning gbp`},
		{`{"VNI":16777215,"Port":65535,"Learning":true,"MTU":1400}`, 1350,
			`ip link add flannel16777215 address 0a:39:13:5c:8e:15 mtu 1350 type vxlan id 16777215 local 10.4.7.21 dev ens33 dstport 65535`},
		{`{"VNI":9999999,"MTU":626}`, 576,
			`ip link add flannel.9999999 address 0a:39:13:5c:8e:15 mtu 576 type vxlan id 9999999 local 10.4.7.21 dev ens33 dstport 8472 nolearning`},
		{`{"VNI":10000000,"MTU":1500}`, 1450,
			`ip link add flannel10000000 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 10000000 local 10.4.7.21 dev ens33 dstport 8472 nolearning`},
		{`{"MacPrefix":"0E-2A","Unknown":1}`, 1450,
			`ip link add flannel.1 address 0a:39:13:5c:8e:15 mtu 1450 type vxlan id 1 local 10.4.7.21 dev ens33 dstport 8472 nolearning`},
	} {
		b := mode(t, c.options, host()).(*vxlan)
		if got := (kernel.Op{Action: kernel.Add, Object: b.device}).String(); got != c.want || b.MTU() != c.mtu {
			t.Errorf("%s: MTU %d, device\n%s\nwant %d,\n%s", c.options, b.MTU(), got, c.mtu, c.want)
		}
		if len(b.device.Name) > 15 {
			t.Errorf("Linux takes no name as long as %s", b.device.Name)
		}
		if b.device.NoChecksumOffload {
			t.Error("checksums by the CPU without being asked for")
		}
	}
	if !mode(t, `{"DisableTxChecksum":true}`, host()).(*vxlan).device.NoChecksumOffload {
		t.Error("DisableTxChecksum is not heeded")
	}
}

func TestWrongOptions(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{`{"VNI":-1}`, `Backend.VNI "-1" is not a VXLAN network identifier: it must be from 0 to 16777215`},
		{`{"VNI":16777216}`, `Backend.VNI "16777216" is not a VXLAN network identifier: it must be from 0 to 16777215`},
		{`{"VNI":"1"}`, `Backend.VNI must be a JSON whole number, not a string`},
		{`{"Port":-1}`, `Backend.Port "-1" is not a UDP port: it must be from 0 to 65535, where 0 means 8472`},
		{`{"Port":65536}`, `Backend.Port "65536" is not a UDP port: it must be from 0 to 65535, where 0 means 8472`},
		{`{"MTU":625}`, `Backend.MTU "625" must be from 626 to 1500, the MTU of ens33`},
		{`{"MTU":-5}`, `Backend.MTU "-5" must be from 626 to 1500, the MTU of ens33`},
		{`{"MTU":1501}`, `Backend.MTU "1501" must be from 626 to 1500, the MTU of ens33`},
		{`{"GBP":"yes"}`, `Backend.GBP must be a JSON true or false, not a string`},
		{`{"DirectRouting":1}`, `Backend.DirectRouting must be a JSON true or false, not a number`},
		{`{"Learning":"on"}`, `Backend.Learning must be a JSON true or false, not a string`},
		{`{"DisableTxChecksum":"on"}`, `Backend.DisableTxChecksum must be a JSON true or false, not a string`},
	} {
		_, err := New(config(c.options), host())
		if err == nil || err.Error() != c.want {
			t.Errorf("%s\ngot  %v\nwant %s", c.options, err, c.want)
		}
		if _, isField := err.(*subnet.FieldError); !isField {
			t.Errorf("%s: %T does not name the field", c.options, err)
		}
	}
	narrow := host()
	narrow.Link.MTU = 600
	_, err := New(config(`{"MTU":600}`), narrow)
	if want := "interface ens33 has an MTU of 600, and vxlan needs 626 at least"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// FuzzLeaseData: whatever another host's lease holds, it makes no entry that
// leads nowhere, and no two that contradict each other.
func FuzzLeaseData(f *testing.F) {
	for _, seed := range []string{
		ownData, vtep(22).BackendData, `{"VNI":1,"VtepMAC":"0A-39-13-5C-8E-16"}`, `{"VtepMAC":""}`, `null`, `[]`, `"x"`, `{"VtepMAC":"ff:ff:ff:ff:ff:ff"}`, `{`, ``,
	} {
		f.Add(seed, seed)
	}
	b := mode(f, `{"DirectRouting":true}`, host())
	f.Fuzz(func(t *testing.T, one, two string) {
		peers := []subnet.Lease{lease(22, Type, one), lease(23, Type, two)}
		s, _ := b.Desired(lease(21, Type, ownData), peers, backend.Around{OnLink: func(netip.Addr) backend.Answer { return backend.No }})
		if len(s.FDB) != len(s.Neighbours) || len(s.FDB) != len(s.Routes) {
			t.Fatalf("not one of each: %s", render(s))
		}
		seen := []kernel.MAC{b.(*vxlan).device.MAC}
		for i, f := range s.FDB {
			if !f.MAC.Unicast() || slices.Contains(seen, f.MAC) || s.Neighbours[i].MAC != f.MAC || s.Routes[i].Via != s.Neighbours[i].Addr {
				t.Fatalf("wrong: %s", render(s))
			}
			if back, err := kernel.ParseMAC(f.MAC.String()); err != nil || back != f.MAC {
				t.Fatalf("%v reads as %v, %v", f.MAC, back, err)
			}
			seen = append(seen, f.MAC)
		}
	})
}

func BenchmarkDesired(b *testing.B) {
	for _, n := range []int{250, 1000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := mode(b, `{}`, host())
			peers := make([]subnet.Lease, n)
			for i := range peers {
				peers[i] = lease(22, Type, leaseData(kernel.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}))
				peers[i].Subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
			}
			b.ReportAllocs()
			for b.Loop() {
				if s, _ := m.Desired(lease(21, Type, ownData), peers, backend.Around{}); len(s.Routes) != n {
					b.Fatalf("%d routes", len(s.Routes))
				}
			}
		})
	}
}

// A host that moves to another subnet has two leases for a day; both are its.
func TestTwoLeasesOfOneHost(t *testing.T) {
	var peers []subnet.Lease
	for _, p := range []string{"172.7.21.0/24", "172.7.150.0/24"} {
		peers = append(peers, subnet.Lease{Subnet: netip.MustParsePrefix(p), Attrs: subnet.Attrs{
			PublicIP: netip.MustParseAddr("10.4.7.21"), BackendType: Type, BackendData: `{"VtepMAC":"0a:00:00:00:00:21"}`,
		}})
	}
	b, err := New(subnet.Config{}, backend.Host{
		Link:  kernel.Link{Name: "ens33", MTU: 1500},
		Local: netip.MustParseAddr("10.4.7.22"), PublicIP: netip.MustParseAddr("10.4.7.22"),
	})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := b.Desired(subnet.Lease{Subnet: netip.MustParsePrefix("172.7.22.0/24")}, peers, backend.Around{OnLink: func(netip.Addr) backend.Answer { return backend.Yes }})
	if len(s.Routes) != 2 || len(s.Neighbours) != 2 || len(s.FDB) != 1 {
		t.Errorf("%+v", s)
	}
}
