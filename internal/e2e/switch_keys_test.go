package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"flanneld/internal/lab"
	"flanneld/pkg/inet"
)

// wgKeys are the public keys of the peers that a host's WireGuard device has.
func (n *node) wgKeys(dev string) (keys []string, err error) {
	conn, err := net.DialTimeout("unix", filepath.Join(n.WireGuardDir(), dev+".sock"), time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(soon))
	if _, err := fmt.Fprint(conn, "get=1\n\n"); err != nil {
		return nil, err
	}
	for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != ""; {
		if key, is := strings.CutPrefix(lines.Text(), "public_key="); is {
			raw, err := hex.DecodeString(key)
			if err != nil {
				return nil, err
			}
			if text := base64.StdEncoding.EncodeToString(raw); text != newcomerWG { // who may be held for a while after its end
				keys = append(keys, text)
			}
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// leasedKeys are those of all other hosts' leases, in a family.
func (n *node) leasedKeys(held map[string]string, f inet.Family) (keys []string) {
	for key, value := range held {
		if key == n.leaseKey() {
			continue
		}
		type data struct{ PublicKey string }
		var lease struct{ BackendData, BackendV6Data data }
		_ = json.Unmarshal([]byte(value), &lease)
		mine := lease.BackendData
		if f == inet.IPv6 && lease.BackendV6Data.PublicKey != "" {
			mine = lease.BackendV6Data
		}
		keys = append(keys, mine.PublicKey)
	}
	slices.Sort(keys)
	return keys
}

// rightPeers says which host's WireGuard devices have other peers than there are leases.
func (c *cluster) rightPeers() error {
	held := c.etcd.Keys(leases)
	for _, n := range c.hosts {
		for _, f := range n.families() {
			dev := map[inet.Family]string{inet.IPv4: byWireGuard.near, inet.IPv6: byWireGuard.six}[f]
			want := n.leasedKeys(held, f)
			if got, err := n.wgKeys(dev); err != nil || !slices.Equal(got, want) {
				return fmt.Errorf("%s of %s has the peers %v and not %v: %v", dev, n, got, want, err)
			}
		}
	}
	return nil
}

func (c *cluster) haveRightPeers() {
	c.t.Helper()
	lab.Eventually(c.t, soon, "the peers of all devices to be those of the leases", c.rightPeers)
}

// lease is what a host's lease says.
func (c *cluster) lease(n *node) string { return c.etcd.Get(n.leaseKey()).Value }

// takesKeys returns once the leases of all of hosts are others than before.
func (c *cluster) takesKeys(hosts []*node, do func(n *node)) {
	c.t.Helper()
	before := map[*node]string{}
	for _, n := range hosts {
		before[n] = c.lease(n)
	}
	for _, n := range hosts {
		do(n)
	}
	lab.Eventually(c.t, soon, "the leases to have other keys", func() error {
		for _, n := range hosts {
			if now := c.lease(n); now == before[n] {
				return fmt.Errorf("%s still says %s", n, now)
			}
		}
		return nil
	})
	c.haveRightPeers()
	time.Sleep(time.Second)
}

// gap tells of losses that are more than what a change of keys overtakes in the queues of busy processes, a
// few packets: a session that has to wait for WireGuard's timers, or queues that run over. Where all change at
// once, handshakes may cross, and are tried again before those timers.
func gap(s lab.Stats, all bool) bool { return !all && s.Lost*100 > s.Sent || s.Gap > 5*time.Second }

// A host gets another key, or all of them do at once: nobody waits for a session, and nobody keeps a
// peer of the key that was.
func TestKeyRotation(t *testing.T) {
	c := start(t, byWireGuard.of(nil), "hdss7-21", "hdss7-22", "hdss7-23")
	c.haveRightPeers()
	rotate := func(n *node) {
		out, code := runCommand(t, n.Host, "wireguard", "rotate", "--wireguard-key-file="+n.KeyFile())
		if code != 0 {
			t.Errorf("rotate on %s: exit code %d: %s", n, code, out)
		}
	}
	remove := func(n *node) {
		if err := os.Remove(n.KeyFile()); err != nil {
			t.Error(err)
		}
	}
	var report strings.Builder
	for _, step := range []struct {
		what  string
		hosts []*node
		do    func(n *node)
	}{
		{"rotated on one host", c.hosts[1:2], rotate},
		{"rotated on the one that all talk to", c.hosts[:1], rotate},
		{"removed on one host", c.hosts[2:], remove},
		{"rotated on all at once", c.hosts, rotate},
		{"removed on all at once", c.hosts, remove},
	} {
		began := time.Now()
		sum, who := c.underDensePings(c.hosts, pause(byWireGuard), func() { c.takesKeys(step.hosts, step.do) })
		fmt.Fprintf(&report, "%-36s %5.1f s  %v\n", step.what, time.Since(began).Seconds(), sum)
		if gap(sum, len(step.hosts) == len(c.hosts)) {
			t.Errorf("%s: %v", step.what, who)
		}
	}
	for _, step := range []struct{ what, backend string }{
		{"PSK", `{"Type":"wireguard","PSK":"iYxGSmQz7jEWVBkkGZeyuRnLzTKxgDCbNDHDZmuvUmE="}`},
		{"another PSK", `{"Type":"wireguard","PSK":"6Nb4Yyr5P2ZrjeIKdgFyKEgYfhP3Jg0pnYfr6Qjxo1s="}`},
		{"ListenPort", `{"Type":"wireguard","ListenPort":51900}`},
	} {
		m := byWireGuard
		m.backend = step.backend
		sum, who := c.underDensePings(c.hosts, pause(byWireGuard), func() { c.switchTo(m) })
		fmt.Fprintf(&report, "%-36s          %v\n", step.what, sum)
		for _, w := range who {
			if step.what != "ListenPort" {
				t.Errorf("%s: %s", step.what, w)
			}
		}
		c.haveRightPeers()
	}
	t.Log("\n" + report.String())
}
