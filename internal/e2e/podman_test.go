package e2e

import (
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestPodman has containers on a network of Podman's, made by its netavark, with
// the host's subnet.
func TestPodman(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("podman needs real root here: run this test with sudo")
	}
	for _, config := range []string{hostGW, vxLAN} {
		t.Run(config, func(t *testing.T) {
			t.Parallel()
			var boxes []box
			ms := engines(t, config, "--ip-masq")
			for _, m := range ms {
				m.bootPodman()
				clean(t, m.node(), "no container, and no complaint", "", "docker")
				boxes = append(boxes, m.podman())
			}
			boxes[0].meets(t, boxes[1], "172.7.21.2")
			ms[0].shows(docs.Containing(t, "docs/cni.md", "hdss7-21# podman run --rm --cap-add net_raw"))
			ms[0].types(docs.Containing(t, "docs/cni.md", "podman run --rm --cap-add net_raw"))
			for _, b := range boxes {
				clean(t, b.m.node(), "no complaint", "")
			}
			m := ms[0]
			m.sh("sed -i s/172.7.21.1/172.7.99.1/ /run/flannel/subnet.env")
			m.types(docs.Containing(t, "docs/cni.md", "podman network rm -f flannel"))
			m.types(docs.Containing(t, "docs/cni.md", "podman network create"))
			if again := m.podman(); again.ip != "172.7.99.2" {
				t.Errorf("in a network that was made again, the container has %s", again.ip)
			}
		})
	}
}

// TestPodmanFirst starts flanneld behind containers that run, whose rules translate
// all addresses.
func TestPodmanFirst(t *testing.T) {
	t.Parallel()
	if !realRoot(t) {
		t.Skip("podman needs real root here: run this test with sudo")
	}
	for _, firewall := range []string{"iptables", "nftables"} {
		t.Run(firewall, func(t *testing.T) {
			t.Parallel()
			l := lab.New(t)
			l.EtcdOn(lab.EtcdOptions{}, l.Host("hdss7-12", "10.4.7.12/24")).Set(configKey, vxLAN)
			var boxes []box
			for _, number := range []string{"21", "22"} {
				m := newMachine(t, l.Host("hdss7-"+number, "10.4.7."+number+"/24").SubnetEnv("172.7."+number+".1/24"))
				m.write("/run/flannel/subnet.env", strings.Replace(read(t, m.SubnetFile()), "1500", "1450", 1), 0o644)
				m.bootPodman()
				boxes = append(boxes, m.podman())
				m.Flanneld("--ip-masq", "--firewall="+firewall).WaitReady()
			}
			boxes[0].meets(t, boxes[1], "172.7.21.2")
		})
	}
}

// podman stands before Podman's own, with what it takes to run in a lab: no store of
// layers, no journal, no systemd, no limit that needs a controller.
const podman = `#!/bin/sh
if [ "$1" = run ]; then
	shift
	set -- run --pids-limit=-1 --cgroup-parent=%s "$@"
fi
exec /usr/bin/podman --storage-driver=vfs --events-backend=none --cgroup-manager=cgroupfs --network-backend=netavark "$@"
`

// bootPodman makes the network, as docs/cni.md says. The image is there already.
func (m *machine) bootPodman() {
	t := m.t
	t.Helper()
	m.sh("mount -t cgroup2 none /sys/fs/cgroup")
	t.Cleanup(func() {
		m.end()
		removeCgroup(t, m.cgroup())
	})
	m.write("/usr/local/bin/podman", fmt.Sprintf(podman, m.cgroup()), 0o755)
	m.write("/tmp/busybox.tar", busyboxImage(t), 0o644)
	m.sh(`mkdir -p /var/tmp && podman import --change 'ENTRYPOINT ["/bin/busybox"]' /tmp/busybox.tar docker.io/library/busybox`)
	m.types(docs.Containing(t, "docs/cni.md", "podman network create"))
}

// podman starts docs/cni.md's container.
func (m *machine) podman() box {
	t := m.t
	t.Helper()
	m.types(docs.Containing(t, "docs/cni.md", "podman run -d --name c1 --network flannel"))
	out := m.sh("podman inspect --format '{{.NetworkSettings.Networks.flannel.IPAddress}} {{.State.Pid}}' c1")
	var ip, pid string
	if _, err := fmt.Sscan(out, &ip, &pid); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return box{m, ip, "nsenter --net=/proc/" + pid + "/ns/net "}
}
