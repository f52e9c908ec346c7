package kernel_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"flanneld/pkg/inet"
	"flanneld/pkg/kernel"
)

func TestDirect(t *testing.T) {
	m := linux(t)
	m.sh(t, `ip link add ens34 type bridge
		ip addr add 10.5.0.21/24 dev ens34
		ip link set ens34 up
		ip route add 10.6.0.0/24 via 10.4.7.254
		ip route add 10.4.7.128/25 via 10.5.0.254
		ip route add blackhole 10.4.7.66
		ip route add 10.8.0.0/24 dev ens33`)
	linkOf(t, m, "ens33")
	for addr, want := range map[string]bool{
		"10.4.7.22":  true,
		"10.8.0.7":   true,  // a link-scope route of an administrator
		"10.4.7.200": false, // a router has the nearer route
		"10.4.7.66":  false,
		"10.4.7.21":  false, // ourselves
		"10.6.0.22":  false, // behind a router
		"10.5.0.22":  false, // on another interface
		"10.7.0.22":  false, // nowhere
	} {
		if got, err := isDirect(m, addr, "ens33"); got != want || err != nil {
			t.Errorf("%s is direct: %v, %v", addr, got, err)
		}
	}
	m.sh(t, `ip route add default via 10.4.7.254`)
	if is, err := isDirect(m, "10.7.0.22", "ens33"); is || err != nil {
		t.Error("what the default route leads to is direct")
	}
	if is, err := isDirect(m, "10.4.7.22", "ens99"); is || err != nil {
		t.Error("direct on an interface that does not exist")
	}
}

func isDirect(m machine, ip, dev string) (bool, error) {
	direct, errs := m.Conn.(*kernel.Netlink).Direct([]netip.Addr{netip.MustParseAddr(ip)}, dev)
	return direct[0], errs[0]
}

// Each of many has its own answer, in their order.
func TestDirectOfMany(t *testing.T) {
	m := linux(t)
	linkOf(t, m, "ens33")
	var ips []netip.Addr
	for i := range 1000 { // 10.4.7.x are on the link, and others nowhere
		ips = append(ips, netip.AddrFrom4([4]byte{10, 4, byte(7 + i%3), byte(22 + i%100)}))
	}
	direct, errs := m.Conn.(*kernel.Netlink).Direct(ips, "ens33")
	for i, ip := range ips {
		if direct[i] != (i%3 == 0) || errs[i] != nil {
			t.Errorf("%v is direct: %v, %v", ip, direct[i], errs[i])
		}
	}
}

func TestDefaultDev(t *testing.T) {
	m := linux(t)
	conn := m.Conn.(*kernel.Netlink)
	m.sh(t, `ip link add ens34 type bridge
		ip addr add 10.5.0.21/24 dev ens34
		ip link set ens34 up`)
	linkOf(t, m, "ens34")
	for _, c := range []struct{ hand, want string }{
		{``, ""},
		{`ip route add 0.0.0.0/1 via 10.4.7.254`, ""},
		{`ip route add unreachable default metric 1000`, ""},
		{`ip route add default via 10.5.0.254 metric 200`, "ens34"},
		{`ip route add default via 10.4.7.254 metric 100`, "ens33"},
		{`ip route add default via 10.5.0.254 metric 50 table 7`, "ens33"},
		{`ip route add default via 10.5.0.254`, "ens34"},
		{`ip link set ens34 down`, "ens33"},
	} {
		m.sh(t, c.hand)
		if got, err := conn.DefaultDev(inet.IPv4); err != nil || got != c.want {
			t.Errorf("after %q: %q, not %q; error: %v", c.hand, got, c.want, err)
		}
	}
}

// Ours tells a host on which a daemon of ours was at work from a fresh one.
func TestOurs(t *testing.T) {
	for _, c := range []struct {
		hand string
		want bool
	}{
		{``, false},
		{formerDevice, false},
		{`ip route add 172.7.22.0/24 via 10.4.7.22`, false},
		{`ip route add 172.7.22.0/24 via 10.4.7.22 proto 77`, true},
		{formerDevice + "\nip link set flannel.1 alias flanneld", true},
	} {
		t.Run(c.hand, func(t *testing.T) {
			m := linux(t)
			m.sh(t, c.hand)
			if got, err := m.Conn.(*kernel.Netlink).Ours(nil); err != nil || got != c.want {
				t.Errorf("after %q: %v, error: %v", c.hand, got, err)
			}
		})
	}
}

// Links are read as they are.
func TestLinks(t *testing.T) {
	m := linux(t)
	m.sh(t, `ip addr add 169.254.7.7/16 dev ens33
		ip addr add 10.9.0.1/24 dev ens33 scope link
		ip link set ens33 mtu 1400
		ip link set ens33 address 0a:00:00:00:00:07
		ip link set ens33 alias uplink`)
	l := linkOf(t, m, "ens33")
	if l.Index == 0 || l.MTU != 1400 || !l.Up || l.Type != "veth" || l.MAC.String() != "0a:00:00:00:00:07" || l.Alias != "uplink" || l.Kind != nil {
		t.Errorf("%+v", l)
	}
	linkLocal := map[string]bool{}
	for _, a := range l.Addrs {
		linkLocal[a.String()] = a.LinkLocal
	}
	if diff := cmp.Diff(map[string]bool{"10.4.7.21/24": false, "169.254.7.7/16": true, "10.9.0.1/24": true}, linkLocal); diff != "" {
		t.Errorf("which addresses are link-local: wanted (-), got (+):\n%s", diff)
	}
	if !l.Has(ipOf(21)) || l.Has(ipOf(22)) {
		t.Errorf("Has is wrong about %v", l.Addrs)
	}
	m.sh(t, `ip link set ens33 down`)
	if linkOf(t, m, "ens33").Up {
		t.Error("up, after it was set down")
	}
}

// What others put there is told apart by its kind, the bridge that it is a port of, and its address.
func TestOthersLinks(t *testing.T) {
	m := linux(t)
	m.sh(t, `ip link add docker0 type bridge
		ip link add veth7 type veth peer name inside7
		ip link set veth7 master docker0
		ip link add virbr0 type bridge
		ip addr add 10.9.1.1 peer 10.9.1.2/24 dev virbr0
		ip addr add 10.9.2.1/24 dev virbr0
		ip -6 addr add fd00::7/64 dev virbr0
		ip link add vxlan7 type vxlan id 7 dstport 4789`)
	for name, want := range map[string]string{
		"lo": "device  [127.0.0.1/8]", "docker0": "bridge  []", "veth7": "veth docker0 []", "inside7": "veth  []",
		"virbr0": "bridge  [10.9.1.1/32 10.9.2.1/24]", "vxlan7": "vxlan  []",
	} {
		l := linkOf(t, m, name)
		if got := fmt.Sprint(l.Type, " ", l.Master, " ", l.Addrs); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
		if isKnown := l.Kind != nil; isKnown != (l.Type == "vxlan") {
			t.Errorf("%s has the kind %v", name, l.Kind)
		}
	}
}

// Hosts with many containers have more interfaces than one answer of the kernel's holds.
func TestManyLinks(t *testing.T) {
	m := linux(t)
	const many = 150
	var commands []string
	for i := range many {
		commands = append(commands, fmt.Sprintf("ip link add veth-%d type veth peer name inside-%d", i, i))
	}
	m.sh(t, strings.Join(commands, "\n"))
	links, err := m.Links()
	if err != nil || len(links) < 2*many {
		t.Fatalf("%d interfaces, error: %v", len(links), err)
	}
	seen := map[string]bool{}
	for _, l := range links {
		if seen[l.Name] || l.Index == 0 || l.MTU == 0 {
			t.Errorf("%+v", l)
		}
		seen[l.Name] = true
	}
}

func TestParseMAC(t *testing.T) {
	for text, want := range map[string]string{
		"0a:39:13:5c:8e:41":       "0a:39:13:5c:8e:41",
		"0A:39:13:5C:8E:41":       "0a:39:13:5c:8e:41",
		"0a-39-13-5c-8e-41":       "0a:39:13:5c:8e:41",
		"":                        "",
		"0a:39:13:5c:8e":          "",
		"0a:39:13:5c:8e:41:42:43": "",
		"0a:39:13:5c:8e:4g":       "",
		" a:39:13:5c:8e:41":       "",
		"00:00:00:00:00:00":       "",
		"01:39:13:5c:8e:41":       "", // multicast
		"ff:ff:ff:ff:ff:ff":       "",
	} {
		m, err := kernel.ParseMAC(text)
		if (err == nil) != (want != "") || err == nil && m.String() != want {
			t.Errorf("%q: %v, %v; want %q", text, m, err, want)
		}
	}
}
