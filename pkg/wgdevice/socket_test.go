package wgdevice_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
	"flanneld/pkg/wgdevice"
)

const socketPath = "/var/run/wireguard/" + dev + ".sock"

// TestSocket looks at the socket by which wg(8) finds a device.
func TestSocket(t *testing.T) {
	c := wgdevice.New()
	defer c.Close()
	if err := os.MkdirAll("/var/run/wireguard", 0o700); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close() // as one that was killed leaves it
	if err := c.StartUserspace(dev, 1420); err != nil {
		t.Fatal(err)
	}
	wantMode(t, socketPath, os.ModeSocket|0o600)
	client, err := net.Dial("unix", socketPath)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	t.Run("is another's", func(t *testing.T) {
		other := wgdevice.New()
		defer other.Close()
		if err := other.StartUserspace(dev, 1420); err == nil {
			t.Error("two attached to one TUN device")
		}
		wantMode(t, socketPath, os.ModeSocket|0o600)
	})
	c.Close() // although somebody is connected
	if err := client.SetReadDeadline(time.Now().Add(enough)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection is still there: %v", err)
	}
	if _, err := os.Stat(socketPath); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// TestSocketOfAnotherProcess has a device run although its socket cannot be had, as
// where two network namespaces have one /run.
func TestSocketOfAnotherProcess(t *testing.T) {
	if err := os.MkdirAll("/var/run/wireguard", 0o700); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", socketPath)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c := wgdevice.New()
	defer c.Close()
	want := wgdevice.Settings{Private: wgdevice.NewSecret(), ListenPort: 51820}
	if _, _, err := c.Read(dev); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the other's device is taken for one of here: %v", err)
	}
	if err := c.StartUserspace(dev, 1420); err != nil {
		t.Fatal(err)
	}
	if err := c.Configure(dev, want); err != nil {
		t.Fatal(err)
	}
	if s, _, err := c.Read(dev); err != nil || s != want {
		t.Errorf("it is %v: %v", s, err)
	}
	c.Close()
	wantMode(t, socketPath, os.ModeSocket|0o755)
}

// TestPortInUse has a device wait for a port that somebody else has.
func TestPortInUse(t *testing.T) {
	other, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 51820})
	if err != nil {
		t.Fatal(err)
	}
	c := wgdevice.New()
	defer c.Close()
	if err := c.StartUserspace(dev, 1420); err != nil {
		t.Fatal(err)
	}
	want := wgdevice.Settings{Private: wgdevice.NewSecret(), ListenPort: 51820}
	for range 2 {
		if err := c.Configure(dev, want); err == nil || !strings.Contains(err.Error(), "choose another ListenPort") {
			t.Errorf("the error is %v", err)
		}
		if s, _, err := c.Read(dev); err != nil || s == want {
			t.Errorf("it is told as %v: %v", s, err)
		}
	}
	other.Close()
	if err := c.Configure(dev, want); err != nil {
		t.Fatal(err)
	}
	if s, _, err := c.Read(dev); err != nil || s != want {
		t.Errorf("it is %v: %v", s, err)
	}
	if _, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 51820}); err == nil {
		t.Error("nothing listens at the port")
	}
}

// TestMTU sets it by a second start, and by hand.
func TestMTU(t *testing.T) {
	l := lab.New(t)
	a, b := join(t, l, 21), join(t, l, 22)
	a.set(b.plainPeer())
	b.set(a.plainPeer())
	a.do(call{Op: "start", Name: dev, MTU: 1300})
	if link := a.Run("ip", "link", "show", dev); !strings.Contains(link, "mtu 1300") {
		t.Errorf("a second start: %s", link)
	}
	a.Run("ip", "link", "set", dev, "mtu", "1280")
	if a.changed(); a.changed() {
		t.Error("the MTU is told as an edit")
	}
	a.Reach(b.inner(inet.IPv4), enough)
}
