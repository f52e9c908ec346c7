package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// TestDockerOfEachStack starts dockerds of old and new with the options that mk-docker-opts.sh
// makes of a subnet.env, which changes in between: containers have addresses of each of
// its subnets and of no former one, and docker masquerades where flanneld does not.
func TestDockerOfEachStack(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("dockerd needs real root: run this test with sudo")
	}
	for _, e := range []engine{{"20.10", "iptables-legacy"}, {"20.10", "iptables-nft"}, {"29", "iptables-nft"}, {"29", "nftables"}} {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			l, both := lab.New(t), lab.Stacks[2]
			m := newMachine(t, l.Host("hdss7-21", both.Addrs(7, 21)))
			m.engineIs(e, nil)
			m.put("../../dist/mk-docker-opts.sh", "/usr/local/flannel/mk-docker-opts.sh", 0o755)
			web := l.Host("web", both.Addrs(7, 99))
			web.HTTPServer()
			for i, step := range []struct {
				subnets []string
				masq    string // flanneld's
			}{
				{both.Bridges(21), "false"},
				{[]string{"172.7.21.1/24", "fc00:7:0:99:1::1/80"}, "true"},
				{[]string{"fc00:7:0:23:ff::1/112"}, "false"},
				{[]string{"172.7.21.1/24"}, "false"},
			} {
				m.subnetEnv(step.subnets, step.masq)
				if i == 0 {
					m.bootDocker()
					m.container("c1")
				} else {
					m.stopDocker()
					m.startDocker()
					m.sh("docker start c1")
				}
				if e == (engine{"29", "iptables-nft"}) { // answers to containers' own addresses, which flanneld lets in
					m.sh("iptables -t raw -I PREROUTING -i ens33 -j ACCEPT; ip6tables -t raw -I PREROUTING -i ens33 -j ACCEPT")
				}
				m.dockerHas(t, step.subnets, step.masq, web)
			}
		})
	}
}

// dockerHas checks docker0, and the container c1 behind it.
func (m *machine) dockerHas(t *testing.T, subnets []string, flannelds string, web *lab.Host) {
	t.Helper()
	const has = "docker inspect --format '{{.NetworkSettings.IPAddress}} {{.NetworkSettings.GlobalIPv6Address}}' c1"
	own := strings.Fields(m.sh(has))
	want := map[inet.Family]netip.Prefix{}
	for _, s := range subnets {
		p := netip.MustParsePrefix(s)
		want[inet.Of(p.Addr())] = p
		if bridge := m.sh("ip -oneline addr show dev docker0"); !strings.Contains(bridge, " "+s+" ") {
			t.Errorf("of %v, docker0 has\n%s", subnets, bridge)
		}
	}
	_, six := want[inet.IPv6]
	if bridge := m.sh("ip -6 -oneline addr show dev docker0 scope global"); six && strings.Count(bridge, "inet6") != 1 {
		t.Errorf("of %v, docker0 has\n%s", subnets, bridge)
	}
	if six != (len(own) == 2) {
		t.Errorf("of %v, the container has %v", subnets, own)
	}
	for _, text := range own {
		ip := netip.MustParseAddr(text)
		p, ok := want[inet.Of(ip)]
		if !ok {
			continue // IPv4 that is docker's own
		}
		if !p.Contains(ip) {
			t.Errorf("of %v, the container has %v", subnets, ip)
		}
		client := text
		if flannelds == "false" {
			client = m.In(inet.Of(ip)).Address().String()
		}
		web.Run("ip", "route", "replace", p.Masked().String(), "via", m.In(inet.Of(ip)).Address().String())
		page := fmt.Sprintf("hello, %s", client)
		eventually(t, fmt.Sprintf("the page that %v gets, with FLANNEL_IPMASQ=%s", ip, flannelds), func() string {
			got, err := m.try(inside("c1", "timeout 3 /bin/busybox wget -q -O - '"+lab.URL(web.In(inet.Of(ip)))+"'"))
			if err != nil {
				got += err.Error()
			}
			return got
		}, page)
	}
	if mtu := m.sh(inside("c1", "cat /sys/class/net/eth0/mtu")); mtu != "1430" {
		t.Errorf("the MTU in a container is %s", mtu)
	}
}
