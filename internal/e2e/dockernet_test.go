package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
)

// TestDockerNetwork gives a dockerd that runs, with docker0 as docker has it, a
// second network with the host's subnet.
func TestDockerNetwork(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("dockerd needs real root: run this test with sudo")
	}
	marked := map[string]any{"allow-direct-routing": true, "bridge-accept-fwmark": "0x1000/0x1000"} // as docs/cni.md says
	for e, settings := range map[engine]map[string]any{{"20.10", "iptables-nft"}: nil, {"29", "iptables-nft"}: nil, {"29", "nftables"}: marked} {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			testDockerNetwork(t, e, settings)
		})
	}
}

func testDockerNetwork(t *testing.T, e engine, settings map[string]any) {
	ms := engines(t, vxLAN, "--ip-masq")
	var boxes []box
	for _, m := range ms {
		m.engineIs(e, settings)
		m.plainDocker()
		if found, _ := checked(t, m.node(), ""); firstOf(found, check.Fault).Step != "docker" {
			t.Errorf("of a docker0 with docker's own subnet, check says\n%s", shown(found))
		}
		m.sh(documented(t, "docker network create"))
		faultless(t, m, "the network to be found")
		boxes = append(boxes, m.networked("c1"))
	}
	boxes[0].meets(t, boxes[1], "172.7.21.2")
	if mtu := boxes[0].mtu(); mtu != "1450" {
		t.Errorf("the MTU in a container is %s", mtu)
	}
	if rules := ms[0].sh("iptables -t nat -S POSTROUTING"); strings.Contains(rules, "-s 172.7.21.0/24 ! -o br-flannel -j MASQUERADE") {
		t.Errorf("docker masquerades:\n%s", rules)
	}
	for _, b := range boxes {
		faultless(t, b.m, "no complaint")
	}
}

// faultless waits until check finds no fault. It may note that Debian's nft crashes.
func faultless(t *testing.T, m *machine, what string) {
	t.Helper()
	lab.Eventually(t, soon, what, func() error {
		if found, code := checked(t, m.node(), ""); code != 0 {
			return fmt.Errorf("exit code %d\n%s", code, shown(found))
		}
		return nil
	})
}

// documented are the lines of docs/cni.md in which a command stands, without those
// that run a container of an image from the Internet.
func documented(t *testing.T, command string) string {
	t.Helper()
	for i, block := range strings.Split(read(t, "../../docs/cni.md"), "\n```\n") {
		if i%2 == 1 && strings.Contains(block, command) {
			return regexp.MustCompile(`(?m)^(docker|podman) run .*$`).ReplaceAllString(block, "")
		}
	}
	t.Fatalf("docs/cni.md has no %s", command)
	return ""
}

// plainDocker starts a dockerd that is told nothing of flanneld.
func (m *machine) plainDocker() {
	m.t.Helper()
	m.sh("mount -t cgroup2 none /sys/fs/cgroup")
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("%s# cat /var/log/dockerd.log\n%s", m, m.read("/var/log/dockerd.log"))
		}
		m.end()
		removeCgroup(m.t, m.cgroup())
	})
	m.sh("PATH=" + m.engine.path() + " setpriv --bounding-set=-sys_module dockerd --storage-driver=vfs --cgroup-parent=" + m.cgroup() + " >>/var/log/dockerd.log 2>&1 &")
	lab.Eventually(m.t, 3*soon, "dockerd on "+m.Name, func() error {
		out, err := m.try("docker version")
		if err != nil {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	m.write("/tmp/busybox.tar", busyboxImage(m.t), 0o644)
	m.sh("docker import /tmp/busybox.tar busybox")
}

// networked starts a container on that network.
func (m *machine) networked(name string) box {
	m.t.Helper()
	m.sh("docker run --detach --stop-signal KILL --network flannel --name " + name + " busybox /bin/busybox sleep infinity")
	out := m.sh("docker inspect --format '{{.NetworkSettings.Networks.flannel.IPAddress}} {{.State.Pid}}' " + name)
	var ip, pid string
	if _, err := fmt.Sscan(out, &ip, &pid); err != nil {
		m.t.Fatalf("%v in %s", err, out)
	}
	return box{m, ip, "nsenter --net=/proc/" + pid + "/ns/net "}
}
