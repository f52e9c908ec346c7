package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"flanneld/internal/docs"
	"flanneld/internal/lab"
)

// cniFollows has each start of flanneld write CNI's configuration, as docs/cni.md says.
func (s *systemd) cniFollows(t *testing.T) {
	s.put("../../dist/mk-cni-conf.sh", "/usr/local/flannel/mk-cni-conf.sh", 0o755)
	s.types(docs.Containing(t, "docs/cni.md", "ExecStartPost=+/usr/local/flannel/mk-cni-conf.sh"))
	s.losesNothing(t, "restart with CNI's configuration", func() {
		s.types(docs.Containing(t, "docs/cni.md", "systemctl restart flanneld"))
	})
	s.shows(docs.Containing(t, "docs/cni.md", "# grep subnet /etc/cni/net.d"))
}

// networkd starts a systemd-networkd with a file that fits flannel.1 too, after what
// docs/firewall.md says: it leaves flanneld's device and routes alone.
func (s *systemd) networkd(t *testing.T) {
	for _, name := range []string{"05-flannel.network", "90-flanneld.conf"} {
		s.put("../../dist/networkd/"+name, "/usr/local/flannel/networkd/"+name, 0o644)
	}
	s.write("/etc/systemd/network/80-office.network",
		"[Match]\nName=ens* flannel*\n\n[Network]\nAddress=10.4.7.21/24\nGateway=10.4.7.254\n", 0o644)
	s.etcd.Set(configKey, vxLAN)
	tunnelled := func() error {
		if routes := s.Run("ip", "route"); !strings.Contains(routes, "172.7.22.0/24 via 172.7.22.0 dev flannel.1 proto 77 onlink") {
			return errors.New(routes)
		}
		return nil
	}
	lab.Eventually(t, soon, "the tunnel", tunnelled)
	s.box.Reach(s.c1(), soon)
	s.losesNothing(t, "systemd-networkd", func() {
		s.types(docs.Containing(t, "docs/firewall.md", "cp networkd/90-flanneld.conf"))
		lab.Eventually(t, soon, "systemd-networkd to be done with ens33", func() error {
			link := s.sh("cat /run/systemd/netif/links/$(cat /sys/class/net/ens33/ifindex)")
			if !strings.Contains(link, "ADMIN_STATE=configured\n") {
				return errors.New(link)
			}
			return nil
		})
	})
	lab.Eventually(t, soon, "the tunnel still", tunnelled) // a peer whose lease changes is reached as before for a moment
	if got := s.Run("ip", "-4", "-brief", "address", "show", "dev", "flannel.1"); !strings.HasSuffix(strings.TrimSpace(got), " 172.7.21.0/32") {
		t.Errorf("flannel.1 is %s", got)
	}
	s.sh("systemctl stop systemd-networkd.socket systemd-networkd")
	s.etcd.Set(configKey, hostGW)
	lab.Eventually(t, soon, "plain routes again", func() error {
		if routes := s.Run("ip", "route"); !strings.Contains(routes, "172.7.22.0/24 via 10.4.7.22 dev ens33") {
			return fmt.Errorf("%s", routes)
		}
		return nil
	})
	s.box.Reach(s.c1(), soon)
}

// firewallBackend has a newer docker keep its rules in nftables from now on.
func (s *systemd) firewallBackend(t *testing.T) {
	s.put("../../build/dockerd", "/usr/local/sbin/dockerd", 0o755)
	if out, err := exec.Command("cp", "-a", "../../build/nft", s.path("/usr/local/nft")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.sh("ln -s /usr/local/nft/nft /usr/local/sbin/nft")
	s.write("/etc/docker/daemon.json", `{"storage-driver": "vfs", "features": {"time-namespaces": false}, "firewall-backend": "nftables"}`, 0o644)
	s.types(docs.Containing(t, "docs/firewall.md", "systemctl restart flanneld docker"))
	const options = "--allow-direct-routing=true --bridge-accept-fwmark=0x1000/0x1000"
	if got := s.sh("tr '\\0' ' ' </proc/$(systemctl show --value -p MainPID docker)/cmdline"); !strings.Contains(got, options) {
		t.Errorf("docker runs as %s", got)
	}
	s.box.Reach(s.c1(), 2*soon)
	s.sh("nft list table ip docker-bridges") // docker's, and in its way
}
