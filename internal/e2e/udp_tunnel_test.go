package e2e

import (
	"bytes"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"flanneld/internal/lab"
	"flanneld/pkg/udptunnel"
)

// TestTunnelBesideFlannel: a host with our tunnel, programmed by hand, in a cluster of
// flannel 0.28 without a Backend in its config, which is udp. Pings, TCP both ways, and
// what neither carries.
func TestTunnelBesideFlannel(t *testing.T) {
	c := newFlannels(t, lab.Stacks[0], `{"Network": "172.7.0.0/16"}`)
	theirs := c.flannel("hdss7-22")
	theirs.daemon.WaitReady()
	const lease = leases + "172.7.22.0-24"
	if l := c.etcd.Get(lease); l == nil || l.Value != `{"PublicIP":"10.4.7.22","PublicIPv6":null}` {
		t.Errorf("flannel's lease is %+v", l)
	}
	c.etcd.SetTTL(leases+"172.7.21.0-24", `{"PublicIP":"10.4.7.21"}`, 24*time.Hour)
	ours := c.Host("hdss7-21", "10.4.7.21/24").SubnetEnv("172.7.21.1/24")
	tunnel := openTunnel(t, ours)
	err := tunnel.Set([]udptunnel.Route{{Dst: netip.MustParsePrefix("172.7.22.0/24"), To: netip.MustParseAddrPort("10.4.7.22:8285")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{theirs.Shell("ip link show flannel0"), ours.Shell("ip link show flannel0")} {
		if !strings.Contains(line, "mtu 1472") {
			t.Errorf("the device is %s", line)
		}
	}
	a, b := ours.Container("c1"), theirs.Container("c1")
	a.Reach(b, soon)
	b.Reach(a, soon)
	for _, way := range [][2]*lab.Container{{a, b}, {b, a}} {
		from, to := way[0], way[1]
		content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		if got := transfer(t, from, to, content); !bytes.Equal(got, content) {
			t.Errorf("%s gets %d bytes of %d, or others", to.Name, len(got), len(content))
		}
	}
	if s := tunnel.Stats(); s.Out.Packets == 0 || s.In.Packets == 0 || s.In.Dropped != [4]uint64{} {
		t.Errorf("%+v", s)
	}
}

// transfer sends bytes by TCP and returns what arrives.
func transfer(t *testing.T, from, to *lab.Container, content []byte) []byte {
	t.Helper()
	listener := to.Listen("tcp", ":7")
	defer listener.Close()
	go func() {
		if conn, err := from.Dial(t.Context(), "tcp", to.IP.String()+":7"); err == nil {
			_, _ = conn.Write(content)
			_ = conn.Close()
		}
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(soon))
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Error(err)
	}
	return got
}

// openTunnel opens the tunnel on a host, and sets its device up as the daemon does.
func openTunnel(t *testing.T, h *lab.Host) (tunnel *udptunnel.Tunnel) {
	t.Helper()
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // and it ends with the goroutine
		ns, err := netns.GetFromName(h.Netns())
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			tunnel, err = udptunnel.Open(udptunnel.Options{Name: "flannel0", Local: netip.AddrPortFrom(h.IP, 8285)})
		}
		opened <- err
	}()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tunnel.Close() })
	h.Shell(`sed -i s/MTU=1500/MTU=1472/ ` + h.SubnetFile() + `
		ip link set flannel0 mtu 1472 up
		ip addr add 172.7.21.0/32 dev flannel0
		ip route add 172.7.0.0/16 dev flannel0`)
	return tunnel
}
