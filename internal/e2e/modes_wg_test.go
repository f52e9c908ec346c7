package e2e

import (
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"flanneld/internal/lab"
)

// wgEnv makes this test binary a program for WireGuard devices: wg(8) by wgctrl, where it
// is "wg", or wireguard-go for the device that it names.
const wgEnv = "FLANNELD_TEST_WG"

// wgCall is what wg is to do; first to change the device, where Set is not nil.
type wgCall struct {
	Device string
	Set    *wgtypes.Config
}

type wgAnswer struct {
	Device *wgtypes.Device
	Err    string
}

func wgProgram(name string) {
	var err error
	if name == "wg" {
		err = wgServe()
	} else {
		err = wireguardGo(name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func wgServe() error {
	var call wgCall
	if err := gob.NewDecoder(os.Stdin).Decode(&call); err != nil {
		return err
	}
	client, err := wgctrl.New()
	if err != nil {
		return err
	}
	defer client.Close()
	var a wgAnswer
	if call.Set != nil {
		err = client.ConfigureDevice(call.Device, *call.Set)
	}
	if err == nil {
		a.Device, err = client.Device(call.Device)
	}
	if err != nil {
		a.Err = err.Error()
	}
	return gob.NewEncoder(os.Stdout).Encode(a)
}

// wireguardGo is the program of that name, until its input ends.
func wireguardGo(name string) error {
	d, err := lab.WireGuardGo(name, 1420)
	if err == nil {
		err = lab.ServeWireGuardGo(d, name)
	}
	if err != nil {
		return err
	}
	if _, err := fmt.Println("up"); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// startWGProgram starts wgProgram on a host, where it sees what the host's daemon sees.
func startWGProgram(t *testing.T, h *lab.Host, name string) (cmd *lab.Cmd, to io.WriteCloser, from io.Reader) {
	t.Helper()
	cmd = h.Command(testBinary(t))
	cmd.Env = append(os.Environ(), wgEnv+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	to, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err = cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.StartAsDaemon(cmd); err != nil {
		t.Fatal(err)
	}
	return cmd, to, from
}

// tryWG asks a device of the host what it is, after it was told something.
func (n *node) tryWG(t *testing.T, dev string, set *wgtypes.Config) (*wgtypes.Device, error) {
	t.Helper()
	cmd, to, from := startWGProgram(t, n.Host, "wg")
	defer func() { _ = cmd.Wait() }()
	var a wgAnswer
	err := gob.NewEncoder(to).Encode(wgCall{dev, set})
	if err == nil {
		err = gob.NewDecoder(from).Decode(&a)
	}
	if err == nil && a.Err != "" {
		err = fmt.Errorf("%s of %s: %s", dev, n, a.Err)
	}
	return a.Device, err
}

// wg is tryWG for what must succeed.
func (n *node) wg(t *testing.T, dev string, set *wgtypes.Config) *wgtypes.Device {
	t.Helper()
	d, err := n.tryWG(t, dev, set)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wgText is the device as `wg showconf` would have it: no counters, no ages, the peers in order.
func wgText(d *wgtypes.Device) string {
	peers := make([]string, 0, len(d.Peers))
	for _, p := range d.Peers {
		var allowed []string
		for _, a := range p.AllowedIPs {
			allowed = append(allowed, a.String())
		}
		slices.Sort(allowed)
		text := fmt.Sprintf("peer %v endpoint %v allowed %s", p.PublicKey, p.Endpoint, strings.Join(allowed, ","))
		if p.PresharedKey != (wgtypes.Key{}) {
			text += fmt.Sprintf(" psk %v", p.PresharedKey)
		}
		if p.PersistentKeepaliveInterval != 0 {
			text += fmt.Sprintf(" keepalive %v", p.PersistentKeepaliveInterval)
		}
		peers = append(peers, text)
	}
	slices.Sort(peers)
	return fmt.Sprintf("key %v port %d\n%s", d.PrivateKey, d.ListenPort, strings.Join(peers, "\n"))
}

// startWireguardGo runs that program alone on a host, and sets its device up.
func startWireguardGo(t *testing.T, h *lab.Host, dev string) {
	t.Helper()
	cmd, to, from := startWGProgram(t, h, dev)
	t.Cleanup(func() { to.Close(); _ = cmd.Wait() })
	said := make([]byte, 3)
	if _, err := io.ReadFull(from, said); err != nil {
		t.Fatalf("wireguard-go on %s: %v", h, err)
	}
}
