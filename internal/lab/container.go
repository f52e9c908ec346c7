package lab

import (
	"fmt"

	"net/netip"
	"os"
	"time"
)

// waitTimeout is how long the lab waits for what should take milliseconds.
const waitTimeout = 30 * time.Second

// bridge is a host's docker0.
type bridge struct {
	index int
	mtu   int
	next  netip.Prefix // the next container's address
}

// Container is what docker would start on a host: a network stack with eth0
// behind the host's docker0.
type Container struct {
	*Node
	Host *Host
}

// Container adds a container. The first one of a host makes docker0, with the
// address and MTU that subnet.env holds; a flanneld that runs on the host is
// waited for, since it writes them. Addresses are handed out from .2 on.
func (h *Host) Container(name string) *Container {
	h.lab.t.Helper()
	if h.docker == nil {
		h.docker = h.startDocker()
	}
	docker := h.docker
	c := &Container{h.lab.newNode(h.Name + "-" + name), h}
	c.IP = docker.next.Addr()
	port := fmt.Sprintf("veth%v", c.IP.As4()[3])
	h.lab.must("connect "+c.Name, h.ns.plug(port, docker.index, docker.mtu, c.ns, "eth0"))
	h.lab.must("set the address of "+c.Name, c.ns.addAddress("eth0", docker.next))
	h.lab.must("set the default route of "+c.Name, c.ns.addDefaultRoute(docker.next.Masked().Addr().Next(), "eth0"))
	docker.next = netip.PrefixFrom(c.IP.Next(), docker.next.Bits())
	return c
}

// startDocker makes docker0 as dockerd with --bip and --mtu from subnet.env.
func (h *Host) startDocker() *bridge {
	h.lab.t.Helper()
	for _, d := range h.daemons {
		if d.Running() {
			d.WaitReady()
		}
	}
	var own netip.Prefix
	var mtu int
	Eventually(h.lab.t, waitTimeout, h.SubnetFile(), func() (err error) {
		own, mtu, err = readSubnetEnv(h.SubnetFile())
		return err
	})
	index, err := h.ns.addBridge("docker0", mtu)
	h.lab.must("make docker0 on "+h.Name, err)
	h.lab.must("address docker0 on "+h.Name, h.ns.addAddress("docker0", own))
	return &bridge{index: index, mtu: mtu, next: netip.PrefixFrom(own.Addr().Next(), own.Bits())}
}

// readSubnetEnv reads the address and MTU for dockerd from the file. The lab has a
// parser of its own, so that it tests the file's format.
func readSubnetEnv(path string) (own netip.Prefix, mtu int, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return own, 0, err
	}
	var network, address string
	var masq bool
	const format = "FLANNEL_NETWORK=%s\nFLANNEL_SUBNET=%s\nFLANNEL_MTU=%d\nFLANNEL_IPMASQ=%t\n"
	if _, err := fmt.Sscanf(string(content), format, &network, &address, &mtu, &masq); err != nil {
		return own, 0, fmt.Errorf("%w in %q", err, content)
	}
	own, err = netip.ParsePrefix(address)
	return own, mtu, err
}
