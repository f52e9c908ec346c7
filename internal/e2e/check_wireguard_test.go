package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/check"
	"flanneld/pkg/wgdevice"
)

// TestCheckWireGuard breaks what only this backend has.
func TestCheckWireGuard(t *testing.T) {
	c := start(t, wireguardMode, "hdss7-21", "hdss7-22")
	h, peer := c.hosts[0], c.hosts[1]
	// What a peer sends by a session that lives, its probes too, hides for three minutes that nothing gets there.
	for _, n := range c.hosts {
		n.daemon.RestartAs(func(o *lab.FlanneldOptions) { o.Args = append(o.Args, "--peer-probes=false") })
		n.daemon.WaitReady()
	}
	notes := []string{"device"} // where the kernel has no WireGuard
	clean(t, h, "all to be well", "", notes...)
	findAll(t, []trouble{
		{name: "the peer lets no datagrams in", on: peer, from: h, how: "iptables -I INPUT -p udp --dport 51820 -j DROP", step: "handshake",
			text: "no handshake with 10.4.7.22 at 10.4.7.22:51820 though packets were sent for 1", fix: "iptables -I INPUT -p udp --dport 51820 -s 10.4.7.0/24 -j ACCEPT", notes: notes},
		{name: "nor does this host", on: h, how: "iptables -I INPUT -p udp --dport 51820 -j DROP", step: "port",
			text: "the tunnel's packets from 10.4.7.22, UDP port 51820, are dropped where they arrive", fix: "iptables -I INPUT -p udp --dport 51820 -s 10.4.7.0/24 -j ACCEPT", notes: notes},
		{name: "a route takes a peer's subnet", on: h, how: "ip route add 172.7.22.0/25 via 10.4.7.12", step: "route",
			text: "packets to 172.7.22.1 leave by ens33 to 10.4.7.12, and should leave by flannel-wg", fix: "ip route del 172.7.22.0/25", notes: append(notes, "flanneld")},
	})
	t.Run("others may read the key", func(t *testing.T) { // the daemon closes it again at once
		h.Shell("chmod 644 " + h.KeyFile())
		lab.Eventually(t, soon, "the key to be closed", func() error {
			info, err := os.Stat(h.KeyFile())
			if err == nil && info.Mode().Perm() != 0o600 {
				err = fmt.Errorf("its mode is %v", info.Mode())
			}
			return err
		})
		clean(t, h, "nothing to be said of the key", "", notes...)
	})
	t.Run("a copied machine", func(t *testing.T) {
		key := read(t, peer.KeyFile())
		twin := &node{Host: c.Host("hdss7-24", "10.4.7.24/24").SubnetEnv("172.7.24.1/24")}
		if err := os.WriteFile(twin.KeyFile(), []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		twin.daemon = twin.Flanneld()
		twin.daemon.WaitReady()
		twin.box = twin.Container("c1")
		for of, text := range map[*node]string{
			h: "10.4.7.22 and 10.4.7.24 have one WireGuard key", twin: "10.4.7.22 and this host have one WireGuard key",
		} {
			lab.Eventually(t, soon, text, func() error {
				found, code := checked(t, of, "")
				if x := firstOf(found, check.Fault); code != 1 || x.Step != "keys" || !strings.Contains(x.Text, text) || !strings.HasPrefix(x.Fix[0], "flanneld wireguard rotate   # ") {
					return fmt.Errorf("exit code %d in\n%s", code, shown(found))
				}
				return nil
			})
		}
		twin.box.TryReach(h.box, 2*time.Second) // in vain, and h takes the twin's address for the peer's
		twin.daemon.Stop()
		_, code := runCommand(t, twin.Host, "wireguard", "rotate", "--wireguard-key-file="+twin.KeyFile())
		if code != 0 {
			t.Fatal(code)
		}
		twin.daemon.Restart()
		twin.daemon.WaitReady()
		clean(t, h, "the keys to differ", "10.4.7.24", notes...)
		h.box.Reach(peer.box, 2*soon)
		if read(t, twin.KeyFile()) == key {
			t.Error("the key is the old one")
		}
	})
	t.Run("the clock was set back", func(t *testing.T) {
		if !lab.StepsClocks {
			return
		}
		h.daemon.StepClock(-time.Hour)
		lab.Eventually(t, soon, "the step to be found", func() error {
			found, code := checked(t, h, "10.4.7.22")
			x := firstOfStep(found, "clock")
			if code != 0 || x.Level != check.Note || !strings.Contains(x.Text, "this host's clock was set back: the last handshake with 10.4.7.2") ||
				!strings.HasPrefix(x.Fix[0], "flanneld wireguard rotate") {
				return fmt.Errorf("exit code %d in\n%s", code, shown(found))
			}
			return nil
		})
	})
}

func firstOfStep(found []check.Finding, step string) check.Finding {
	for _, x := range found {
		if x.Step == step {
			return x
		}
	}
	return check.Finding{}
}

// TestCheckOtherPSK has a peer that is configured by hand, with a PSK where the config has none.
func TestCheckOtherPSK(t *testing.T) {
	c := start(t, wireguardMode, "hdss7-21")
	h, other := c.hosts[0], c.Host("hdss7-25", "10.4.7.25/24")
	private, err := wgdevice.LoadKey(other.KeyFile())
	if err != nil {
		t.Fatal(err)
	}
	public, _ := runCommand(t, h.Host, "status", "-o", "json")
	_, ours, _ := strings.Cut(public, `"public_key": "`)
	ours, _, _ = strings.Cut(ours, `"`)
	byHand := other.Command(testBinary(t))
	byHand.Env = append(os.Environ(), wireguardEnv+"="+other.KeyFile(), peerEnv+"="+ours)
	byHand.Stderr = os.Stderr
	if err := byHand.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = byHand.Process.Kill(); _ = byHand.Wait() }()
	c.etcd.Set(leases+"172.7.25.0-24", fmt.Sprintf(`{"PublicIP":"10.4.7.25","BackendType":"wireguard","BackendData":{"PublicKey":%q,"Port":51820}}`, private.Public()))
	// While it answers this host's tries it makes none of its own, by which it would be heard.
	const knows = "it knows this host's key; UDP port 51820 seems to be blocked there or on the way, or it has another PSK"
	const silent = "or the peer has an old key of this host's, or another PSK, or this host's clock was set back"
	lab.Eventually(t, 3*soon, "the other PSK to be found", func() error {
		found, code := checked(t, h, "")
		if x := firstOf(found, check.Fault); code != 1 || x.Step != "handshake" || !strings.Contains(x.Text, "no handshake with 10.4.7.25 at 10.4.7.25:51820") ||
			!strings.Contains(x.Text, knows) && !strings.Contains(x.Text, silent) {
			return fmt.Errorf("exit code %d in\n%s", code, shown(found))
		}
		return nil
	})
}

const (
	wireguardEnv = "FLANNELD_E2E_WIREGUARD" // a key's file
	peerEnv      = "FLANNELD_E2E_PEER"      // a public key
)

// wireguardByHand is a peer that nothing configures but this; with a PSK of its own.
func wireguardByHand(keyFile, peer string) error {
	private, err := wgdevice.LoadKey(keyFile)
	if err != nil {
		return err
	}
	key, err := wgdevice.ParseKey(peer)
	if err != nil {
		return err
	}
	w := wgdevice.New()
	err = errors.Join(w.StartUserspace("wg-hand", 1420), w.Configure("wg-hand", wgdevice.Settings{Private: private, ListenPort: 51820}))
	if err == nil {
		_, _, err = w.Read("wg-hand")
	}
	if err == nil {
		err = w.SetPeers("wg-hand", []wgdevice.Peer{{
			Key: key, PSK: wgdevice.NewSecret(), Keepalive: 1, Endpoint: netip.MustParseAddrPort("10.4.7.21:51820"),
			Allowed: wgdevice.PrefixesOf(netip.MustParsePrefix("172.7.21.0/24")),
		}}, nil)
	}
	if err != nil {
		return err
	}
	select {}
}

// TestCheckUDP is about the backend that a config without one means.
func TestCheckUDP(t *testing.T) {
	c := start(t, udpMode, "hdss7-21", "hdss7-22")
	h, peer := c.hosts[0], c.hosts[1]
	clean(t, h, "all to be well", "")
	findAll(t, []trouble{
		{name: "the peer lets no datagrams in", on: peer, from: h, how: "iptables -I INPUT -p udp --dport 8285 -j DROP", step: "probe",
			text: "UDP port 8285 seems to be blocked there or on the way", fix: "iptables -I INPUT -p udp --dport 8285 -s 10.4.7.0/24 -j ACCEPT"},
		{name: "nor does this host", on: h, how: "iptables -I INPUT -p udp --dport 8285 -j DROP", step: "port",
			text: "UDP port 8285, are dropped where they arrive", fix: "iptables -I INPUT -p udp --dport 8285 -s 10.4.7.0/24 -j ACCEPT"},
		{name: "the peer does not forward", on: peer, from: h, how: "sysctl -w net.ipv4.ip_forward=0", step: "probe", text: "seems to forward nothing",
			fix: "sysctl -w net.ipv4.ip_forward=1"},
		{name: "the peer's firewall drops what is for containers", on: peer, from: h, how: "iptables -I FORWARD -d 172.7.22.0/24 -j DROP", step: "probe",
			text: "though it forwards: a rule of its firewall seems to drop it", fix: "flanneld check 172.7.21.0/24", repair: func() { peer.Shell("iptables -D FORWARD -d 172.7.22.0/24 -j DROP") }},
		{name: "the peer's daemon is stopped", on: peer, from: h, do: peer.daemon.Stop, step: "probe", text: "nobody listens on its UDP port 8285",
			fix: "flanneld check 172.7.21.0/24", repair: func() { peer.daemon.Restart(); peer.daemon.WaitReady() }},
	})
}
