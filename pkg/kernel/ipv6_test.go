package kernel_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
)

var (
	of6     = tongues()[1]
	tunnel6 = func(peers ...int) kernel.State { return sixState(tunnel(peers...)) }
	plain6  = func(peers ...int) kernel.State { return sixState(plain(peers...)) }
)

// bothFamilies is a kernel that is looked at in both, with an address of each.
func bothFamilies(t *testing.T, kind string) machine {
	m := fakeOf(inet.IPv4)
	if kind == "linux" {
		m = linuxOf(t, inet.IPv6)
		conn, err := kernel.Open(inet.Families()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(conn.Close)
		m.Conn = conn
		m.sh(t, "ip addr add 10.4.7.21/24 dev ens33")
	} else {
		m.sh(t, "ip addr add fd00:4::21/64 dev ens33 nodad")
	}
	return m
}

// looking remembers what is looked at.
type looking struct {
	kernel.Conn
	at []inet.Family
}

func (l *looking) Look(families ...inet.Family) []inet.Family {
	l.at = l.Conn.Look(families...)
	return l.at
}

func in(s kernel.State, families ...inet.Family) kernel.State {
	s.Families = families
	return s
}

// A family that is left is swept and looked at no more, and what was left of it by an
// earlier run is swept at the start. Once it is wanted again, it is looked at again.
func TestFamiliesComeAndGo(t *testing.T) {
	only4, only6 := in(of172(tunnel(22)), inet.IPv4), in(tunnel6(22), inet.IPv6)
	only6.Networks = sixState(of172(kernel.State{})).Networks
	dual := only4.And(only6)
	only4.Networks, only6.Networks = dual.Networks, dual.Networks
	const left6 = `ip route del fc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1 onlink proto 77 metric 1024
		ip link del flannel-v6.1 (not wanted any more)`
	for _, kind := range []string{"fake", "linux"} {
		t.Run(kind, func(t *testing.T) {
			m := bothFamilies(t, kind)
			conn := &looking{Conn: m.Conn}
			s := kernel.NewSyncer(conn)
			for _, c := range []struct {
				name, hand string
				restart    bool
				want       kernel.State
				ops        string
				looks      []inet.Family
			}{
				{"one", "", false, only4, newDevice + newPeer22, only4.Families},
				{"what is not looked at stays", "ip route add fc00:7:0:24::/64 via fd00:4::24 proto 77", false, only4, "", only4.Families},
				{"but at a start it is", "", true, partial(only4), "", dual.Families},
				{"and goes", "", false, only4, "ip route del fc00:7:0:24::/64 via fd00:4::24 dev ens33 proto 77 metric 1024", only4.Families},
				{"both", "", false, dual, six(newDevice + newPeer22), dual.Families},
				{"a repair", "ip route del fc00:7:0:22::/64", false, dual, "repair: ip route add fc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1 onlink proto 77", dual.Families},
				{"one, partial", "", false, partial(only4), "", dual.Families},
				{"one again", "", false, only4, left6, only4.Families},
				{"both again", "", false, dual, six(newDevice + newPeer22), dual.Families},
				{"one after a restart", "", true, only4, left6, only4.Families},
				{"the other one", "", false, only6, six(newDevice+newPeer22) + `
					ip route del 172.7.22.0/24 via 172.7.22.0 dev flannel.1 onlink proto 77
					ip link del flannel.1 (not wanted any more)`, only6.Families},
				{"all that there are", "", false, in(dual), "ip link add", dual.Families},
			} {
				m.sh(t, c.hand)
				if c.restart {
					s = kernel.NewSyncer(conn)
				}
				ops := texts(onePass(t, s, c.want).Ops)
				if c.ops == "ip link add" {
					if !strings.HasPrefix(ops, c.ops) {
						t.Errorf("%s: %s", c.name, ops)
					}
				} else {
					compare(t, c.name, ops, sorted(c.ops))
				}
				if !slices.Equal(conn.at, c.looks) {
					t.Errorf("%s: looks at %v", c.name, conn.at)
				}
				links, err := conn.Links()
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range links {
					for _, a := range l.Addrs {
						if !slices.Contains(c.looks, inet.Of(a.Addr())) {
							t.Errorf("%s: there is %v on %s", c.name, a, l.Name)
						}
					}
				}
				compare(t, c.name+", next pass", texts(onePass(t, s, c.want).Ops), "")
			}
		})
	}
}

// The kernel refuses a route to a gateway on the link that is led elsewhere. So a change
// of backend, or an administrator's wide route, takes one more step.
func TestGatewaysThatAreLedElsewhere(t *testing.T) {
	const pave, unpave = `
		ip route add fc00:7:0:22::/128 dev flannel-v6.1 proto 77 (so that the gateway is on the link)`, `
		ip route del fc00:7:0:22::/128 dev flannel-v6.1 proto 77 metric 1024`
	peer := strings.Split(six(newPeer22), "ip route add")[0]
	toTunnel := `ip route replace fc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1 onlink proto 77 (was fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 metric 1024)`
	play6(t, 1000,
		step{want: plain6(22), ops: `ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77`},
		step{want: tunnel6(22), ops: six(newDevice) + "\n" + peer + pave + "\n" + toTunnel + unpave},
		step{want: plain6(22), ops: `ip route replace fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 (was fc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1 onlink proto 77 metric 1024)
			ip link del flannel-v6.1 (not wanted any more)`},
	)
	t.Run("by_next_hop_objects", func(t *testing.T) {
		m := linuxOf(t, inet.IPv6)
		s := kernel.NewSyncerFrom(m, 0)
		onePass(t, s, plain6(22, 23))
		onePass(t, s, tunnel6(22, 23))
		second := func(s kernel.State) kernel.State {
			s.Devices[0] = withKind(s.Devices[0], func(v *kernel.VXLAN) { v.VNI = 2 })
			s.Devices[0].Name = "flannel-v6.2"
			for i := range s.Routes {
				s.Routes[i].Dev, s.Neighbours[i].Dev, s.FDB[i].Dev = "flannel-v6.2", "flannel-v6.2", "flannel-v6.2"
			}
			return s
		}
		onePass(t, s, second(tunnel6(22, 23)))
		object := ownObject.FindStringSubmatch(lines(kerneltest.Render(m))[slices.IndexFunc(lines(kerneltest.Render(m)), ownObject.MatchString)])
		m.sh(t, "ip nexthop replace id "+object[1]+" via fd00:4::99 dev ens33")
		onePass(t, s, second(tunnel6(22, 23)))
		if now := kerneltest.Render(m); strings.Contains(now, "flannel-v6.1") || strings.Contains(now, "ens33 proto") || strings.Contains(now, "/128 dev flannel-v6.2 proto") {
			t.Error(now)
		}
		if again := onePass(t, s, second(tunnel6(22, 23))); len(again.Ops) > 0 {
			t.Errorf("another pass writes\n%s", texts(again.Ops))
		}
	})
	play6(t, 1000, step{
		hand: `ip route add fc00:7::/48 via fd00:4::1 dev ens33
			ip route add ::/0 via fd00:4::1 dev ens33`,
		want: tunnel6(22), ops: six(newDevice) + "\n" + peer + pave + `
			ip route add fc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1 onlink proto 77` + unpave,
		shows: of6.shows(withPeer22) + `
			ip route add fc00:7::/48 via fd00:4::1 dev ens33 proto 3 metric 1024
			ip route add ::/0 via fd00:4::1 dev ens33 proto 3 metric 1024`,
	})
}

// A route of a better metric takes the packets, whatever ours is; IPv4 has none.
func TestRoutesInFrontOfOurs(t *testing.T) {
	for name, r := range map[string]struct{ add, found, del string }{
		"by hand": {`ip route add fc00:7:0:22::/64 via fd00:4::99 dev ens33 metric 10`,
			`fc00:7:0:22::/64 via fd00:4::99 dev ens33 proto 3 metric 10`, `ip route del fc00:7:0:22::/64 metric 10`},
		"connected network": {`ip link add docker0 type bridge
			ip addr add fc00:7:0:22::1/64 dev docker0 nodad
			ip link set docker0 up`, `fc00:7:0:22::/64 dev docker0 proto 2 metric 256`, `ip link del docker0`},
	} {
		t.Run(name, func(t *testing.T) {
			const ours = `ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77`
			play6(t, 1000,
				step{hand: r.add, want: plain6(22), conflicts: r.found},
				step{hand: r.del, want: plain6(22), ops: ours},
				step{hand: r.add, want: plain6(22), conflicts: r.found, shows: ""},
				step{hand: r.del, want: plain6(22)},
			)
		})
	}
}

// What IPv6 makes one route of, with several next hops, is put right where ours came
// first, and left alone where another did.
func TestSeveralHops(t *testing.T) {
	for _, word := range []string{"append", "prepend"} {
		play6(t, 1000,
			step{want: plain6(22), ops: `ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77`},
			step{
				hand: `ip route ` + word + ` fc00:7:0:22::/64 via fd00:4::99 dev ens33`, want: plain6(22),
				ops:   `repair: ip route replace fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 (was fc00:7:0:22::/64 proto 77 metric 1024, not a plain one)`,
				shows: `ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 metric 1024`,
			},
		)
	}
	play6(t, 1000, step{
		hand: `ip route add fc00:7:0:22::/64 via fd00:4::98 dev ens33 proto static
			ip route append fc00:7:0:22::/64 via fd00:4::99 dev ens33 proto static`,
		want: plain6(22), conflicts: `fc00:7:0:22::/64 proto 4 metric 1024`,
	})
}

// A replacement hits what is like it, wherever that stands: somebody's route behind ours.
func TestReplacementHitsNoOther(t *testing.T) {
	play6(t, 1000,
		step{want: plain6(22), ops: `ip route add fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77`},
		step{
			restart: true,
			hand: `ip route del fc00:7:0:22::/64
				ip route add blackhole fc00:7:0:22::/64 proto 77
				ip route append fc00:7:0:22::/64 via fd00:4::99 dev ens33 proto static`,
			want: plain6(22), conflicts: `fc00:7:0:22::/64 via fd00:4::99 dev ens33 proto 4 metric 1024`,
			ops: `ip route del fc00:7:0:22::/64 proto 77 metric 1024`,
		},
	)
}

// A route that ends by itself, or has a preference, is not as ours.
func TestEditedRouteOfIPv6(t *testing.T) {
	for _, edit := range []string{"expires 1000", "pref high", "mtu 1300", "src fd00:4::21"} {
		t.Run(edit, func(t *testing.T) {
			m := linuxOf(t, inet.IPv6)
			s := kernel.NewSyncer(m)
			onePass(t, s, plain6(22))
			m.sh(t, "ip route replace fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 "+edit)
			compare(t, "ops", texts(onePass(t, s, plain6(22)).Ops), `repair: ip route replace fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 `+
				`(was fc00:7:0:22::/64 via fd00:4::22 dev ens33 proto 77 metric 1024, not a plain one)`)
			if now := output(t, "ip -6 route show proto 77"); now != "fc00:7:0:22::/64 via fd00:4::22 dev ens33 metric 1024 pref medium\n" {
				t.Error(now)
			}
		})
	}
}

// What the kernel gives by itself is nobody's: neither told nor touched. Nor is a route of
// one source, which stands beside ours.
func TestWhatIPv6GivesByItself(t *testing.T) {
	m := linuxOf(t, inet.IPv6)
	_ = m.run("ip route add fc00:7:0:22::/64 from fc00:7:0:21::/64 via fd00:4::99 dev ens33") // few kernels refuse
	s := kernel.NewSyncer(m)
	want := sixState(own(tunnel(22)))
	onePass(t, s, want)
	m.sh(t, "ip addr add fe80::7/64 dev flannel-v6.1 nodad")
	for _, s := range []*kernel.Syncer{s, kernel.NewSyncer(m)} {
		result := onePass(t, s, want)
		if len(result.Ops)+len(result.Foreign)+len(result.Conflicts) > 0 {
			t.Errorf("%s; foreign %v, conflicts %v", texts(result.Ops), result.Foreign, result.Conflicts)
		}
	}
	contains(t, output(t, "ip -6 addr show flannel-v6.1"), "inet6 fc00:7:0:21::/128 scope global nodad")
	contains(t, output(t, "ip -d link show flannel-v6.1"), "mtu 1430", "vxlan id 1 local fd00:4::21 dev ens33", "dstport 8472", "nolearning")
	contains(t, output(t, "ip -6 route show"), "fc00:7:0:22::/64 via fc00:7:0:22:: dev flannel-v6.1 proto 77 metric 1024 onlink pref medium")
	m.sh(t, `ip addr add 2001:db8::1/64 dev flannel-v6.1 nodad
		ip route add 2001:db8:5::/64 via 2001:db8::9 dev flannel-v6.1 proto ra
		ip route add ::/0 via fe80::9 dev flannel-v6.1`)
	found := onePass(t, s, want).Foreign
	if len(found) != 3 {
		t.Errorf("found %v", found)
	}
	for _, f := range found {
		if !strings.Contains(f.Describe(), ", but of ") {
			t.Errorf("%v has no author", f)
		}
		m.sh(t, f.Command())
	}
	if left := onePass(t, s, want).Foreign; len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Where IPv6 is switched off, or cannot be, the error says what to do, and that does it.
func TestWithoutIPv6(t *testing.T) {
	sysctl := func(m machine, err error) {
		t.Helper()
		_, command, _ := strings.Cut(err.Error(), "type: ")
		command, _, _ = strings.Cut(command, ";")
		m.sh(t, command)
	}
	m := linuxOf(t, inet.IPv6)
	s := kernel.NewSyncer(m)
	onePass(t, s, tunnel6(22))
	writeFile(t, "/proc/sys/net/ipv6/conf/flannel-v6.1/disable_ipv6", "1")
	_, err := s.Apply(tunnel6(22))
	const off = "permission denied: IPv6 is switched off there: to switch it on, type: sysctl -w " +
		"net.ipv6.conf.default.disable_ipv6=0 net/ipv6/conf/flannel-v6.1/disable_ipv6=0"
	if err == nil || !strings.Contains(err.Error(), off) {
		t.Fatal(err)
	}
	if !linkOf(t, m, "flannel-v6.1").NoIPv6 || linkOf(t, m, "ens33").NoIPv6 {
		t.Error("NoIPv6 is wrong")
	}
	sysctl(m, err)
	onePass(t, s, tunnel6(22))

	writeFile(t, "/proc/sys/net/ipv6/conf/ens33/disable_ipv6", "1")
	direct := plain6(23)
	direct.Routes[0].OnLink = true
	if _, err = kernel.NewSyncer(m).Apply(direct); err == nil || !strings.Contains(err.Error(), "net/ipv6/conf/ens33/disable_ipv6=0") {
		t.Error(err)
	}
	sysctl(m, err)
	m.sh(t, "ip addr add fd00:4::21/64 dev ens33 nodad")

	small := tunnel6(22)
	small.Devices[0].MTU = 1200
	_, _ = s.Apply(small)
	if _, err = s.Apply(small); err == nil || !strings.Contains(err.Error(), "IPv6 needs an MTU of 1280 bytes or more") {
		t.Error(err)
	}
	if !linkOf(t, m, "flannel-v6.1").NoIPv6 {
		t.Error("NoIPv6 is wrong")
	}
	onePass(t, s, tunnel6(22))
	if again := onePass(t, s, tunnel6(22)); len(again.Ops) > 0 {
		t.Error(texts(again.Ops))
	}
}

func TestAddressesOfIPv6(t *testing.T) {
	m := linuxOf(t, inet.IPv6)
	writeFile(t, "/proc/sys/net/ipv6/conf/ens33/dad_transmits", "1000")
	m.sh(t, `ip addr add 2001:db8::5/64 dev ens33 nodad preferred_lft 0 valid_lft 1000
		ip addr add 2001:db8::6/64 dev ens33
		ip addr add 2001:db8::7/128 dev ens33 nodad
		ip addr add fe80::7/64 dev ens33 nodad`)
	got := map[string]string{}
	for _, a := range linkOf(t, m, "ens33").Addrs {
		var what []string
		for word, is := range map[string]bool{"link-local": a.LinkLocal, "temporary": a.Temporary, "deprecated": a.Deprecated, "tentative": a.Tentative, "duplicate": a.Duplicate} {
			if is {
				what = append(what, word)
			}
		}
		got[a.Addr().String()] = strings.Join(what, " ")
	}
	for a, want := range map[string]string{"fd00:4::21": "", "2001:db8::5": "deprecated", "2001:db8::6": "tentative", "2001:db8::7": "", "fe80::7": "link-local"} {
		if what, there := got[a]; !there || what != want {
			t.Errorf("%s is %q", a, what)
		}
	}
}

func TestRoutingOfIPv6(t *testing.T) {
	m := linuxOf(t, inet.IPv6)
	conn := m.Conn.(*kernel.Netlink)
	m.sh(t, `ip link add ens34 type bridge
		ip addr add fd00:5::21/64 dev ens34 nodad
		ip link set ens34 up
		ip route add fd00:6::/64 via fd00:4::fe
		ip route add fd00:4::8000/113 via fd00:5::fe
		ip route add blackhole fd00:4::66
		ip route add unreachable fd00:4::67
		ip route add fd00:8::/64 dev ens33`)
	linkOf(t, m, "ens33")
	eventually(t, "the host's own address", func() bool { // which is written a little after the link is up
		is, _ := isDirect(m, "fd00:4::21", "ens33")
		return !is
	})
	for addr, want := range map[string]bool{
		"fd00:4::22": true, "fd00:8::7": true, "fd00:4::8007": false, "fd00:4::66": false, "fd00:4::67": false,
		"fd00:4::21": false, "fd00:6::22": false, "fd00:5::22": false, "fd00:7::22": false,
	} {
		if got, err := isDirect(m, addr, "ens33"); got != want || err != nil {
			t.Errorf("%s is direct: %v, %v", addr, got, err)
		}
	}
	for _, c := range []struct{ hand, want string }{
		{``, ""},
		{`ip -6 route add 8000::/1 via fd00:4::fe`, ""},
		{`ip -6 route add unreachable default metric 4294967295`, ""},
		{`ip -6 route add default via fe80::9 dev ens34 proto ra metric 2000`, "ens34"},
		{`ip -6 route add default via fd00:4::fe metric 1500`, "ens33"},
		{`ip -6 route add default via fd00:5::fe metric 50 table 7`, "ens33"},
		{`ip -6 route add default proto ra nexthop via fe80::9 dev ens34 nexthop via fe80::8 dev ens34`, "ens34"},
		{`ip link set ens34 down`, "ens33"},
	} {
		m.sh(t, c.hand)
		if got, err := conn.DefaultDev(inet.IPv6); err != nil || got != c.want {
			t.Errorf("after %q: %q, not %q; error: %v", c.hand, got, c.want, err)
		}
	}
	m.sh(t, "ip -6 route replace default via fe80::9 dev ens33 proto ra metric 100")
	if via, dev, err := conn.Lookup(netip.MustParseAddr("2001:db8::1")); via.String() != "fe80::9" || dev != "ens33" || err != nil {
		t.Errorf("by %v, %s, %v", via, dev, err)
	}
}

// What concerns one link alone, or lasts longer, wakes nobody.
func TestWatcherOfIPv6(t *testing.T) {
	w := watchIn(t, of6)
	w.Filter([]string{"flannel-v6.1"}, []string{"ens33"})
	w.run(t)
	w.after(t, "")
	const nothing, change, routing = "nothing", "change", "change of routing"
	for _, c := range []struct{ hand, leads string }{
		{`ip link add veth7 type veth peer name inside7`, nothing},
		{`ip addr add fe80::7/64 dev veth7 nodad`, nothing},
		{`ip link set veth7 up
			ip link set inside7 up`, nothing},
		{`ip link del veth7`, nothing},
		{`ip route add 172.7.23.0/24 via 10.4.7.99 table 100`, nothing},
		{`ip neigh add 10.4.7.22 lladdr 0a:39:13:5c:8e:16 dev ens33 nud reachable`, nothing},
		{`ip route add 172.7.22.0/24 via 10.4.7.22 proto 77`, change},
		{`ip neigh add 172.7.22.0 lladdr 0a:39:13:5c:8e:16 dev flannel.1 nud permanent`, change},
		{`ip neigh del 172.7.22.0 dev flannel.1`, change},
		{`ip nexthop add id {22} via 10.4.7.22 dev ens33 proto 77`, change},
		{`ip nexthop del id {22}`, change},
		{`ip route replace 172.7.22.0/24 via 10.4.7.99`, routing},
		{`ip route del 172.7.22.0/24`, routing},
		{`ip route add 0.0.0.0/0 via 10.4.7.254`, routing},
		{`ip route add 10.9.0.0/24 dev ens33`, routing},
	} {
		signal, routes := w.after(t, ids(c.hand))
		got := map[[2]bool]string{{false, false}: nothing, {true, false}: change, {true, true}: routing}[[2]bool{signal, routes}]
		if got != c.leads {
			t.Errorf("%s\nleads to %q, not to %q", c.hand, got, c.leads)
		}
	}
	for _, hand := range []string{ // of addresses the kernel tells a little later
		`ip addr add 10.4.7.121/24 dev ens33`, `ip addr change fd00:4::121/64 dev ens33 valid_lft 2000 preferred_lft 0`,
		`ip addr add fe80::7/64 dev ens33 nodad`, `ip addr del 172.7.21.0/32 dev flannel.1`,
	} {
		for w.signalled() {
		}
		w.sh(t, hand)
		eventually(t, "a signal of "+hand, w.signalled)
	}
}

// An address that lasts longer, as each advertisement of a router's has it, is no news;
// one that changes is.
func TestAddressesThatLastLonger(t *testing.T) {
	w := watchIn(t, of6)
	w.Filter(nil, []string{"ens33"})
	index := linkOf(t, w.machine, "ens33").Index
	message := func(flags byte, addr string) []byte {
		body := make([]byte, unix.SizeofIfAddrmsg)
		body[0], body[1], body[2] = unix.AF_INET6, 64, flags
		binary.NativeEndian.PutUint32(body[4:], uint32(index))
		body = binary.NativeEndian.AppendUint16(body, 4+16)
		body = binary.NativeEndian.AppendUint16(body, unix.IFA_ADDRESS)
		return append(body, netip.MustParseAddr(addr).AsSlice()...)
	}
	for i, c := range []struct {
		kind  uint16
		flags byte
		addr  string
		news  bool
	}{
		{unix.RTM_NEWADDR, unix.IFA_F_TENTATIVE, "2001:db8::5", true},
		{unix.RTM_NEWADDR, 0, "2001:db8::5", true},
		{unix.RTM_NEWADDR, 0, "2001:db8::5", false},
		{unix.RTM_NEWADDR, 0, "2001:db8::6", true},
		{unix.RTM_NEWADDR, unix.IFA_F_DEPRECATED, "2001:db8::5", true},
		{unix.RTM_DELADDR, 0, "2001:db8::5", true},
		{unix.RTM_NEWADDR, unix.IFA_F_DEPRECATED, "2001:db8::5", true},
		{unix.RTM_NEWADDR, 0, "2001:db8::6", false},
	} {
		if news := w.Heard(c.kind, message(c.flags, c.addr)); news != c.news {
			t.Errorf("%d: %v is news: %t", i, c, news)
		}
	}
}

// A Watcher tells of what is looked at, and of nothing else.
func TestWatcherOfFamilies(t *testing.T) {
	w := watchIn(t, of6)
	conn, err := kernel.Open(inet.Families()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if w.Watcher, err = conn.Watch(); err != nil {
		t.Fatal(err)
	}
	w.sh(t, "ip link set ens33 up")
	w.run(t)
	w.Filter([]string{"flannel-v6.1"}, []string{"ens33"})
	w.after(t, "")
	hands := map[inet.Family][]string{
		inet.IPv4: {"ip addr add 192.0.2.1/24 dev ens33", "ip route add 198.51.100.0/24 via 192.0.2.9", "ip neigh add 192.0.2.22 lladdr 0a:39:13:5c:8e:16 dev flannel-v6.1 nud permanent",
			"ip route del 198.51.100.0/24", "ip neigh del 192.0.2.22 dev flannel-v6.1", "ip addr del 192.0.2.1/24 dev ens33"},
		inet.IPv6: {"ip addr add 2001:db8::1/64 dev ens33 nodad", "ip route add 2001:db8:7::/64 via 2001:db8::9", "ip neigh add fc00:7:0:22:: lladdr 0a:39:13:5c:8e:16 dev flannel-v6.1 nud permanent",
			"ip route del 2001:db8:7::/64", "ip neigh del fc00:7:0:22:: dev flannel-v6.1", "ip addr del 2001:db8::1/64 dev ens33"},
	}
	for _, looks := range [][]inet.Family{{inet.IPv4}, {inet.IPv4, inet.IPv6}, {inet.IPv6}, {inet.IPv4}} {
		conn.Look(looks...)
		for f, hands := range hands {
			for _, hand := range hands {
				w.machine.run = typed
				if signal, _ := w.after(t, hand); signal != slices.Contains(looks, f) {
					t.Errorf("%v: %s is news: %t", looks, hand, signal)
				}
			}
		}
	}
}

// What a pass prints does the same on another host, in either family: iproute2 takes it.
func TestOpsCanBePasted(t *testing.T) {
	for _, l := range tongues() {
		for _, from := range []int{1000, 0} {
			t.Run(fmt.Sprint(l.family, from), func(t *testing.T) {
				m := l.in(linuxOf(t, l.family))
				s := kernel.NewSyncerFrom(m, from)
				var typed, states []string
				for _, want := range []kernel.State{
					join(tunnel(22, 23), plain(24)), join(tunnel(22), plain(23, 24)),
					with(tunnel(22, 24), func(s *kernel.State) { s.Devices[0].MAC = macOf(121) }), {},
				} {
					for _, o := range onePass(t, s, l.state(want)).Ops {
						typed = append(typed, o.String())
					}
					states = append(states, kerneltest.Render(m))
					typed = append(typed, "")
				}
				other := linuxOf(t, l.family) // in a namespace of its own
				for _, command := range typed {
					if command == "" {
						compare(t, "state", kerneltest.Render(other), states[0])
						states = states[1:]
						continue
					}
					other.sh(t, command)
				}
			})
		}
	}
}
