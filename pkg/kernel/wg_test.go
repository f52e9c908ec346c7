package kernel_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/pkg/kernel"
	"flanneld/pkg/kernel/kerneltest"
	"flanneld/pkg/wgdevice"
)

// typedWG is wg(8), whose package few machines have.
func typedWG(words []string) error {
	c, err := kerneltest.ParseWG(words)
	if err != nil {
		return err
	}
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer client.Close()
	var config wgtypes.Config
	if !c.Private.IsZero() {
		config.PrivateKey = (*wgtypes.Key)(&c.Private)
	}
	if c.Port != 0 {
		config.ListenPort = &c.Port
	}
	if !c.Peer.IsZero() {
		config.Peers = []wgtypes.PeerConfig{typedPeer(c)}
	}
	if err := client.ConfigureDevice(c.Dev, config); err != nil {
		return fmt.Errorf("wg set %s: %w", c.Dev, err)
	}
	return nil
}

func typedPeer(c kerneltest.WG) wgtypes.PeerConfig {
	p := wgtypes.PeerConfig{
		PublicKey: wgtypes.Key(c.Peer), Remove: c.Remove, ReplaceAllowedIPs: c.Replace, PresharedKey: (*wgtypes.Key)(c.PSK),
	}
	if c.Endpoint.IsValid() {
		p.Endpoint = net.UDPAddrFromAddrPort(c.Endpoint)
	}
	if c.Keepalive != nil {
		p.PersistentKeepaliveInterval = new(time.Duration(*c.Keepalive) * time.Second)
	}
	for _, s := range c.Allowed {
		p.AllowedIPs = append(p.AllowedIPs, net.IPNet{IP: s.Addr().AsSlice(), Mask: net.CIDRMask(s.Bits(), s.Addr().BitLen())})
	}
	return p
}

const wgPort = 51820

// secretOf is the private key of host n, keyOf the public one.
func secretOf(n int) wgdevice.Secret {
	return wgdevice.Secret{0: 8, 1: byte(n), 2: byte(n >> 8), 31: 64}
}
func keyOf(n int) wgdevice.Key              { return secretOf(n).Public() }
func endpointOf(n, port int) netip.AddrPort { return netip.AddrPortFrom(ipOf(n), uint16(port)) }

// wgPeer is host n behind flannel-wg.
func wgPeer(n int) kernel.Peer {
	return kernel.Peer{Dev: "flannel-wg", Peer: wgdevice.Peer{
		Key: keyOf(n), Endpoint: endpointOf(n, wgPort), Allowed: wgdevice.PrefixesOf(subnetOf(n)),
	}}
}

// guarded has the device flannel-wg, one route for the network, and the peers.
func guarded(peers ...int) kernel.State {
	d := kernel.Device{
		Name: "flannel-wg", Kind: kernel.WireGuard{Private: secretOf(21), Port: wgPort}, MTU: 1420, Addrs: ownAddr("172.7.21.0"),
	}
	s := kernel.State{Devices: []kernel.Device{d}, Routes: []kernel.Route{wholeBy(d.Name)}}
	for _, n := range peers {
		s.Peers = append(s.Peers, wgPeer(n))
	}
	return s
}

func wholeBy(dev string) kernel.Route {
	return kernel.Route{Dst: netip.MustParsePrefix("172.7.0.0/16"), Dev: dev}
}

// carried is the same by the device flannel0, by udp.
func carried(peers ...int) kernel.State {
	d := kernel.Device{Name: "flannel0", Kind: kernel.UDP{Local: endpointOf(21, 8285)}, MTU: 1472, Addrs: ownAddr("172.7.21.0")}
	s := kernel.State{Devices: []kernel.Device{d}, Routes: []kernel.Route{wholeBy(d.Name)}}
	for _, n := range peers {
		s.Peers = append(s.Peers, kernel.Peer{Dev: d.Name, Peer: wgdevice.Peer{
			Endpoint: endpointOf(n, 8285), Allowed: wgdevice.PrefixesOf(subnetOf(n)),
		}})
	}
	return s
}

// peerLines are a line for each peer, as sorted as texts has them. In them K is the peer's key,
// and N its number.
func peerLines(line string, peers ...int) string {
	var all []string
	for _, n := range peers {
		all = append(all, strings.NewReplacer("{K}", keyOf(n).String(), "{N}", fmt.Sprint(n)).Replace(line))
	}
	slices.Sort(all)
	return "\n" + strings.Join(all, "\n") + "\n"
}

const (
	newGuard = `ip link add flannel-wg mtu 1420 type wireguard
		ip link set flannel-wg alias flanneld
		ip addr add 172.7.21.0/32 dev flannel-wg
		ip link set flannel-wg up`
	newCarrier = `ip tuntap add dev flannel0 mode tun
		ip link set flannel0 alias flanneld
		ip addr add 172.7.21.0/32 dev flannel0
		ip link set flannel0 up`
	wholeByGuard    = "\nip route add 172.7.0.0/16 dev flannel-wg proto 77"
	wholeByCarrier  = "\nip route add 172.7.0.0/16 dev flannel0 proto 77"
	setPeerLine     = `wg set flannel-wg peer {K} endpoint 10.4.7.{N}:51820 allowed-ips 172.7.{N}.0/24`
	removePeerLine  = `wg set flannel-wg peer {K} remove`
	carriedPeerLine = `flannel0: replace 172.7.{N}.0/24 to 10.4.7.{N}:8285`
)

func keyed(n int, text string) string { return strings.ReplaceAll(text, "{K}", keyOf(n).String()) }

// text64 is a private key as wg(8) takes it.
func text64(s wgdevice.Secret) string { return wgdevice.Key(s).String() }
