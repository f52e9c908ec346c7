package backend_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/backend"
	"flanneld/pkg/backend/alloc"
	"flanneld/pkg/backend/hostgw"
	"flanneld/pkg/backend/udp"
	"flanneld/pkg/backend/vxlan"
	"flanneld/pkg/backend/wireguard"
	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/subnet"
	"flanneld/pkg/wgdevice"
)

var all = map[string]backend.Factory{
	alloc.Type: alloc.New, hostgw.Type: hostgw.New, udp.Type: udp.New, vxlan.Type: vxlan.New, wireguard.Type: wireguard.New,
}

// private is the n-th host's key.
func private(n int) wgdevice.Secret { return wgdevice.Secret{0: 64, 1: byte(n), 31: 64} }

func public(n int) wgdevice.Key { return private(n).Public() }

// host is 10.4.7.21 and fd00:4::21, as a family sees it.
func host(f inet.Family, more ...kernel.Link) backend.Host {
	ip := map[inet.Family]string{inet.IPv4: "10.4.7.21", inet.IPv6: "fd00:4::21"}[f]
	nic := kernel.Link{Name: "ens33", Index: 2, MTU: 1500, Up: true, Addrs: []kernel.Addr{
		{Prefix: netip.MustParsePrefix("10.4.7.21/24")}, {Prefix: netip.MustParsePrefix("fd00:4::21/64")},
	}}
	return backend.Host{
		Link: nic, Local: netip.MustParseAddr(ip), PublicIP: netip.MustParseAddr(ip), Links: append(more, nic),
		PrivateKey: func() (wgdevice.Secret, error) { return private(21), nil },
	}
}

// lease is that of a host of either family: "22", or "fd00:4::22" and "10.4.7.22" where it is
// reached elsewhere than at its own number.
func lease(f inet.Family, n int, kind, data string, ips ...string) subnet.Lease {
	l := subnet.Lease{Key: fmt.Sprint(n), Created: uint64(n)}
	l.Subnet, l.PublicIP = netip.MustParsePrefix(fmt.Sprintf("172.7.%d.0/24", n)), netip.MustParseAddr(fmt.Sprintf("10.4.7.%d", n))
	if f == inet.IPv6 {
		l.Subnet, l.PublicIP = netip.MustParsePrefix(fmt.Sprintf("fc00:7:0:%d::/64", n)), netip.MustParseAddr(fmt.Sprintf("fd00:4::%d", n))
	}
	for i, ip := range ips {
		at := []*netip.Addr{&l.PublicIP, &l.IPv6.PublicIP}[i]
		*at = netip.MustParseAddr(ip)
	}
	l.BackendType, l.BackendData = kind, data
	return l
}

func keyOf(n int) string { return fmt.Sprintf(`{"PublicKey":%q,"Port":51820}`, public(n)) }

// onLink has addresses of 10.4.7.0/24 and fd00:4::/64 on the link; of .99 it does not know.
func onLink(ip netip.Addr) backend.Answer {
	switch {
	case ip == netip.MustParseAddr("10.4.7.99"):
		return backend.Unknown
	case netip.MustParsePrefix("10.4.7.0/24").Contains(ip), netip.MustParsePrefix("fd00:4::/64").Contains(ip):
		return backend.Yes
	}
	return backend.No
}

// render is a state as commands, and how each peer is reached.
func render(s kernel.State, paths []backend.Path, f inet.Family) string {
	var lines []string
	add := func(o kernel.Object) { lines = append(lines, kernel.Op{Action: kernel.Add, Object: o}.String()) }
	for _, d := range s.Devices {
		add(d)
		lines = append(lines, d.Kind.Change(d.Name))
		add(kernel.Address{Dev: d.Name, Prefix: d.Addrs.Of(f).Prefix})
	}
	for _, p := range s.Peers {
		line := kernel.Op{Action: kernel.Add, Object: p}.String()
		if !p.PSK.IsZero() {
			line += " psk"
		}
		lines = append(lines, line)
	}
	for _, r := range s.Routes {
		add(r)
	}
	for _, p := range paths {
		switch p.Mode {
		case backend.Tunnel:
			lines = append(lines, "tunnel: "+s.Routes[p.Route].String())
		case backend.Direct:
			lines = append(lines, "direct: "+s.Routes[p.Route].String())
		case backend.External:
			lines = append(lines, "external")
		default:
			lines = append(lines, "none: "+p.Reason.String())
		}
	}
	for i, n := range []int{21, 22, 23} {
		text := strings.Join(lines, "\n")
		lines = strings.Split(strings.ReplaceAll(text, public(n).String(), fmt.Sprintf("KEY%d", 21+i)), "\n")
	}
	return strings.Join(lines, "\n")
}

func TestStates(t *testing.T) {
	const (
		device = `
			ip link add flannel-wg mtu 1420 type wireguard
			wg set flannel-wg listen-port 51820 private-key (secret)
			ip addr add 172.7.21.0/32 dev flannel-wg`
		tun = `
			ip tuntap add dev flannel0 mode tun
			flannel0: carry packets by udp from 10.4.7.21:8285
			ip addr add 172.7.21.0/32 dev flannel0`
		whole = `
			ip route add 172.7.0.0/16 dev flannel-wg proto 77`
	)
	four, six := inet.IPv4, inet.IPv6
	wide := kernel.Link{Name: "ppp0", Addrs: []kernel.Addr{{Prefix: netip.MustParsePrefix("2001:db8::1/64")}}}
	for _, c := range []struct {
		name    string
		options string
		family  inet.Family
		parts   bool // no route may lead to the whole network
		more    []kernel.Link
		peers   []subnet.Lease
		want    string
	}{
		{"a peer", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{lease(four, 22, "wireguard", keyOf(22))}, device + `
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24` + whole + `
			tunnel: 172.7.0.0/16 dev flannel-wg`},
		{"a route for each", `{"Type":"wireguard"}`, four, true, nil, []subnet.Lease{lease(four, 22, "wireguard", keyOf(22))}, device + `
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24
			ip route add 172.7.22.0/24 dev flannel-wg proto 77
			tunnel: 172.7.22.0/24 dev flannel-wg`},
		{"a peer that is reached within the network", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{lease(four, 22, "wireguard", keyOf(22), "172.7.99.9")}, device + `
			wg set flannel-wg peer KEY22 endpoint 172.7.99.9:51820 allowed-ips 172.7.22.0/24
			ip route add 172.7.22.0/24 dev flannel-wg proto 77
			tunnel: 172.7.22.0/24 dev flannel-wg`},
		{"options", `{"Type":"wireguard","ListenPort":1194,"PersistentKeepaliveInterval":25,"PSK":"` + wgdevice.Key{1}.String() + `","MTU":1400}`, four, false, nil, []subnet.Lease{
			lease(four, 22, "wireguard", fmt.Sprintf(`{"PublicKey":%q}`, public(22)))}, `
			ip link add flannel-wg mtu 1320 type wireguard
			wg set flannel-wg listen-port 1194 private-key (secret)
			ip addr add 172.7.21.0/32 dev flannel-wg
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:1194 allowed-ips 172.7.22.0/24 persistent-keepalive 25 psk` + whole + `
			tunnel: 172.7.0.0/16 dev flannel-wg`},
		{"a host that changes from vxlan has both ends", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{
			lease(four, 22, "vxlan", `{"VtepMAC":"0a:39:13:5c:8e:16","PublicKey":"`+public(22).String()+`","Port":51820}`)}, device + `
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24` + whole + `
			tunnel: 172.7.0.0/16 dev flannel-wg`},
		{"others of other types", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{
			lease(four, 22, "host-gw", ""), lease(four, 23, "vxlan", `{"VtepMAC":"0a:39:13:5c:8e:16"}`, "10.9.9.23"), lease(four, 99, "host-gw", "")}, device + whole + `
			ip route add 172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77
			direct: 172.7.22.0/24 via 10.4.7.22 dev ens33
			none: ` + backend.NoEndpoint.String() + `
			none: ` + backend.OnLinkUnknown.String()},
		{"no key", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{
			lease(four, 22, "wireguard", ""), lease(four, 23, "wireguard", `{"PublicKey":"AAAA"}`), lease(four, 24, "wireguard", `{"PublicKey":"`+wgdevice.Key{}.String()+`"}`)}, device + whole + strings.Repeat(`
			none: `+backend.BadEndpoint.String(), 3)},
		{"our own key, and another host's", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{
			lease(four, 22, "wireguard", keyOf(21)), lease(four, 23, "wireguard", keyOf(23)), lease(four, 24, "wireguard", keyOf(23))}, device + `
			wg set flannel-wg peer KEY23 endpoint 10.4.7.23:51820 allowed-ips 172.7.23.0/24` + whole + `
			none: ` + backend.DuplicateKey.String() + `
			tunnel: 172.7.0.0/16 dev flannel-wg
			none: ` + backend.DuplicateKey.String()},
		{"a host with two leases is where it went last", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{
			lease(four, 30, "wireguard", keyOf(22), "10.4.7.22"), lease(four, 31, "wireguard", keyOf(22), "10.4.7.22")}, device + `
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:51820 allowed-ips 172.7.31.0/24` + whole + `
			none: ` + backend.Moved.String() + `
			tunnel: 172.7.0.0/16 dev flannel-wg`},
		{"IPv6 has a device of its own", `{"Type":"wireguard"}`, six, false, nil, []subnet.Lease{lease(six, 22, "wireguard", fmt.Sprintf(`{"PublicKey":%q,"Port":51821}`, public(22)))}, `
			ip link add flannel-wg-v6 mtu 1420 type wireguard
			wg set flannel-wg-v6 listen-port 51821 private-key (secret)
			ip addr add fc00:7:0:21::/128 dev flannel-wg-v6 nodad
			wg set flannel-wg-v6 peer KEY22 endpoint [fd00:4::22]:51821 allowed-ips fc00:7:0:22::/64
			ip route add fc00:7::/48 dev flannel-wg-v6 proto 77
			tunnel: fc00:7::/48 dev flannel-wg-v6`},
		{"a peer that has one device for both families as yet", `{"Type":"wireguard"}`, six, false, nil, []subnet.Lease{lease(six, 22, "wireguard", keyOf(22))}, `
			ip link add flannel-wg-v6 mtu 1420 type wireguard
			wg set flannel-wg-v6 listen-port 51821 private-key (secret)
			ip addr add fc00:7:0:21::/128 dev flannel-wg-v6 nodad
			wg set flannel-wg-v6 peer KEY22 endpoint [fd00:4::22]:51821 allowed-ips fc00:7:0:22::/64
			ip route add fc00:7::/48 dev flannel-wg-v6 proto 77
			tunnel: fc00:7::/48 dev flannel-wg-v6`},
		{"the other family's port", `{"Type":"wireguard"}`, four, false, nil, []subnet.Lease{lease(four, 22, "wireguard", fmt.Sprintf(`{"PublicKey":%q,"Port":51821}`, public(22)))}, device + `
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24` + whole + `
			tunnel: 172.7.0.0/16 dev flannel-wg`},
		{"IPv6 in IPv4", `{"Type":"wireguard","Mode":"ipv4"}`, six, false, nil, []subnet.Lease{
			lease(six, 22, "wireguard", keyOf(22), "fd00:4::22", "10.4.7.22"), lease(six, 23, "wireguard", keyOf(23))}, `
			ip link add flannel-wg mtu 1420 type wireguard
			wg set flannel-wg listen-port 51820 private-key (secret)
			ip addr add fc00:7:0:21::/128 dev flannel-wg nodad
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:51820 allowed-ips fc00:7:0:22::/64
			ip route add fc00:7::/48 dev flannel-wg proto 77
			tunnel: fc00:7::/48 dev flannel-wg
			none: ` + backend.NoCommonFamily.String()},
		{"IPv4 in IPv6", `{"Type":"wireguard","Mode":"ipv6"}`, four, false, nil, []subnet.Lease{
			lease(four, 22, "wireguard", keyOf(22), "10.4.7.22", "fd00:4::22")}, device + `
			wg set flannel-wg peer KEY22 endpoint [fd00:4::22]:51820 allowed-ips 172.7.22.0/24` + whole + `
			tunnel: 172.7.0.0/16 dev flannel-wg`},
		{"auto: IPv4 where both are private", `{"Type":"wireguard","Mode":"auto"}`, four, false, nil, []subnet.Lease{
			lease(four, 22, "wireguard", keyOf(22), "10.4.7.22", "fd00:4::22")}, device + `
			wg set flannel-wg peer KEY22 endpoint 10.4.7.22:51820 allowed-ips 172.7.22.0/24` + whole + `
			tunnel: 172.7.0.0/16 dev flannel-wg`},
		{"auto: IPv6 where that is the internet's at both ends", `{"Type":"wireguard","Mode":"auto"}`, four, false, []kernel.Link{wide}, []subnet.Lease{
			lease(four, 22, "wireguard", keyOf(22), "10.4.7.22", "2001:db8::22"), lease(four, 23, "wireguard", keyOf(23), "203.0.113.23", "2001:db8::23")}, device + `
			wg set flannel-wg peer KEY22 endpoint [2001:db8::22]:51820 allowed-ips 172.7.22.0/24
			wg set flannel-wg peer KEY23 endpoint 203.0.113.23:51820 allowed-ips 172.7.23.0/24` + whole + `
			tunnel: 172.7.0.0/16 dev flannel-wg
			tunnel: 172.7.0.0/16 dev flannel-wg`},

		{"udp", ``, four, false, nil, []subnet.Lease{lease(four, 22, "", "")}, tun + `
			flannel0: add 172.7.22.0/24 to 10.4.7.22:8285
			ip route add 172.7.0.0/16 dev flannel0 proto 77
			tunnel: 172.7.0.0/16 dev flannel0`},
		{"udp, by its name", `{"Type":"UDP","Port":9000}`, four, true, nil, []subnet.Lease{lease(four, 22, "", "")}, `
			ip tuntap add dev flannel0 mode tun
			flannel0: carry packets by udp from 10.4.7.21:9000
			ip addr add 172.7.21.0/32 dev flannel0
			flannel0: add 172.7.22.0/24 to 10.4.7.22:9000
			ip route add 172.7.22.0/24 dev flannel0 proto 77
			tunnel: 172.7.22.0/24 dev flannel0`},
		{"udp, and hosts that change", ``, four, false, nil, []subnet.Lease{
			lease(four, 22, "vxlan", `{"VtepMAC":"0a:39:13:5c:8e:16","UDPPort":8286}`), lease(four, 23, "vxlan", `{"VtepMAC":"0a:39:13:5c:8e:16"}`)}, tun + `
			flannel0: add 172.7.22.0/24 to 10.4.7.22:8286
			ip route add 172.7.0.0/16 dev flannel0 proto 77
			ip route add 172.7.23.0/24 via 10.4.7.23 dev ens33 proto 77
			tunnel: 172.7.0.0/16 dev flannel0
			direct: 172.7.23.0/24 via 10.4.7.23 dev ens33`},

		{"alloc", `{"Type":"alloc"}`, four, false, nil, []subnet.Lease{lease(four, 22, "", "")}, `external`},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := build(t, c.options, c.family, c.more...)
			own := lease(c.family, 21, "", "")
			s, paths := b.Desired(own, c.peers, backend.Around{OnLink: onLink, Whole: !c.parts})
			want := strings.ReplaceAll(strings.TrimSpace(c.want), "\t", "")
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(render(s, paths, c.family), "\n")); diff != "" {
				t.Errorf("wanted (-), got (+):\n%s", diff)
			}
		})
	}
}

func configOf(t testing.TB, options string) subnet.Config {
	t.Helper()
	fields := map[string]any{"Network": "172.7.0.0/16", "EnableIPv6": true, "IPv6Network": "fc00:7::/48"}
	if options != "" {
		fields["Backend"] = json.RawMessage(options)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	c, err := subnet.ParseConfig(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func build(t testing.TB, options string, f inet.Family, more ...kernel.Link) backend.Backend {
	t.Helper()
	c, _ := configOf(t, options).For(f)
	make, err := backend.Find(all, c)
	if err != nil {
		t.Fatal(err)
	}
	b, err := make(c, host(f, more...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWhatLeasesSay holds the forms of flannel 0.28's, and what a lease says beside another backend.
func TestWhatLeasesSay(t *testing.T) {
	for _, c := range []struct {
		options       string
		family        inet.Family
		value, beside string
		mtu           int
	}{
		{`{"Type":"wireguard"}`, inet.IPv4, `{"PublicIP":"10.4.7.21","BackendType":"wireguard","BackendData":` + keyOf(21) + `}`, keyOf(21), 1420},
		{`{"Type":"wireguard","ListenPortV6":5}`, inet.IPv6, `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21","BackendType":"wireguard","BackendV6Data":{"PublicKey":"` + public(21).String() + `","Port":5}}`, `{"PublicKey":"` + public(21).String() + `","Port":5}`, 1420},
		{`{"Type":"wireguard","Mode":"auto"}`, inet.IPv6, `{"PublicIP":"0.0.0.0","PublicIPv6":"fd00:4::21","BackendType":"wireguard","BackendV6Data":` + keyOf(21) + `}`, keyOf(21), 1420},
		{``, inet.IPv4, `{"PublicIP":"10.4.7.21"}`, `{"UDPPort":8285}`, 1472},
		{`{"Type":"alloc"}`, inet.IPv4, `{"PublicIP":"10.4.7.21"}`, ``, 1500},
	} {
		b := build(t, c.options, c.family)
		if got := b.Attrs().Marshal(); got != c.value {
			t.Errorf("%s: the lease says %s, want %s", c.options, got, c.value)
		}
		if got := b.Endpoint(); got != c.beside {
			t.Errorf("%s: beside another it says %s, want %s", c.options, got, c.beside)
		}
		if b.MTU() != c.mtu {
			t.Errorf("%s: MTU %d, want %d", c.options, b.MTU(), c.mtu)
		}
	}
}

func TestMeets(t *testing.T) {
	both := `{"VtepMAC":"0a:39:13:5c:8e:16","PublicKey":"` + public(22).String() + `","Port":51820,"UDPPort":8285}`
	four := inet.IPv4
	with := map[string]subnet.Lease{
		"wireguard": lease(four, 22, "wireguard", keyOf(22)), "vxlan": lease(four, 22, "vxlan", `{"VtepMAC":"0a:39:13:5c:8e:16"}`),
		"udp": lease(four, 22, "", ""), "host-gw": lease(four, 22, "host-gw", ""), "all": lease(four, 22, "host-gw", both),
	}
	for kind, met := range map[string][]string{
		"wireguard": {"all", "wireguard"}, "vxlan": {"all", "vxlan"}, "udp": {"all", "udp"}, "host-gw": nil, "alloc": nil,
	} {
		b := build(t, `{"Type":"`+kind+`"}`, four)
		own := subnet.Lease{Attrs: b.Attrs()}
		var got []string
		for name, peer := range with {
			if b.Meets(&own, &peer) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, met) {
			t.Errorf("%s meets %v, want %v", kind, got, met)
		}
	}
	wg, all, silent := build(t, `{"Type":"wireguard"}`, four), with["all"], lease(four, 21, "vxlan", "")
	if wg.Meets(&silent, &all) {
		t.Error("wireguard meets a peer that does not know its key")
	}
}

func TestWrongOptions(t *testing.T) {
	secret := "c2VjcmV0IHRoYXQgbm9ib2R5IG1heSBzZWU="
	for _, c := range []struct {
		options string
		family  inet.Family
		want    string
	}{
		{`{"Type":"wireguard","ListenPort":65536}`, inet.IPv4, `Backend.ListenPort "65536" is not a UDP port: it must be from 0 to 65535, where 0 means 51820`},
		{`{"Type":"wireguard","ListenPortV6":-1}`, inet.IPv4, `Backend.ListenPortV6 "-1" is not a UDP port: it must be from 0 to 65535, where 0 means 51821`},
		{`{"Type":"wireguard","ListenPort":51821}`, inet.IPv4, `Backend.ListenPortV6 "51821" is also ListenPort, and each device needs its own`},
		{`{"Type":"wireguard","Mode":"both"}`, inet.IPv4, `Backend.Mode "both" is none of separate, auto, ipv4 and ipv6`},
		{`{"Type":"wireguard","PersistentKeepaliveInterval":-1}`, inet.IPv4, `Backend.PersistentKeepaliveInterval "-1" must be from 0 to 65535, in seconds, where 0 means never`},
		{`{"Type":"wireguard","MTU":1501}`, inet.IPv4, `Backend.MTU "1501" must be from 656 to 1500, the MTU of ens33`},
		{`{"Type":"wireguard","MTU":1300}`, inet.IPv6, `Backend.MTU "1300" must be from 1360 to 1500, the MTU of ens33`},
		{`{"Type":"wireguard","PSK":"` + secret + `"}`, inet.IPv4, `Backend.PSK "(secret)" is not a key: make one with wg genpsk`},
		{`{"Type":"udp","Port":65536}`, inet.IPv4, `Backend.Port "65536" is not a UDP port: it must be from 0 to 65535, where 0 means 8285`},
		{`{"Type":"udp"}`, inet.IPv6, `Backend.Type "udp" carries no IPv6: use vxlan, host-gw or wireguard, or disable IPv6`},
		{`{"Type":"ipip"}`, inet.IPv4, `Backend.Type "ipip" is not supported: the types are alloc, host-gw, udp, vxlan, wireguard; vxlan carries packets behind routers as ipip does, and host-gw does on one link`},
		{`{"Type":"ipsec"}`, inet.IPv4, `Backend.Type "ipsec" is not supported: the types are alloc, host-gw, udp, vxlan, wireguard; wireguard encrypts as ipsec does`},
		{`{"Type":"nothing"}`, inet.IPv4, `Backend.Type "nothing" is not supported: the types are alloc, host-gw, udp, vxlan, wireguard`},
	} {
		half, _ := configOf(t, c.options).For(c.family)
		make, err := backend.Find(all, half)
		if err == nil {
			_, err = make(half, host(c.family))
		}
		if field := (*subnet.FieldError)(nil); !errors.As(err, &field) || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.options, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestNarrowLinks(t *testing.T) {
	for kind, least := range map[string]int{"wireguard": 656, "udp": 604} {
		half, _ := configOf(t, `{"Type":"`+kind+`"}`).For(inet.IPv4)
		h := host(inet.IPv4)
		h.Link.MTU = least
		if _, err := all[kind](half, h); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		h.Link.MTU--
		want := fmt.Sprintf("interface ens33 has an MTU of %d, and %s needs %d at least", least-1, kind, least)
		if _, err := all[kind](half, h); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestKeyThatCannotBeRead(t *testing.T) {
	half, _ := configOf(t, `{"Type":"wireguard"}`).For(inet.IPv4)
	h, failure := host(inet.IPv4), errors.New("no")
	h.PrivateKey = func() (wgdevice.Secret, error) { return wgdevice.Secret{}, failure }
	if _, err := wireguard.New(half, h); !errors.Is(err, failure) {
		t.Error(err)
	}
}

func FuzzLeaseData(f *testing.F) {
	f.Add(keyOf(22))
	f.Add(`{"publickey":"` + public(22).String() + `"}`)
	f.Add(`{"PublicKey":"","Port":70000}`)
	f.Add(`{"UDPPort":8285}`)
	wg, u := build(f, `{"Type":"wireguard"}`, inet.IPv4), build(f, ``, inet.IPv4)
	own := subnet.Lease{Attrs: wg.Attrs()}
	f.Fuzz(func(t *testing.T, data string) {
		if !json.Valid([]byte(data)) {
			return
		}
		peer := lease(inet.IPv4, 22, "host-gw", data)
		var plain struct {
			PublicKey string
			Port      uint16
		}
		key := wgdevice.Key{}
		if json.Unmarshal([]byte(data), &plain) == nil {
			key, _ = wgdevice.ParseKey(plain.PublicKey)
		}
		if got := wg.Meets(&own, &peer); got != !key.IsZero() {
			t.Errorf("%s: met: %v, and its key is %v", data, got, key)
		}
		s, _ := u.Desired(own, []subnet.Lease{peer}, backend.Around{OnLink: onLink})
		if u.Meets(&own, &peer) != (len(s.Peers) == 1) {
			t.Errorf("%s: met, and no peer: %+v", data, s.Peers)
		}
	})
}

// TestPSKIsNoText: what is printed of a backend by mistake has not the PSK's text in it.
func TestPSKIsNoText(t *testing.T) {
	psk := wgdevice.Key{1, 2, 3}.String()
	c, err := subnet.ParseConfig(`{"Network":"172.7.0.0/16","Backend":{"Type":"wireguard","PSK":"` + psk + `"}}`)
	if err != nil {
		t.Fatal(err)
	}
	b, err := wireguard.New(c, host(inet.IPv4))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(fmt.Sprintf("%+v", b), psk) {
		t.Error("it shows the PSK")
	}
}
