package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// modeFault is what somebody does on hdss7-21: by a shell, or by wg(8).
type modeFault struct {
	name     string
	commands string
	wg       func(d *wgtypes.Device) wgtypes.Config
}

// deviceFaults are those of any tunnel of user space.
func deviceFaults(dev string, f inet.Family) []modeFault {
	fill := strings.NewReplacer("DEV", dev, "ip route", "ip -4 route", "NETWORK", "172.7.0.0/16")
	if f == inet.IPv6 {
		fill = strings.NewReplacer("DEV", dev, "ip route", "ip -6 route", "NETWORK", "fc00:7::/48")
	}
	all := []modeFault{
		{name: "route deleted", commands: "ip route del NETWORK"},
		{name: "route edited", commands: "ip route replace NETWORK dev DEV proto 77 mtu 700"},
		{name: "all routes of ours flushed", commands: "ip route flush proto 77"},
		{name: "address deleted", commands: "ip addr flush dev DEV"},
		{name: "device set down", commands: "ip link set DEV down"},
		{name: "MTU changed", commands: "ip link set DEV mtu 1000"},
		{name: "device deleted", commands: "ip link del DEV"},
		{name: "device replaced by a stranger's TUN", commands: "ip link del DEV; ip tuntap add mode tun DEV || true"},
		{name: "device replaced, and that one removed", commands: "ip link del DEV; ip link add DEV type dummy && sleep 0.3; ip link del DEV || true"},
	}
	for i := range all {
		all[i].commands = fill.Replace(all[i].commands)
	}
	return all
}

// peerFaults are what wg(8) can do.
func peerFaults(t *testing.T) []modeFault {
	secret := func() *wgtypes.Key {
		k, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		return &k
	}
	cidr := func(text string) []net.IPNet {
		_, n, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		return []net.IPNet{*n}
	}
	number := func(n int) *int { return &n }
	second := time.Second
	peer := func(change func(*wgtypes.PeerConfig)) func(*wgtypes.Device) wgtypes.Config {
		return func(d *wgtypes.Device) wgtypes.Config {
			p := wgtypes.PeerConfig{PublicKey: d.Peers[0].PublicKey}
			change(&p)
			return wgtypes.Config{Peers: []wgtypes.PeerConfig{p}}
		}
	}
	return []modeFault{
		{name: "peer removed", wg: peer(func(p *wgtypes.PeerConfig) { p.Remove = true })},
		{name: "all peers removed", wg: func(*wgtypes.Device) wgtypes.Config { return wgtypes.Config{ReplacePeers: true} }},
		{name: "peer added", wg: peer(func(p *wgtypes.PeerConfig) { p.PublicKey, p.AllowedIPs = *secret(), cidr("172.7.99.0/24") })},
		{name: "peer added that takes packets", wg: peer(func(p *wgtypes.PeerConfig) { p.PublicKey, p.AllowedIPs = *secret(), cidr("172.7.22.0/24") })},
		{name: "endpoint changed", wg: peer(func(p *wgtypes.PeerConfig) { p.Endpoint = &net.UDPAddr{IP: net.IPv4(10, 4, 7, 99), Port: 51820} })},
		{name: "allowed IPs taken away", wg: peer(func(p *wgtypes.PeerConfig) { p.ReplaceAllowedIPs = true })},
		{name: "allowed IPs added", wg: peer(func(p *wgtypes.PeerConfig) { p.AllowedIPs = cidr("10.0.0.0/8") })},
		{name: "PSK set", wg: peer(func(p *wgtypes.PeerConfig) { p.PresharedKey = secret() })},
		{name: "keepalive set", wg: peer(func(p *wgtypes.PeerConfig) { p.PersistentKeepaliveInterval = &second })},
		{name: "private key changed", wg: func(*wgtypes.Device) wgtypes.Config { return wgtypes.Config{PrivateKey: secret()} }},
		{name: "port changed", wg: func(*wgtypes.Device) wgtypes.Config { return wgtypes.Config{ListenPort: number(51999)} }},
	}
}

// What is undone by hand is put back, and containers ping again.
func TestRepairsOfUDP(t *testing.T) {
	c := newModes(t, nil, lab.EtcdOptions{}, udpMode)
	c.connected(soon)
	c.repairsModes(t, "flannel0", deviceFaults("flannel0", inet.IPv4))
	c.restartsOfModes(t)
	c.portTaken(t, "flannel0", 8285)
}

func TestRepairsOfWireGuard(t *testing.T) {
	both := lab.Stacks[2]
	c := newModes(t, both, lab.EtcdOptions{Newest: true}, both.Config(`{"Type": "wireguard"}`))
	c.connected(soon)
	c.repairsModes(t, "flannel-wg", append(peerFaults(t), deviceFaults("flannel-wg", inet.IPv4)...))
	c.repairsModes(t, "flannel-wg-v6", append(peerFaults(t)[:1], deviceFaults("flannel-wg-v6", inet.IPv6)...))
	c.restartsOfModes(t)
	c.portTaken(t, "flannel-wg", 51820)
}

func (c *cluster) repairsModes(t *testing.T, dev string, faults []modeFault) {
	t.Helper()
	h21 := c.hosts[0]
	state := func() string { return h21.tunnelState(t, dev) }
	before := state()
	var report strings.Builder
	defer func() { t.Log(report.String()) }()
	fmt.Fprintf(&report, "\n%-38s  repaired after\n", "fault")
	for _, f := range faults {
		if f.wg != nil {
			change := f.wg(h21.wg(t, dev, nil))
			h21.wg(t, dev, &change)
		} else {
			h21.Shell(f.commands)
		}
		began := time.Now()
		eventually(t, "repair of: "+f.name, state, before)
		repaired := time.Since(began)
		c.connected(soon)
		fmt.Fprintf(&report, "%-38s  %v, pings after %v\n", f.name, repaired.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
}

// restartsOfModes starts the daemon again, where nobody keeps descriptors for it: nobody carries
// packets meanwhile, and containers reach each other at once afterwards.
func (c *cluster) restartsOfModes(t *testing.T) {
	t.Helper()
	h21, h22 := c.hosts[0], c.hosts[1]
	for _, end := range []struct {
		name string
		do   func()
	}{{"stopped", h21.daemon.Stop}, {"killed", h21.daemon.Kill}} {
		there, back := h21.box.PingEvery(time.Millisecond, h22.box), h22.box.PingEvery(time.Millisecond, h21.box)
		time.Sleep(100 * time.Millisecond)
		end.do()
		h21.daemon.Restart()
		took := h21.daemon.WaitReady()
		began := time.Now()
		h21.box.Reach(h22.box, soon)
		h22.box.Reach(h21.box, soon)
		reached := time.Since(began)
		time.Sleep(100 * time.Millisecond)
		t.Logf("%s, ready after %v, reached %v later; there %v; back %v", end.name, took.Round(time.Millisecond), reached.Round(time.Millisecond), there.Stop(), back.Stop())
	}
}

// tunnelState is all that makes up a tunnel of user space.
func (n *node) tunnelState(t *testing.T, dev string) string {
	show := func(name string, args ...string) string { // the device may be away at this moment
		out, err := n.Try(name, args...)
		if err != nil {
			return "missing: " + err.Error()
		}
		return out
	}
	_, text, _ := strings.Cut(n.deviceText(dev), "<")
	text = strings.Replace(text, " state UP ", " state UNKNOWN ", 1) // so it is once its carrier was away
	_, address, _ := strings.Cut(show("ip", "-o", "addr", "show", "dev", dev, "scope", "global"), dev)
	text += "\n" + address
	if strings.HasPrefix(dev, "flannel-wg") {
		if d, err := n.tryWG(t, dev, nil); err != nil {
			text += "\n" + err.Error()
		} else {
			text += "\n" + wgText(d)
		}
	}
	return n.routes() + "\n" + text
}

// portTaken: another program has the UDP port when the daemon starts, and gives it up.
func (c *cluster) portTaken(t *testing.T, dev string, port int) {
	t.Helper()
	h21, h22 := c.hosts[0], c.hosts[1]
	before := h21.tunnelState(t, dev)
	h21.daemon.Stop()
	holder := h21.Command(testBinary(t))
	holder.Env = append(os.Environ(), fmt.Sprintf("%s=%d", holdEnv, port))
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = holder.Process.Kill(); _ = holder.Wait() }
	defer end()
	lab.Eventually(t, soon, "the port to be held", func() error {
		if bound := h21.Run("cat", "/proc/net/udp"); !strings.Contains(bound, fmt.Sprintf(":%04X ", port)) {
			return errors.New(bound)
		}
		return nil
	})
	h21.daemon.Restart()
	lab.Eventually(t, soon, "a word of the port", func() error {
		out, _ := runCommand(t, h21.Host, "status")
		if !strings.Contains(out, "ss -lunp") {
			return errors.New(out)
		}
		return nil
	})
	end()
	began := time.Now()
	eventually(t, "repair once the port is free", func() string { return h21.tunnelState(t, dev) }, before)
	h21.box.Reach(h22.box, soon)
	h22.box.Reach(h21.box, soon)
	t.Logf("the port %d was free, and containers pinged after %v", port, time.Since(began).Round(time.Millisecond))
	lab.Eventually(t, soon, "the condition to go", func() error {
		if out, _ := runCommand(t, h21.Host, "status"); strings.Contains(out, "problems") {
			return errors.New(out)
		}
		return nil
	})
}
