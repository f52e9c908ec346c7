package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"flanneld/internal/lab"
)

// broken is a node with an iptables that does what a test wants.
type broken struct {
	*node
	bin, real string // directories
}

// joinBroken adds a host with policy DROP and a daemon whose iptables are scripts.
func (c *cluster) joinBroken(number int, scripts map[string]string) *broken {
	c.t.Helper()
	h := c.Host(fmt.Sprintf("hdss7-%d", number), fmt.Sprintf("10.4.7.%d/24", number))
	h.SubnetEnv(fmt.Sprintf("172.7.%d.1/24", number))
	b := &broken{&node{Host: h, subnet: fmt.Sprintf("172.7.%d.0/24", number)}, filepath.Join(h.Dir(), "bin"), filepath.Join(h.Dir(), "real")}
	for _, dir := range []string{b.bin, b.real} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := lab.IPTablesAs("iptables-nft", b.real); err != nil {
		c.t.Fatal(err)
	}
	h.Shell(b.real + "/iptables -P FORWARD DROP")
	for _, end := range []string{"", "-save", "-restore"} {
		b.script(c.t, end, scripts[end])
	}
	b.daemon = h.FlanneldAs(func(o *lab.FlanneldOptions) {
		o.Args = append(o.Args, "--ip-masq", "--firewall=iptables", "--iptables-resync=1", "--healthz-port=2401")
		o.Env = []string{"PATH=" + b.bin + ":" + os.Getenv("PATH")}
	})
	c.hosts = append(c.hosts, b.node)
	return b
}

// script has a program of iptables run a line of shell first.
func (b *broken) script(t *testing.T, end, line string) {
	t.Helper()
	name := filepath.Join(b.bin, "iptables"+end)
	text := "#!/bin/sh\n" + line + "\nexec " + filepath.Join(b.real, "iptables"+end) + ` "$@"` + "\n"
	if err := os.WriteFile(name+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func (n *node) readiness() string {
	reply, err := n.TryGet("http://127.0.0.1:2401/readyz")
	if err != nil {
		return err.Error() + reply
	}
	return strings.TrimSpace(reply)
}

// TestBrokenIPTablesIsNotReady: under policy DROP, an iptables that hangs and one that
// says yes and writes nothing keep the host from being ready, not from routing.
func TestBrokenIPTablesIsNotReady(t *testing.T) {
	c := start(t, hostGW, "hdss7-21")
	hang := filepath.Join(t.TempDir(), "hang")
	if err := os.WriteFile(hang, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	hangs := "while [ -e " + hang + " ]; do sleep 0.1; done"
	h22 := c.joinBroken(22, map[string]string{"": hangs, "-save": hangs, "-restore": hangs})
	h23 := c.joinBroken(23, map[string]string{"-restore": "exit 0"})
	for h, says := range map[*broken]string{
		h22: "iptables has not answered for more than 3 seconds",
		h23: "iptables-restore reported success, but the rules are not there",
	} {
		lab.Eventually(t, soon, "the reason on "+h.Name, func() error {
			reply, err := h.Client().Get("http://127.0.0.1:2401/readyz")
			if err != nil {
				return err
			}
			defer reply.Body.Close()
			body := make([]byte, 2000)
			n, _ := reply.Body.Read(body)
			if reply.StatusCode != 503 || !strings.Contains(string(body[:n]), says) {
				return fmt.Errorf("%s: %s", reply.Status, body[:n])
			}
			return nil
		})
	}
	for _, b := range []*broken{h22, h23} {
		for _, n := range []*node{h22.node, h23.node, c.hosts[0]} {
			if b.node != n && !strings.Contains(b.Run("ip", "route"), n.subnet) {
				t.Errorf("%s has no route to %s", b.Name, n.subnet)
			}
		}
	}
	if n := strings.Count(h22.daemon.Log(), "has not answered"); n != 1 {
		t.Errorf("%d lines about an iptables that hangs:\n%s", n, h22.daemon.Log())
	}
	if err := os.Remove(hang); err != nil {
		t.Fatal(err)
	}
	h23.script(t, "-restore", "")
	for _, b := range []*broken{h22, h23} {
		eventually(t, b.Name+" is ready", b.readiness, "ready")
		b.daemon.WaitReady()
		b.box = b.Container("c1")
	}
	c.connected(soon)
}
