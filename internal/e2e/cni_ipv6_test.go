package e2e

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// handSubnets are two machines with a subnet.env each, as flanneld writes it, and routes
// to each other's subnets.
func handSubnets(t *testing.T, s lab.Stack, masq string) (ms []*machine) {
	t.Helper()
	l := lab.New(t)
	for _, n := range []int{21, 22} {
		h := l.Host(fmt.Sprintf("hdss7-%d", n), s.Addrs(7, n)).SubnetEnv(s.Bridges(n)...)
		m := newMachine(t, h)
		m.subnetEnv(s.Bridges(n), masq)
		ms = append(ms, m)
	}
	for i, m := range ms {
		for _, f := range s {
			m.Run("ip", "route", "add", lab.Subnet(f, 22-i), "via", ms[1-i].In(f).Address().String())
		}
	}
	return ms
}

// subnetEnv writes the machine's subnet.env where other programs look for it.
func (m *machine) subnetEnv(subnets []string, masq string) {
	m.t.Helper()
	m.SubnetEnv(subnets...)
	content := strings.NewReplacer("MTU=1500", "MTU=1430", "IPMASQ=false", "IPMASQ="+masq).Replace(read(m.t, m.SubnetFile()))
	for _, file := range []string{"/run/flannel/subnet.env", "/usr/local/flannel/subnet.env"} {
		m.write(file, content, 0o644)
	}
}

// TestCNIOfEachStack has containers made by a conflist with a range for each family, and
// by flannel's own plugin.
func TestCNIOfEachStack(t *testing.T) {
	networks := map[string]func(*machine){
		"conflist":         func(m *machine) { m.sh("mkdir -p /etc/cni/net.d; /usr/local/flannel/mk-cni-conf.sh") },
		"flannel's plugin": copyConflist,
	}
	eachStack(t, func(t *testing.T, s lab.Stack) {
		for name, network := range networks {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ms := handSubnets(t, s, "true")
				var boxes [2][]box
				for i, m := range ms {
					m.installCNI()
					network(m)
					boxes[i] = m.cniEach("c1")
				}
				if len(boxes[0]) != len(s) {
					t.Fatalf("the container has %v", boxes[0])
				}
				for i, f := range s {
					a, b := boxes[0][i], boxes[1][i]
					if want := map[inet.Family]string{inet.IPv4: "172.7.21.2", inet.IPv6: "fc00:7:0:21::2"}[f]; a.ip != want {
						t.Errorf("the container has %s, want %s", a.ip, want)
					}
					a.meets(t, b, "")
				}
				if mtu := boxes[0][0].mtu(); mtu != "1430" {
					t.Errorf("the MTU in a container is %s", mtu)
				}
			})
		}
	})
}
