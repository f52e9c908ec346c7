package e2e

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCheckHost breaks a host in what does not concern iptables.
func TestCheckHost(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	env := h.SubnetFile()
	const restart = "systemctl restart flanneld"
	redocker := "mk-docker-opts.sh -f " + env + "; systemctl restart docker"
	findAll(t, allSeenFrom(c.hosts[1], []trouble{
		{name: "the daemon is stopped", on: h, do: func() { h.daemon.Signal(syscall.SIGSTOP) },
			step: "daemon", text: fmt.Sprintf("flanneld (pid %d) is stopped", h.daemon.PID), fix: fmt.Sprintf("kill -CONT %d", h.daemon.PID)},
		{name: "no daemon, and nothing that it has made", on: h, do: h.daemon.Kill, how: "",
			step: "daemon", text: "no flanneld runs in this network namespace", fix: "systemctl start flanneld", more: "ip link show flannel.1; ip route show 172.7.22.0/24 | grep -q flannel.1"},

		{name: "the interface is down", on: h, how: "ip link set ens33 down",
			step: "interface", text: "the external interface ens33 is down", fix: "ip link set ens33 up"},
		{name: "the interface has lost its address", on: h, how: "ip address del 10.4.7.21/24 dev ens33",
			step: "interface", text: "ens33 has lost its address 10.4.7.21", fix: "networkctl reconfigure ens33",
			repair: func() { h.Shell("ip address add 10.4.7.21/24 dev ens33") }},
		{name: "the interface has another name", on: h, how: "ip link set ens33 down; ip link set ens33 name eth9; ip link set eth9 up",
			step: "interface", text: "the external interface ens33 is gone; its address 10.4.7.21 is on eth9 now", fix: "restart flanneld with --iface=eth9 in place of --iface=ens33",
			repair: func() { h.Shell("ip link set eth9 down; ip link set eth9 name ens33; ip link set ens33 up") }},

		{name: "no forwarding", on: h, elsewhere: true, how: "sysctl -qw net.ipv4.ip_forward=0",
			step: "forwarding", text: "net.ipv4.ip_forward is 0", fix: "sysctl -w net.ipv4.ip_forward=1"},
		{name: "no forwarding from the tunnel", on: h, elsewhere: true, how: "echo 0 > /proc/sys/net/ipv4/conf/flannel.1/forwarding",
			step: "forwarding", text: "what arrives on flannel.1 is not forwarded", fix: "sysctl -w net.ipv4.conf.flannel/1.forwarding=1"},

		{name: "a route in front of flanneld's", on: h, how: "ip route prepend 172.7.22.0/24 via 10.4.7.12 dev ens33",
			step: "route", text: "the way to 172.7.22.0/24 is not as flanneld wants it: another route: 172.7.22.0/24 via 10.4.7.12 dev ens33", fix: "ip route del 172.7.22.0/24 via 10.4.7.12 dev ens33 proto 3"},
		{name: "a narrower route", on: h, how: "ip route add 172.7.22.0/25 via 10.4.7.12 dev ens33",
			step: "route", text: "packets to 172.7.22.1 leave by ens33 to 10.4.7.12, and should leave by flannel.1", fix: "ip route del 172.7.22.0/25"},
		{name: "a narrower route that leads nowhere", on: h, how: "ip route add unreachable 172.7.22.0/25",
			step: "route", text: "the kernel has no way to 172.7.22.1: no route to host", fix: "ip route del 172.7.22.0/25"},
		{name: "a narrower route that swallows", on: h, how: "ip route add blackhole 172.7.22.0/25",
			step: "route", text: "the kernel has no way to 172.7.22.1: a route of type blackhole swallows it", fix: "ip route del 172.7.22.0/25"},
		{name: "a rule that comes first", on: h, how: "ip route add default via 10.4.7.12 table 99; ip rule add to 172.7.22.0/24 table 99 priority 77; ip rule add from 1.2.3.4 table 99 priority 76",
			step: "route", text: "packets to 172.7.22.1 leave by ens33", fix: "ip rule add to 172.7.0.0/16 lookup main priority 76", more: "ip rule del priority 76; ip rule del priority 76; ip rule del priority 77; ip route flush table 99"},
		{name: "a rule that forbids", on: h, how: "ip rule add to 172.7.22.0/24 prohibit priority 78",
			step: "route", text: "the kernel has no way to 172.7.22.1: a route or rule of type prohibit forbids it", fix: "ip rule add to 172.7.0.0/16 lookup main priority 77", more: "ip rule del priority 77; ip rule del priority 78"},

		{name: "docker0 has an address of its own", on: h, how: "ip addr add 172.17.0.1/16 dev docker0; ip addr del 172.7.21.1/24 dev docker0",
			step: "docker", text: "docker0 has 172.17.0.1/16, and subnet.env says 172.7.21.1/24", fix: redocker},
		{name: "docker0 is down", on: h, how: "ip link set docker0 down",
			step: "docker", text: "docker0 is down: no container behind it is reached", fix: "ip link set docker0 up"},
		{name: "a container's MTU is too large", on: h, how: "ip link set veth2 mtu 1500",
			step: "docker", text: "the MTU of veth2 is 1500, and subnet.env says 1450", fix: redocker},
		{name: "subnet.env has another MTU", on: h, how: "sed -i s/MTU=1450/MTU=1400/ " + env, again: true,
			step: "subnet.env", text: "says MTU 1400, and packets may have 1450 bytes", fix: restart},
		{name: "subnet.env has another subnet", on: h, how: "sed -i s/172.7.21.1/172.7.99.1/ " + env, again: true,
			step: "subnet.env", text: "says 172.7.99.0/24, and this host has 172.7.21.0/24", fix: "rm " + env + "; " + restart},
		{name: "subnet.env is gone", on: h, how: "rm -f " + env, again: true,
			step: "subnet.env", text: "is not there", fix: restart},
		{name: "subnet.env is nonsense", on: h, how: "echo nonsense > " + env, again: true,
			step: "subnet.env", text: "read subnet file " + env + ": FLANNEL_SUBNET is missing", fix: restart},
		{name: "subnet.env cannot be read or written", on: h, how: "until rm -f " + env + "; mkdir " + env + " 2>/dev/null; do :; done; mkdir " + env + "/x; ip address add 192.0.2.9/32 dev lo",
			step: "subnet.env", text: "flanneld cannot write " + env + ": ", fix: "ls -la " + h.Dir() + "; df -h " + h.Dir(),
			repair: func() { h.Shell("rm -r " + env) }, more: "ip address del 192.0.2.9/32 dev lo"},
	}))
	t.Run("dockerd", func(t *testing.T) { checkDockerd(t, h) })
}

// checkDockerd has a dockerd that was started too early.
func checkDockerd(t *testing.T, h *node) {
	dockerd := filepath.Join(h.Dir(), "dockerd")
	h.Run("cp", "/bin/sleep", dockerd)
	cmd := h.Command(dockerd, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	started := fmt.Sprintf("dockerd (pid %d) was started ", cmd.Process.Pid)
	late := "touch -d '+1 hour' " + h.SubnetFile()
	trouble{name: "another address", on: h, how: late + "; ip addr add 172.17.0.1/16 dev docker0; ip addr del 172.7.21.1/24 dev docker0",
		step: "docker", text: "docker0 has 172.17.0.1/16, and subnet.env says 172.7.21.1/24; " + started, fix: "systemctl restart docker"}.find(t)
	trouble{name: "no docker0", on: h, how: late + "; ip link del docker0",
		step: "docker", text: "there is no docker0 with the address 172.7.21.1/24; " + started, fix: "systemctl restart docker"}.find(t)
}
