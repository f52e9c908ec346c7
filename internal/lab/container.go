package lab

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"time"

	"flanneld/pkg/inet"
)

// waitTimeout is how long the lab waits for what should take milliseconds.
const waitTimeout = 30 * time.Second

// bridge is a host's docker0.
type bridge struct {
	index int
	mtu   int
	next  []netip.Prefix // the next container's addresses
}

// Container is what docker would start on a host: a network stack with eth0
// behind the host's docker0.
type Container struct {
	*Node
	Host *Host
}

// Container adds a container. The first one of a host makes docker0, with the
// addresses and MTU that subnet.env holds; a flanneld that runs on the host is
// waited for, since it writes them. Addresses are handed out from .2 and ::2 on.
func (h *Host) Container(name string) *Container {
	h.lab.t.Helper()
	if h.docker == nil {
		h.docker = h.startDocker()
	}
	docker := h.docker
	c := &Container{h.lab.newNode(h.Name + "-" + name), h}
	for _, p := range docker.next {
		if inet.Of(p.Addr()) == inet.IPv6 {
			h.lab.must("have IPv6 in "+c.Name, c.ns.enableIPv6())
		}
	}
	port := fmt.Sprintf("veth%d", len(h.containers)+2)
	h.lab.must("connect "+c.Name, h.ns.plug(port, docker.index, docker.mtu, c.ns, "eth0"))
	h.lab.must("connect "+c.Name, h.ns.awaitLinkLocal("docker0"))
	h.containers = append(h.containers, c)
	for i, p := range docker.next {
		h.lab.must("address "+c.Name, c.addAddress(p))
		docker.next[i] = netip.PrefixFrom(p.Addr().Next(), p.Bits())
	}
	c.IP = c.ips[0]
	return c
}

// addAddress gives the container an address and the default route that goes with it.
func (c *Container) addAddress(p netip.Prefix) error {
	c.ips = append(c.ips, p.Addr())
	if err := c.ns.addAddress("eth0", p); err != nil {
		return err
	}
	return c.ns.addDefaultRoute(p.Masked().Addr().Next(), "eth0")
}

// startDocker makes docker0 as dockerd with --bip, --fixed-cidr-v6 and --mtu from
// subnet.env.
func (h *Host) startDocker() *bridge {
	h.lab.t.Helper()
	for _, d := range h.daemons {
		if d.Running() {
			d.WaitReady()
		}
	}
	own, mtu := h.awaitSubnetEnv()
	index, err := h.ns.addBridge("docker0", mtu)
	h.lab.must("make docker0 on "+h.Name, err)
	docker := &bridge{index: index, mtu: mtu}
	for _, p := range own {
		h.lab.must("address docker0 on "+h.Name, h.ns.addAddress("docker0", p))
		docker.next = append(docker.next, netip.PrefixFrom(p.Addr().Next(), p.Bits()))
	}
	return docker
}

// UpdateDocker gives docker0 and the containers the addresses that subnet.env has by
// now and they have not, as a new start of dockerd would. They stay connected.
func (h *Host) UpdateDocker() {
	h.lab.t.Helper()
	own, _ := h.awaitSubnetEnv()
	for _, p := range own {
		if h.docker.has(p) {
			continue
		}
		h.lab.must("address docker0 on "+h.Name, h.ns.addAddress("docker0", p))
		next := p
		for _, c := range h.containers {
			next = netip.PrefixFrom(next.Addr().Next(), p.Bits())
			h.lab.must("address "+c.Name, c.addAddress(next))
		}
		h.docker.next = append(h.docker.next, netip.PrefixFrom(next.Addr().Next(), p.Bits()))
	}
}

func (b *bridge) has(subnet netip.Prefix) bool {
	for _, p := range b.next {
		if p.Masked() == subnet.Masked() {
			return true
		}
	}
	return false
}

func (h *Host) awaitSubnetEnv() (own []netip.Prefix, mtu int) {
	h.lab.t.Helper()
	Eventually(h.lab.t, waitTimeout, h.SubnetFile(), func() (err error) {
		own, mtu, err = readSubnetEnv(h.SubnetFile())
		return err
	})
	return own, mtu
}

// subnetEnvFormat is that of the lines which flanneld writes. The lab has a parser of
// its own, so that it tests the file's format.
var subnetEnvFormat = regexp.MustCompile(`^(?:FLANNEL_NETWORK=\S+\nFLANNEL_SUBNET=(\S+)\n)?` +
	`(?:FLANNEL_IPV6_NETWORK=\S+\nFLANNEL_IPV6_SUBNET=(\S+)\n)?` +
	`FLANNEL_MTU=(\d+)\nFLANNEL_IPMASQ=(?:true|false)\n`)

// readSubnetEnv reads the addresses and the MTU for dockerd from the file.
func readSubnetEnv(path string) (own []netip.Prefix, mtu int, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	found := subnetEnvFormat.FindStringSubmatch(string(content))
	if found == nil {
		return nil, 0, fmt.Errorf("%q is not as flanneld writes it", content)
	}
	for _, text := range found[1:3] {
		if text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, 0, fmt.Errorf("%w in %q", err, content)
		}
		own = append(own, p)
	}
	if len(own) == 0 {
		return nil, 0, fmt.Errorf("there is no subnet in %q", content)
	}
	mtu, err = strconv.Atoi(found[3])
	return own, mtu, err
}
