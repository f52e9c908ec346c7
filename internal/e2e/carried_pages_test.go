package e2e

import (
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// TestWireGuardPage does on two hosts what docs/wireguard.md says, from its beginning to its end.
func TestWireGuardPage(t *testing.T) {
	r := newReader(t)
	r.follows(docs.Blocks(t, "docs/wireguard.md"))
	// The rule that closes the way beside the tunnel is the last thing the page tells.
	eventually(t, "the lease to name a key", func() string {
		_, key, _ := strings.Cut(r.etcd.Keys("/coreos.com/network")[leases+"172.7.21.0-24"], `"PublicKey":"`)
		return key[min(len(key), 43):]
	}, `=","Port":51820}}`)
	if secret := strings.TrimSpace(r.hosts[0].read("/run/flannel/wgkey")); len(secret) != 44 ||
		strings.Contains(r.hosts[0].read("/var/log/flanneld.log"), secret) {
		t.Errorf("the key file has %d characters, or the log has the private key", len(secret))
	}
	r.reach()
}

// TestUDPPage does the same with docs/udp.md.
func TestUDPPage(t *testing.T) {
	r := newReader(t)
	r.follows(docs.Blocks(t, "docs/udp.md"))
	eventually(t, "a lease as flannel's", func() string {
		return r.etcd.Keys("/coreos.com/network")[leases+"172.7.21.0-24"]
	}, `{"PublicIP":"10.4.7.21"}`)
	r.reach()
}

// TestAllocIsRoutedByHand does what docs/configuration.md says of alloc: hosts have subnets, and
// nothing is in the kernel but what is typed.
func TestAllocIsRoutedByHand(t *testing.T) {
	r := newReader(t)
	m := r.hosts[0]
	m.types(loggedIn(docs.Containing(t, "docs/configuration.md", "\"Type\": \"alloc\"")))
	ours := func() string { return m.sh("ip route show proto 77; ip -brief link show type tun") }
	eventually(t, "no route of flanneld's", ours, "")
	m.sh(docs.Containing(t, "docs/configuration.md", "ip route replace 172.7.22.0/24 via").Text)
	r.hosts[1].sh(docs.Containing(t, "docs/configuration.md", "ip route replace 172.7.21.0/24 via").Text)
	r.reach()
	if said := ours(); said != "" {
		t.Errorf("flanneld has written\n%s", said)
	}
}

// reader has two hosts whose flanneld runs, each with a docker0 of its own, and goes by a page.
type reader struct {
	t     *testing.T
	etcd  *lab.Etcd
	hosts []*machine
}

func newReader(t *testing.T) *reader {
	t.Helper()
	t.Parallel()
	l := lab.New(t)
	r := &reader{t: t, etcd: l.EtcdOn(lab.EtcdOptions{}, l.Host("hdss7-12", "10.4.7.12/24"))}
	r.etcd.Set(configKey, hostGW)
	for _, name := range []string{"21", "22"} {
		m := newMachine(t, l.Host("hdss7-"+name, "10.4.7."+name+"/24"))
		r.hosts = append(r.hosts, m)
		m.pingIs()
		m.installCommand("FLANNELD_ETCD_ENDPOINTS=" + strings.Join(r.etcd.Endpoints(), ","))
		m.write("/run/flannel/subnet.env", m.own("FLANNEL_NETWORK=172.7.0.0/16\nFLANNEL_SUBNET=172.7.21.1/24\n"), 0o644)
		m.sh(m.own("echo 1 >/proc/sys/net/ipv4/ip_forward; ip link add docker0 up type bridge; ip addr add 172.7.21.1/24 dev docker0"))
		m.sh(". " + profile + "; flanneld --iface=ens33 </dev/null >/var/log/flanneld.log 2>&1 &")
	}
	t.Cleanup(func() { // before the machines end
		for _, m := range r.hosts {
			if t.Failed() {
				t.Logf("%s:\n%s", m, m.read("/var/log/flanneld.log"))
			}
		}
	})
	r.reach()
	return r
}

// follows plays blocks, each on the host that it names or on both, and sees after each that the
// hosts reach each other's docker0.
func (r *reader) follows(blocks []docs.Block) {
	r.t.Helper()
	for _, b := range blocks {
		if b.Notes["not run"] != "" || !b.Runs() {
			continue
		}
		for _, m := range r.hosts {
			switch on := b.Notes["on"]; {
			case b.Lang == "console" && m == r.hosts[0]:
				m.shows(b)
			case b.Lang == "sh" && (on == "" || on == m.Name):
				m.types(loggedIn(b))
			}
		}
		r.reach()
	}
}

// loggedIn has a block begin as every login does.
func loggedIn(b docs.Block) docs.Block {
	b.Text = ". " + profile + "\n" + b.Text
	return b
}

// reach waits until each host reaches the other's docker0.
func (r *reader) reach() {
	r.t.Helper()
	for i, to := range []string{"172.7.22.1", "172.7.21.1"} {
		m := r.hosts[i]
		lab.Eventually(r.t, soon, m.Name+" to reach "+to, func() error {
			_, err := m.try(m.own("ping -c 1 -W 1 -I 172.7.21.1 ") + to)
			return err
		})
	}
}
