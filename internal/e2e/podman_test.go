package e2e

import (
	"fmt"
	"strings"
	"testing"

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
			for _, m := range engines(t, config, "--ip-masq") {
				m.bootPodman()
				clean(t, m.node(), "no container, and no complaint", "", "docker")
				boxes = append(boxes, m.podman("c1"))
			}
			boxes[0].meets(t, boxes[1], "172.7.21.2")
			for _, b := range boxes {
				clean(t, b.m.node(), "no complaint", "")
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
				boxes = append(boxes, m.podman("c1"))
				m.Flanneld("--ip-masq", "--firewall="+firewall).WaitReady()
			}
			boxes[0].meets(t, boxes[1], "172.7.21.2")
		})
	}
}

// podman is the command, with what it takes to run in a lab: no store of layers,
// no journal, no systemd.
const podman = "podman --storage-driver=vfs --events-backend=none --cgroup-manager=cgroupfs --network-backend=netavark "

// bootPodman makes the network, as docs/cni.md says.
func (m *machine) bootPodman() {
	m.t.Helper()
	m.sh("mount -t cgroup2 none /sys/fs/cgroup")
	m.t.Cleanup(func() {
		m.end()
		removeCgroup(m.t, m.cgroup())
	})
	m.write("/tmp/busybox.tar", busyboxImage(m.t), 0o644)
	m.sh(`set -e
		mkdir -p /var/lib/busybox
		tar xf /tmp/busybox.tar -C /var/lib/busybox
		` + strings.ReplaceAll(documented(m.t, "podman network create"), "podman ", podman))
}

// podman starts a container that sleeps. A limit of processes needs a controller
// that a machine may lack.
func (m *machine) podman(name string) box {
	m.t.Helper()
	m.sh(podman + "run --detach --pids-limit=-1 --cgroup-parent=" + m.cgroup() + " --network flannel --name " + name + " --rootfs /var/lib/busybox /bin/busybox sleep infinity")
	out := m.sh(podman + "inspect --format '{{.NetworkSettings.Networks.flannel.IPAddress}} {{.State.Pid}}' " + name)
	var ip, pid string
	if _, err := fmt.Sscan(out, &ip, &pid); err != nil {
		m.t.Fatalf("%v in %s", err, out)
	}
	return box{m, ip, "nsenter --net=/proc/" + pid + "/ns/net "}
}
