package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/status"
)

// routerEnv makes this test binary a router on eth0 that advertises this prefix, once.
const routerEnv = "FLANNELD_TEST_ROUTER"

// advertise sends a router advertisement (RFC 4861 section 4.2).
func advertise(prefix netip.Prefix) error {
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return err
	}
	defer conn.Close()
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	body := []byte{64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}                           // a router for half an hour
	body = append(body, 3, 4, 64, 0xc0, 0, 0, 0x27, 0x0f, 0, 0, 0x27, 0x0f, 0, 0, 0, 0) // a network for 9999 s
	m := icmp.Message{Type: ipv6.ICMPTypeRouterAdvertisement, Body: &icmp.RawBody{Data: append(body, prefix.Addr().AsSlice()...)}}
	packet, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	p := ipv6.NewPacketConn(conn)
	if err := errors.Join(p.SetMulticastHopLimit(255), p.SetMulticastInterface(link)); err != nil {
		return err
	}
	_, err = p.WriteTo(packet, nil, &net.IPAddr{IP: net.IPv6linklocalallnodes, Zone: link.Name})
	return err
}

// TestRouterAdvertisements: a host that has its default route and an address by them keeps
// both, if it begins to forward as check says. Otherwise it loses the route at once.
func TestRouterAdvertisements(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	layNetwork(t)
	t.Cleanup(func() { sh(t, "sysctl -qw net.ipv6.conf.all.forwarding=0") })
	byRouter := func() bool {
		out, err := exec.Command("ip", "-6", "route", "show", "default", "dev", "ens33", "proto", "ra").CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return len(out) > 0
	}
	heard := func() {
		t.Helper()
		lab.Eventually(t, 10*time.Second, "a default route", func() error {
			sh(t, "ip netns exec far env "+routerEnv+"=2001:db8:4:7::/64 "+program)
			if !byRouter() {
				return errors.New("there is none")
			}
			return nil
		})
	}
	s := *asIn(inet.IPv6, healthy()).Status
	s.Etcd, s.Device, s.Peers = status.Etcd{}, nil, nil
	found := func() Finding {
		f := read(t.Context(), status.SocketOf(status.DefaultPrefix), func(context.Context) (status.Status, error) { return s, nil })
		for _, x := range Run(f, nil) {
			if x.Step == "forwarding" {
				return x
			}
		}
		return Finding{}
	}

	heard()
	off := found()
	if off.Level != Fault || off.Text != "this host forwards no packets: net.ipv6.conf.all.forwarding is 0" {
		t.Fatalf("%+v", off)
	}
	sh(t, "sysctl -qw net.ipv6.conf.all.forwarding=1")
	if byRouter() {
		t.Error("the route stays by itself: then check says too much")
	}
	deaf := found()
	if deaf.Level != Fault || !strings.HasPrefix(deaf.Text, "ens33 takes no router advertisements, as this host forwards") {
		t.Fatalf("%+v", deaf)
	}
	sh(t, deaf.Fix[0])
	heard()
	if x := found(); x.Level != OK || x.Text != "on" {
		t.Errorf("%+v", x)
	}

	sh(t, "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.ens33.accept_ra=1")
	heard()
	sh(t, found().Fix[0])
	if x := found(); !byRouter() || x.Level != OK || x.Text != "on" {
		t.Errorf("%t, %+v", byRouter(), x)
	}
}

// TestSettingsOfInterfaces: a dot in an interface's name is told from those that separate.
func TestSettingsOfInterfaces(t *testing.T) {
	for key, want := range map[string][2]string{
		"net.ipv4.ip_forward":                  {"/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"},
		"net.ipv4.conf.flannel.1.rp_filter":    {"/proc/sys/net/ipv4/conf/flannel.1/rp_filter", "net.ipv4.conf.flannel/1.rp_filter"},
		"net.ipv6.conf.all.forwarding":         {"/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"},
		"net.ipv6.conf.flannel-v6.1.accept_ra": {"/proc/sys/net/ipv6/conf/flannel-v6.1/accept_ra", "net.ipv6.conf.flannel-v6/1.accept_ra"},
		"net.bridge.bridge-nf-call-ip6tables":  {"/proc/sys/net/bridge/bridge-nf-call-ip6tables", "net.bridge.bridge-nf-call-ip6tables"},
		"net.ipv6.conf.a.b.c.d.disable_ipv6":   {"/proc/sys/net/ipv6/conf/a.b.c.d/disable_ipv6", "net.ipv6.conf.a/b/c/d.disable_ipv6"},
	} {
		if file, set := sysctlFile(key), assignment(key, 7); file != want[0] || set != fmt.Sprint(want[1], "=7") {
			t.Errorf("%s: %s, %s", key, file, set)
		}
	}
}
