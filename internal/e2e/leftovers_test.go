package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"flanneld/internal/lab"
	"flanneld/pkg/status"
)

// TestLeftoversOfV011 has hosts with routes that v0.11 left when subnets had other
// holders: one in the host's own subnet, one to a peer's.
func TestLeftoversOfV011(t *testing.T) {
	c := start(t, hostGW, "hdss7-22")
	h21 := c.joinAs("hdss7-21", func(h *lab.Host, _ *lab.FlanneldOptions) {
		h.Shell(`ip route add 172.7.21.0/24 via 10.4.7.22 dev ens33
			ip route add 172.7.60.0/24 via 10.4.7.50 dev ens33
			ip route add 172.7.70.0/24 via 10.4.7.70 dev ens33`)
	})
	h21.box = h21.Container("c1")
	c.connected(soon)
	h21.daemon.WaitLog("it led packets for this host's own containers away")
	h60 := c.join("hdss7-60")
	h60.box = h60.Container("c1")
	c.connected(soon)
	const routes = "172.7.22.0/24 via 10.4.7.22 dev ens33 proto 77\n172.7.60.0/24 via 10.4.7.60 dev ens33 proto 77\n" +
		"172.7.70.0/24 via 10.4.7.70 dev ens33" // which nobody has leased, and which is in nobody's way
	eventually(t, "the routes", h21.routes, routes)
	clean(t, h21, "all to be well", "")
}

// TestRouteIntoTheOwnSubnet: what is not flannel's stays, and is told everywhere.
func TestRouteIntoTheOwnSubnet(t *testing.T) {
	c := start(t, hostGW, "hdss7-22")
	h := c.joinAs("hdss7-21", func(h *lab.Host, _ *lab.FlanneldOptions) {
		h.Shell("ip route add 172.7.21.0/24 via 10.4.7.22 dev ens33 proto static")
	})
	h.box = h.Container("c1")
	const text = "it leads packets away that are for the containers of this host, 172.7.21.0/24: " +
		"to give them back, type: ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 4"
	h.daemon.WaitLog(text)
	out, code := runCommand(t, h.Host, "status")
	expect(t, "status", out, code, 1, text)
	notReady(t, h, text)
	trouble{
		on: h, do: func() {}, step: "own routes", text: "leave by the route 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 4",
		fix: "ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 4",
	}.find(t)
	c.connected(soon)
	notReady(t, h, "")
}

// TestRouteInPlaceOfDockers: what "ip route replace" has put in the place of docker0's own route goes, or is told, and so
// is that docker0's is missing. The commands that check prints, typed one after the other, give the containers back.
func TestRouteInPlaceOfDockers(t *testing.T) {
	c := start(t, hostGW, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	for _, protocol := range []string{"boot", "static"} {
		h.Shell("ip route replace 172.7.21.0/24 via 10.4.7.22 dev ens33 proto " + protocol)
		notReady(t, h, "172.7.21.0/24")
		found, _ := checked(t, h, "")
		text := shown(found)
		if protocol == "static" {
			del := "ip route del 172.7.21.0/24 via 10.4.7.22 dev ens33 proto 4"
			if !strings.Contains(text, del) {
				t.Fatalf("check does not print %s:\n%s", del, text)
			}
			h.typed(t, del)
		}
		put := "ip route replace 172.7.21.0/24 dev docker0 proto kernel scope link src 172.7.21.1"
		if !strings.Contains(text, put) {
			t.Fatalf("check does not print %s:\n%s", put, text)
		}
		h.typed(t, put)
		notReady(t, h, "")
		c.connected(soon)
		clean(t, h, "all to be well", "")
	}
}

// TestPeersAddressHere: a peer's addresses on this host keep packets for its containers here. What check prints takes
// the address away, and not a route that is made by it.
func TestPeersAddressHere(t *testing.T) {
	for name, tt := range map[string]struct{ do, fix string }{
		"a bridge":      {"ip link add br-old type bridge; ip addr add 172.7.22.1/24 dev br-old; ip link set br-old up", "ip addr del 172.7.22.1/24 dev br-old"},
		"one address":   {"ip addr add 172.7.22.1/32 dev lo", "ip addr del 172.7.22.1/32 dev lo"},
		"a local route": {"ip route add local 172.7.22.0/24 dev lo", "ip route show table local match 172.7.22.1"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, hostGW, "hdss7-22")
			h := c.joinAs("hdss7-21", func(h *lab.Host, _ *lab.FlanneldOptions) { h.Shell(tt.do) })
			h.daemon.WaitReady()
			h.box = h.Container("c1")
			lab.Eventually(t, soon, "the command", func() error {
				if found, _ := checked(t, h, ""); !strings.Contains(shown(found), tt.fix) {
					return fmt.Errorf("check prints\n%s", shown(found))
				}
				return nil
			})
			h.typed(t, tt.fix)
			if strings.Contains(tt.fix, "local") {
				h.typed(t, "ip route del local 172.7.22.0/24 dev lo table local")
			}
			c.connected(soon)
			clean(t, h, "all to be well", "")
		})
	}
}

// TestDeviceOfUDP: flannel0, which flannel's default backend udp has, is nothing that this host depends on.
func TestDeviceOfUDP(t *testing.T) {
	c := start(t, vxLAN, "hdss7-22")
	h := c.joinAs("hdss7-21", func(h *lab.Host, _ *lab.FlanneldOptions) {
		h.Shell("ip tuntap add flannel0 mode tun; ip addr add 172.7.21.0/16 dev flannel0; ip link set flannel0 up")
	})
	h.daemon.WaitReady()
	h.box = h.Container("c1")
	c.connected(soon)
	clean(t, h, "all to be well", "")
}

// notReady wants a host to be not ready for a reason; "": to be ready.
func notReady(t *testing.T, h *node, reason string) {
	t.Helper()
	lab.Eventually(t, soon, fmt.Sprintf("the reason %q", reason), func() error {
		out, _ := runCommand(t, h.Host, "status", "-o", "json")
		var s status.Status
		if json.NewDecoder(strings.NewReader(out)).Decode(&s) != nil || s.Daemon == nil {
			return errors.New(out) // it is starting
		}
		d := s.Daemon
		if d.Ready != (reason == "") || !strings.Contains(d.Reason, reason) {
			return fmt.Errorf("ready: %t, reason: %q", d.Ready, d.Reason)
		}
		return nil
	})
}

// TestForeignConfiguration has a network manager configure flanneld's device, as dhcpcd
// does where nobody tells it not to.
func TestForeignConfiguration(t *testing.T) {
	c := start(t, vxLAN, "hdss7-21", "hdss7-22")
	h := c.hosts[0]
	const text = "route 0.0.0.0/0 via 10.4.7.126 dev flannel.1 proto 3 is none of flanneld's"
	h.Shell("ip addr add 10.4.7.125/25 dev flannel.1; ip route replace default via 10.4.7.126 dev flannel.1")
	h.daemon.WaitLog(strings.ToUpper(text[:1]) + text[1:])
	notReady(t, h, "leads 10.4.7.12 (etcd) into the network")
	out, code := runCommand(t, h.Host, "check")
	expect(t, "check", out, code, 1, "FAULT    foreign", text, "ip addr del 10.4.7.125/25 dev flannel.1")
	// A daemon that starts now does not reach etcd, and says why.
	h.daemon.Kill()
	h.daemon.Restart()
	notReady(t, h, "leads 10.4.7.12 (etcd) into the network")
	out, code = runCommand(t, h.Host, "check")
	expect(t, "check", out, code, 1, "FAULT    foreign", text)
	h.typed(t, "ip route del 0.0.0.0/0 via 10.4.7.126 dev flannel.1 proto 3")
	h.typed(t, "ip addr del 10.4.7.125/25 dev flannel.1")
	h.daemon.WaitReady()
	notReady(t, h, "")
	clean(t, h, "all to be well", "")
	c.connected(soon)

	// A harmless one is told, and keeps nobody from being ready.
	h.Shell("ip addr add 169.254.8.9/16 dev flannel.1")
	h.daemon.WaitLog("Address 169.254.8.9/16 on flannel.1 is none of flanneld's")
	notReady(t, h, "")

	// What flannel up to 0.7 has put there goes.
	h.daemon.Stop()
	h.Shell("ip addr del 169.254.8.9/16 dev flannel.1; ip addr add 172.7.21.0/16 dev flannel.1; ip link set flannel.1 alias ''")
	h.daemon.Restart()
	h.daemon.WaitReady()
	eventually(t, "the device's addresses", func() string {
		return strings.Join(strings.Fields(h.Run("sh", "-c", "ip -4 -br addr show dev flannel.1"))[2:], " ")
	}, "172.7.21.0/32")
	notReady(t, h, "")
}
