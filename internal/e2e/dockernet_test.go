package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/docs"
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
	var marked map[string]any
	if err := json.Unmarshal([]byte("{"+docs.Containing(t, "docs/cni.md", "bridge-accept-fwmark").Text+"}"), &marked); err != nil {
		t.Fatal(err)
	}
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
		m.types(docs.Containing(t, "docs/cni.md", "docker network create"))
		faultless(t, m, "the network to be found")
		boxes = append(boxes, m.networked())
	}
	ms[0].shows(docs.Containing(t, "docs/cni.md", "hdss7-21# docker run --rm --network flannel busybox ping"))
	ms[0].types(docs.Containing(t, "docs/cni.md", "docker run --rm --network flannel busybox ping"))
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
	// Another MTU, as after a switch of the backend.
	m := ms[0]
	m.sh("docker rm -f c1; sed -i s/MTU=.*/MTU=1400/ /run/flannel/subnet.env")
	m.types(docs.Containing(t, "docs/cni.md", "docker network rm flannel"))
	m.types(docs.Containing(t, "docs/cni.md", "docker network create"))
	if mtu := m.networked().mtu(); mtu != "1400" {
		t.Errorf("in a network that was made again, the MTU is %s", mtu)
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
	m.sh(`docker import --change 'ENTRYPOINT ["/bin/busybox"]' /tmp/busybox.tar busybox`) // with no shell or links, only this
}

// networked starts docs/cni.md's container on that network.
func (m *machine) networked() box {
	t := m.t
	t.Helper()
	m.types(docs.Containing(t, "docs/cni.md", "docker run -d --name c1 --network flannel"))
	out := m.sh("docker inspect --format '{{.NetworkSettings.Networks.flannel.IPAddress}} {{.State.Pid}}' c1")
	var ip, pid string
	if _, err := fmt.Sscan(out, &ip, &pid); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return box{m, ip, "nsenter --net=/proc/" + pid + "/ns/net "}
}
