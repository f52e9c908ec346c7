package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/internal/lab"
)

// throughUDP is how many routers are between containers: each host, and each end of the tunnel.
const throughUDP = 4

// TestMixedUDP is a cluster of flannel 0.28 and flanneld whose packets both carry, each way.
func TestMixedUDP(t *testing.T) {
	c := newFlannels(t, nil, udpMode)
	c.flannel("hdss7-21").daemon.WaitReady()
	c.join("hdss7-22").daemon.WaitReady()
	c.flannel("hdss7-23").daemon.WaitReady()
	c.join("hdss7-24").daemon.WaitReady()
	for _, n := range c.hosts {
		n.box = n.Container("c1")
	}
	c.connected(soon)
	theirs, ours := c.hosts[0], c.hosts[1]
	for key, value := range c.etcd.Keys(leases) {
		ip := "10.4.7." + strings.Split(strings.TrimPrefix(key, leases+"172.7."), ".")[0]
		if plain := `{"PublicIP":"` + ip + `"}`; value != plain && value != strings.TrimSuffix(plain, "}")+`,"PublicIPv6":null}` {
			t.Errorf("%s is %s", key, value)
		}
	}
	if theirs, ours := theirs.deviceText("flannel0"), ours.deviceText("flannel0"); !strings.Contains(theirs, " mtu 1472 ") || !strings.Contains(ours, " mtu 1472 ") {
		t.Errorf("the devices are\n%s\n%s", theirs, ours)
	}
	for _, size := range []int{100, 1472} {
		crosses(t, theirs.box, ours.box, throughUDP, size)
		crosses(t, ours.box, theirs.box, throughUDP, size)
	}
	crosses(t, theirs.box, c.hosts[2].box, throughUDP, 100) // so flannel's own do it
	unreachable(t, ours.box, "172.7.22.0")
	carries(t, theirs.box, ours.box)
	carries(t, ours.box, theirs.box)
	for _, n := range c.hosts[:2] {
		n.daemon.Kill()
		n.daemon.Restart()
		n.daemon.WaitReady()
		c.connected(soon)
	}
}

// TestScriptedUDPPeer sends and expects the datagrams of flannel's backend, to the byte, by a
// plain socket.
func TestScriptedUDPPeer(t *testing.T) {
	c := newModes(t, nil, lab.EtcdOptions{}, udpMode)
	h := c.Host("hdss7-31", "10.4.7.31/24")
	var socket *net.UDPConn
	if err := h.Do(func() (err error) {
		socket, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.4.7.31:8285")))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	c.etcd.Set(leases+"172.7.31.0-24", `{"PublicIP":"10.4.7.31"}`)
	ours := c.hosts[0].box
	out, in := newRawSocket(t, ours.Node, unix.IPPROTO_RAW), newRawSocket(t, ours.Node, unix.IPPROTO_UDP)
	datagram := make([]byte, 1<<16)
	for _, payload := range []string{"hello", strings.Repeat("odd", 333), strings.Repeat("x", 1472-28)} {
		packet := newPacket(ours.IP.String(), "172.7.31.2", 64, payload)
		lab.Eventually(t, soon, "a datagram", func() error {
			out.send(packet)
			_ = socket.SetReadDeadline(time.Now().Add(time.Second))
			n, from, err := socket.ReadFromUDPAddrPort(datagram)
			if err != nil {
				return err
			}
			if want := hops(packet, 2); !bytes.Equal(datagram[:n], want) || from != netip.MustParseAddrPort("10.4.7.21:8285") {
				return fmt.Errorf("from %v came\n%x, want\n%x", from, datagram[:n], want)
			}
			return nil
		})
		packet = newPacket("172.7.31.2", ours.IP.String(), 64, payload)
		got := in.await("the peer's packet", func() {
			if _, err := socket.WriteToUDPAddrPort(packet, netip.MustParseAddrPort("10.4.7.21:8285")); err != nil {
				t.Fatal(err)
			}
		}, func(p []byte) bool { return bytes.Equal(p[12:16], packet[12:16]) })
		if want := hops(packet, 2); !bytes.Equal(got, want) {
			t.Errorf("at the container came\n%x, want\n%x", got, want)
		}
	}
	unreachable(t, ours, "172.7.21.0")
	c.etcd.Delete(leases + "172.7.31.0-24")
	lab.Eventually(t, soon, "no datagram any more", func() error {
		for socket.SetReadDeadline(time.Now()) == nil { // what was on its way
			if _, err := socket.Read(datagram); err != nil {
				break
			}
		}
		out.send(newPacket(ours.IP.String(), "172.7.31.2", 64, "hello"))
		_ = socket.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := socket.Read(datagram); err == nil {
			return fmt.Errorf("%x", datagram[:n])
		}
		return nil
	})
}

// plainPeer is a host on which wireguard-go runs alone, configured by hand.
type plainPeer struct {
	*node
	t   *testing.T
	key wgtypes.Key
}

func (c *cluster) newPlainPeer(name string) *plainPeer {
	c.t.Helper()
	p := &plainPeer{node: c.newNode(name, 7, 31), t: c.t}
	startWireguardGo(c.t, p.Host, "wg0")
	p.setKey()
	p.Shell("ip link set wg0 up; ip addr add 172.7.31.0/32 dev wg0; ip route add 172.7.0.0/16 dev wg0")
	return p
}

func (p *plainPeer) setKey() {
	p.t.Helper()
	var err error
	if p.key, err = wgtypes.GeneratePrivateKey(); err != nil {
		p.t.Fatal(err)
	}
	port := 51820
	p.wg(p.t, "wg0", &wgtypes.Config{PrivateKey: &p.key, ListenPort: &port})
}

// peers enters hosts with their own keys, beside those it has.
func (p *plainPeer) peers(hosts ...*node) {
	p.t.Helper()
	var config wgtypes.Config
	for _, h := range hosts {
		_, subnet, err := net.ParseCIDR(h.subnet)
		if err != nil {
			p.t.Fatal(err)
		}
		config.Peers = append(config.Peers, wgtypes.PeerConfig{
			PublicKey: h.keyFile(p.t).PublicKey(), Endpoint: &net.UDPAddr{IP: h.IP.AsSlice(), Port: 51820},
			AllowedIPs: []net.IPNet{*subnet}, ReplaceAllowedIPs: true,
		})
	}
	p.wg(p.t, "wg0", &config)
}

// TestPlainWireGuardPeer: a host with WireGuard and nothing else, whose lease was written by hand
// as flannel 0.28 writes it, and as earlier ones, without the port.
func TestPlainWireGuardPeer(t *testing.T) {
	c := newModes(t, nil, lab.EtcdOptions{Newest: true}, wireguardMode)
	c.connected(soon)
	p := c.newPlainPeer("hdss7-31")
	const key = leases + "172.7.31.0-24"
	lease := func(port string) {
		c.etcd.Set(key, fmt.Sprintf(`{"PublicIP":"10.4.7.31","PublicIPv6":null,"BackendType":"wireguard","BackendData":{"PublicKey":"%v"%s}}`, p.key.PublicKey(), port))
	}
	lease(`,"Port":51820`)
	p.peers(c.hosts...)
	p.box = p.Container("c1")
	c.hosts = append(c.hosts, p.node)
	c.connected(soon)
	ours := c.hosts[0]
	onlyPeers := func(keys ...wgtypes.Key) {
		t.Helper()
		lab.Eventually(t, soon, "no other peers", func() error {
			d := ours.wg(t, "flannel-wg", nil)
			for _, k := range keys {
				if !strings.Contains(wgText(d), "peer "+k.String()) {
					return fmt.Errorf("no %v in\n%s", k, wgText(d))
				}
			}
			if len(d.Peers) != len(keys) {
				return fmt.Errorf("%s", wgText(d))
			}
			return nil
		})
	}
	other := c.hosts[1].keyFile(t).PublicKey()
	onlyPeers(other, p.key.PublicKey())

	// Either side starts anew.
	ours.daemon.Kill()
	ours.daemon.Restart()
	ours.daemon.WaitReady()
	c.connected(soon)

	// It gets another key: the first one goes.
	p.setKey()
	lease("")
	c.connected(2 * soon)
	onlyPeers(other, p.key.PublicKey())

	// We get another key: it is in our lease.
	before := ours.keyFile(t)
	ours.Run("rm", ours.KeyFile())
	lab.Eventually(t, soon, "another key in the lease", func() error {
		if v := c.etcd.Get(ours.leaseKey()).Value; strings.Contains(v, before.PublicKey().String()) {
			return fmt.Errorf("%s", v)
		}
		return nil
	})
	p.peers(ours) // whose subnet moves to the new key
	c.connected(2 * soon)

	c.etcd.Delete(key)
	onlyPeers(other)
}
